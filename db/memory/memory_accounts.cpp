#include "db/memory/memory_accounts.h"

#include <algorithm>
#include <set>

namespace tutti::db {
namespace {

template <class Row>
std::vector<Row> values(const std::map<std::string, Row>& rows) {
  std::vector<Row> out;
  for (const auto& [key, row] : rows) out.push_back(row);
  return out;
}

}  // namespace

void MemoryAccounts::check() const {
  if (!reachable_) throw StoreError(StoreError::unavailable, "the accounts cannot be reached");
}

std::int64_t MemoryAccounts::revision() {
  check();
  return revision_;
}

AccountSnapshot MemoryAccounts::load() {
  check();
  return {revision_, values(users_), values(tokens_), values(sessions_), values(joins_), values(nodes_)};
}

void MemoryAccounts::commit(const AccountBatch& batch, std::int64_t expected) {
  check();
  if (batch.changes() && expected != revision_)
    throw StoreError(StoreError::conflict, "the accounts were changed by somebody else");
  for (const auto& row : batch.sessions)
    if (!users_.contains(row.user) &&
        std::ranges::find(batch.users, row.user, &UserRow::name) == batch.users.end())
      throw StoreError(StoreError::conflict, "a session of nobody");
  if (batch.changes()) ++revision_;
  for (const auto& row : batch.users) users_[row.name] = row;
  for (const auto& row : batch.tokens) {
    auto& slot = tokens_[row.id];
    const auto used = slot.last_used_at;
    const auto from = slot.last_used_from;
    slot = row;
    slot.last_used_at = used;
    slot.last_used_from = from;
  }
  for (const auto& row : batch.sessions) sessions_[row.id] = row;
  for (const auto& row : batch.join_tokens) joins_[row.id] = row;
  for (const auto& row : batch.nodes) nodes_[row.id] = row;
  for (const auto& name : batch.removed_users) {
    users_.erase(name);
    std::erase_if(sessions_, [&](const auto& s) { return s.second.user == name; });
  }
  for (const auto& id : batch.removed_sessions) sessions_.erase(id);
  for (const auto& id : batch.removed_join_tokens) joins_.erase(id);
  for (const auto& used : batch.used_tokens)
    if (const auto at = tokens_.find(used.id);
        at != tokens_.end() && (!at->second.last_used_at || *at->second.last_used_at < *used.last_used_at)) {
      at->second.last_used_at = used.last_used_at;
      at->second.last_used_from = used.last_used_from;
    }
  for (const auto& seen : batch.seen_sessions)
    if (const auto at = sessions_.find(seen.id); at != sessions_.end())
      at->second.seen_at = std::max(at->second.seen_at, seen.seen_at);
  for (auto row : batch.audit) {
    row.id = ++last_audit_;
    audit_.push_back(std::move(row));
  }
}

std::vector<AuditRow> MemoryAccounts::audit(const AuditFilter& filter, int limit, std::int64_t before) {
  check();
  std::vector<AuditRow> out;
  for (auto row = audit_.rbegin(); row != audit_.rend() && static_cast<int>(out.size()) < limit; ++row) {
    if (before != 0 && row->id >= before) continue;
    if (!filter.who.empty() && row->who != filter.who) continue;
    if (!filter.action.empty() && row->action != filter.action) continue;
    if (!filter.target.empty() && row->target != filter.target) continue;
    if (filter.since && row->at < *filter.since) continue;
    out.push_back(*row);
  }
  return out;
}

bool MemoryAccounts::forget_audit(Instant before, int most) {
  check();
  std::vector<std::pair<Instant, std::int64_t>> old;
  for (const auto& row : audit_)
    if (row.at < before) old.emplace_back(row.at, row.id);
  std::ranges::sort(old);
  if (std::ssize(old) > most) old.resize(static_cast<std::size_t>(most));
  std::set<std::int64_t> gone;
  for (const auto& [when, id] : old) gone.insert(id);
  std::erase_if(audit_, [&](const AuditRow& row) { return gone.contains(row.id); });
  return std::ssize(old) == most;
}

}  // namespace tutti::db
