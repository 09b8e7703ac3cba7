#include "cli/backup_manifest.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value_to.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "cli/failure.h"

namespace tutti::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr int kFormat = 1;
constexpr std::size_t kMostManifest = 1 << 20;

[[noreturn]] void failed(const std::string& what, const std::string& path) {
  const int why = errno;
  throw Failure(Exit::failed, what + " " + path + ": " + std::strerror(why),
                why == ENOSPC ? "make room there, or name another place" : "");
}

class Fd {
 public:
  Fd(const std::string& path, int flags, unsigned mode = 0)
      : value_(::open(path.c_str(), flags | O_CLOEXEC, static_cast<mode_t>(mode))) {}
  ~Fd() {
    if (value_ >= 0) ::close(value_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int value() const { return value_; }

 private:
  int value_;
};

std::string hex(const unsigned char* bytes, unsigned n) {
  std::string out;
  for (unsigned i = 0; i < n; ++i) {
    constexpr const char* kDigits = "0123456789abcdef";
    out += kDigits[bytes[i] >> 4];
    out += kDigits[bytes[i] & 15];
  }
  return out;
}

// What people must fetch from elsewhere, or will not get back.
std::vector<std::string> not_in_it(const BackupManifest& m) {
  std::vector<std::string> out;
  if (!m.with_secrets)
    out.emplace_back(
        "the files secret and token of --data: copy them, or make the backup with --with-secrets");
  out.emplace_back("checkpoints and whatever else jobs write");
  out.emplace_back("logs and evidence of attempts, which lie on the nodes");
  out.emplace_back("certificates, fault tables and flags of the scheduler");
  return out;
}

template <class T>
T member(const json::object& o, const char* name) {
  return json::value_to<T>(o.at(name));
}

BackupManifest parsed(const json::object& o) {
  BackupManifest m;
  m.tutti = member<std::string>(o, "tutti_version");
  m.schema_version = member<int>(o, "schema_version");
  m.server_version = member<std::string>(o, "server_version");
  m.server_major = member<int>(o, "server_major");
  m.taken_at = member<std::string>(o, "taken_at");
  m.database = member<std::string>(o, "database");
  m.term = member<std::int64_t>(o, "term");
  m.last_job = member<std::int64_t>(o, "last_job");
  m.unfinished_jobs = member<std::int64_t>(o, "unfinished_jobs");
  m.live_attempts = member<std::int64_t>(o, "live_attempts");
  m.finished_jobs = member<std::int64_t>(o, "finished_jobs");
  m.with_secrets = member<bool>(o, "with_secrets");
  for (const auto& value : o.at("parts").as_array()) {
    const auto& part = value.as_object();
    m.parts.push_back({member<std::string>(part, "name"), member<std::uint64_t>(part, "bytes"),
                       member<std::string>(part, "sha256")});
  }
  return m;
}

}  // namespace

std::string manifest_text(const BackupManifest& m) {
  json::array parts, missing;
  for (const auto& p : m.parts)
    parts.push_back(json::object{{"name", p.name}, {"bytes", p.bytes}, {"sha256", p.sha256}});
  for (const auto& what : not_in_it(m)) missing.emplace_back(what);
  const json::object o{{"kind", "tutti-backup"},
                       {"format", kFormat},
                       {"tutti_version", m.tutti},
                       {"schema_version", m.schema_version},
                       {"server_version", m.server_version},
                       {"server_major", m.server_major},
                       {"taken_at", m.taken_at},
                       {"database", m.database},
                       {"term", m.term},
                       {"last_job", m.last_job},
                       {"unfinished_jobs", m.unfinished_jobs},
                       {"live_attempts", m.live_attempts},
                       {"finished_jobs", m.finished_jobs},
                       {"with_secrets", m.with_secrets},
                       {"parts", parts},
                       {"not_in_it", missing}};
  return json::serialize(o) + "\n";
}

BackupManifest read_manifest(const std::string& backup) {
  const std::string path = backup + "/" + kManifest;
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw Failure(
        Exit::not_found, backup + " is no backup: there is no " + path,
        "a directory that `tutti backup` has made; NAME.partial-… is one that did not come to its end");
  std::string text(kMostManifest, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  boost::system::error_code ec;
  const json::value value = json::parse(text, ec);
  const auto damaged = [&](const std::string& why) {
    return Failure(Exit::failed, path + " is damaged: " + why, "take another backup");
  };
  if (ec || !value.is_object()) throw damaged("it is not JSON");
  const auto& o = value.get_object();
  try {
    if (member<std::string>(o, "kind") != "tutti-backup") throw damaged("it is not of a backup of Tutti");
    if (const int format = member<int>(o, "format"); format != kFormat)
      throw Failure(Exit::usage,
                    "the backup has format " + std::to_string(format) + ", this program knows " +
                        std::to_string(kFormat),
                    "use the tutti that made it, or a newer one");
    BackupManifest manifest = parsed(o);
    for (const auto& p : manifest.parts)
      if (p.name != kDump && p.name != "secret" && p.name != "token") throw damaged("unknown part " + p.name);
    if (manifest.parts.empty() || manifest.parts.front().name != kDump)
      throw damaged("it names no database.dump");
    return manifest;
  } catch (const Failure&) {
    throw;
  } catch (const std::exception& e) {
    throw damaged(e.what());
  }
}

BackupPart measure_part(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  const Fd file(path, O_RDONLY);
  if (file.value() < 0) failed("cannot read", path);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> digest(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (!digest || EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) != 1)
    throw Failure(Exit::failed, "SHA-256 is not available");
  BackupPart part{.name = name, .bytes = 0, .sha256 = {}};
  std::array<char, 1 << 16> block{};
  while (const ssize_t n = ::read(file.value(), block.data(), block.size())) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) failed("cannot read", path);
    EVP_DigestUpdate(digest.get(), block.data(), static_cast<std::size_t>(n));
    part.bytes += static_cast<std::uint64_t>(n);
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
  unsigned length = 0;
  EVP_DigestFinal_ex(digest.get(), sum.data(), &length);
  part.sha256 = hex(sum.data(), length);
  return part;
}

void check_parts(const std::string& backup, const BackupManifest& manifest) {
  for (const auto& wanted : manifest.parts) {
    const BackupPart found = measure_part(backup, wanted.name);
    const std::string path = backup + "/" + wanted.name;
    if (found.bytes != wanted.bytes)
      throw Failure(Exit::failed,
                    path + " has " + std::to_string(found.bytes) + " bytes, its manifest says " +
                        std::to_string(wanted.bytes),
                    "it was cut off, or is still being copied; take another backup");
    if (found.sha256 != wanted.sha256)
      throw Failure(Exit::failed,
                    path + " is damaged: its SHA-256 is " + found.sha256.substr(0, 12) +
                        "…, its manifest says " + wanted.sha256.substr(0, 12) + "…",
                    "take another backup");
  }
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1000 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits.at(unit));
  return text.data();
}

