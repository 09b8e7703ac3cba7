#include "db/memory/memory_secrets.h"

#include "scheduler/model/job_spec.h"

namespace tutti::db {

std::int64_t MemorySecrets::put(const std::string& project, const std::string& name,
                                const SealedSecret& value, const std::string& by, Instant at) {
  constexpr std::size_t kNonce = 24;
  if (project.empty() || !why_no_secret_name(name).empty() || value.nonce.size() != kNonce)
    throw StoreError(StoreError::conflict, "this is no secret");
  auto& [row, sealed] = rows_[{project, name}];
  row = {project, name, row.version + 1, by, at};
  sealed = value;
  return row.version;
}

bool MemorySecrets::remove(const std::string& project, const std::string& name) {
  return rows_.erase({project, name}) > 0;
}

std::vector<SecretRow> MemorySecrets::list(const std::string& project) {
  std::vector<SecretRow> out;
  for (const auto& [key, row] : rows_)
    if (project.empty() || key.first == project) out.push_back(row.first);
  return out;
}

std::map<std::string, SealedSecret> MemorySecrets::fetch(const std::string& project,
                                                         const std::vector<std::string>& names) {
  std::map<std::string, SealedSecret> out;
  for (const auto& name : names)
    if (const auto at = rows_.find({project, name}); at != rows_.end()) out[name] = at->second.second;
  return out;
}

}  // namespace tutti::db