std::string describe(const BackupManifest& m, const std::string& backup) {
  std::ostringstream out;
  std::uint64_t bytes = 0;
  for (const auto& p : m.parts) bytes += p.bytes;
  out << "backup     " << backup << ", " << bytes_text(bytes) << "\n"
      << "taken      " << m.taken_at << " of database " << m.database << ", PostgreSQL " << m.server_version
      << "\n"
      << "made by    tutti " << m.tutti << ", schema version " << m.schema_version << "\n"
      << "holds      " << m.unfinished_jobs << " unfinished jobs (" << m.live_attempts << " of them run), "
      << m.finished_jobs << " finished; the last id is " << m.last_job << ", the term " << m.term << "\n";
  for (const auto& what : not_in_it(m)) out << "not in it  " << what << "\n";
  return out.str();
}

void write_durably(const std::string& path, const std::string& text, unsigned mode) {
  const Fd file(path, O_WRONLY | O_CREAT | O_EXCL, mode);
  if (file.value() < 0) failed("cannot make", path);
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(file.value(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) failed("cannot write", path);
    done += static_cast<std::size_t>(n);
  }
  if (::fsync(file.value()) != 0) failed("cannot sync", path);
}

void copy_durably(const std::string& from, const std::string& to, unsigned mode) {
  std::ifstream in(from, std::ios::binary);
  if (!in) failed("cannot read", from);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  write_durably(to, text, mode);
}

void sync_path(const std::string& path) {
  const Fd file(path, O_RDONLY);
  if (file.value() < 0 || ::fsync(file.value()) != 0) failed("cannot sync", path);
}

void rename_durably(const std::string& from, const std::string& to) {
  if (::syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    // A file system without that flag: the look before the rename has to do.
    if (errno != EINVAL || fs::exists(to) || ::rename(from.c_str(), to.c_str()) != 0)
      failed("cannot make", to);
  }
  const std::string parent = fs::absolute(to).parent_path().string();
  sync_path(parent);
}

}  // namespace tutti::cli
