#include "cli/doctor_machine.h"

#include <curl/curl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "cli/run_program.h"

namespace tutti::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::size_t kMostRows = 256 << 10;
constexpr const char* kQuestion =
    "SELECT name || '|' || setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', "
    "'synchronous_commit', 'synchronous_standby_names', 'autovacuum', 'track_counts', 'max_connections', "
    "'server_version_num', 'shared_buffers', 'transaction_read_only', 'default_transaction_read_only') "
    "UNION ALL SELECT 'in_recovery|' || pg_is_in_recovery() "
    "UNION ALL SELECT 'connections|' || count(*) FROM pg_stat_activity "
    "UNION ALL SELECT 'size_bytes|' || pg_database_size(current_database()) "
    "UNION ALL SELECT 'oldest_transaction_seconds|' || coalesce(max(extract(epoch FROM now() - "
    "xact_start))::bigint, 0) "
    "FROM pg_stat_activity WHERE state <> 'idle' AND backend_type = 'client backend' AND pid <> "
    "pg_backend_pid()";

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string gib(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / static_cast<double>(kGiB));
  return text;
}

std::int64_t number(const std::string& text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

void look_at_room(const std::string& what, const std::string& path, std::vector<Check>& checks) {
  struct statvfs disk{};
  if (path.empty() || ::statvfs(path.c_str(), &disk) != 0) return;  // none here
  checks.push_back(judge_room(what, path, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize));
  if (auto few = judge_inodes(what, path, disk.f_favail, disk.f_files)) checks.push_back(*std::move(few));
}

Check look_at_cgroups(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  if (!fs::exists(mount + "/cgroup.controllers"))
    return {"cgroups", Finding::warn, "cgroup v2 is not mounted at " + mount,
            "workers fall back to process groups, which a process can escape; boot with "
            "systemd.unified_cgroup_hierarchy=1"};
  const std::string own = first_line(root + "/proc/self/cgroup");  // "0::/system.slice/…"
  const auto colon = own.rfind(':');
  const std::string folder = mount + (colon == own.npos ? "" : own.substr(colon + 1));
  const std::string controllers = first_line(mount + "/cgroup.controllers");
  for (const auto* needed : {"memory", "pids"})
    if (controllers.find(needed) == controllers.npos)
      return {"cgroups", Finding::warn,
              "the controller " + std::string(needed) + " is not there: " + controllers,
              "enable it on the kernel's command line"};
  if (::access(folder.c_str(), W_OK) != 0)
    return {"cgroups", Finding::warn, "v2, but " + folder + " cannot be written by this user",
            "the worker's unit needs Delegate=yes, or --cgroup-parent"};
  return {"cgroups", Finding::ok, "v2, with " + controllers, ""};
}

Check look_at_files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string text = std::to_string(limit.rlim_max) + " files may be open here";
  if (limit.rlim_max < 4096)
    return {"file limit", Finding::warn, text,
            "a scheduler needs one for each connection: LimitNOFILE=65536"};
  return {"file limit", Finding::ok, text, ""};
}

// What a machine's driver looks like without asking it: NVML itself is asked by the doctor.
Check look_at_driver(const std::string& root) {
  const std::string version = first_line(root + "/proc/driver/nvidia/version");
  if (version.empty())
    return {"gpu driver", Finding::ok, "none is loaded; only nodes with GPUs need one", ""};
  const bool devices = fs::exists(root + "/dev/nvidiactl");
  return {"gpu driver", devices ? Finding::ok : Finding::warn,
          devices ? version : version + ", but no /dev/nvidiactl",
          devices ? "" : "nvidia-modprobe, or start nvidia-persistenced"};
}

}  // namespace

Check judge_room(const std::string& what, const std::string& path, std::uint64_t free, std::uint64_t total) {
  const std::string text = path + ": " + gib(free) + " of " + gib(total) + " free";
  const bool little = free < 2 * kGiB || (total > 0 && free < total / 20);
  if (free < kGiB / 4) return {what, Finding::fail, text, "make room: nothing can be written soon"};
  return {what, little ? Finding::warn : Finding::ok, text, little ? "make room" : ""};
}

std::optional<Check> judge_inodes(const std::string& what, const std::string& path, std::uint64_t free,
                                  std::uint64_t total) {
  if (total == 0 || free >= std::min<std::uint64_t>(10'000, total / 20)) return std::nullopt;
  return Check{what, free < 100 ? Finding::fail : Finding::warn,
               path + ": " + std::to_string(free) + " of " + std::to_string(total) + " inodes free",
               "remove small files: without inodes a disk with room is full, too"};
}

std::vector<Check> examine_machine(const DoctorOptions& options, const std::string& root) {
  std::vector<Check> checks;
  look_at_room("disk", root + options.data, checks);
  look_at_room("disk", root + options.state_dir, checks);
  look_at_room("disk", root + "/tmp", checks);
  checks.push_back(look_at_cgroups(root));
  checks.push_back(look_at_files());
  checks.push_back(look_at_driver(root));
  return checks;
}

// ---------------------------------------------------------------- PostgreSQL

bool has_password(const std::string& text) {
  if (text.find("password") != text.npos) return true;
  const auto scheme = text.find("://");
  if (scheme == text.npos) return false;
  const auto host = text.find('@', scheme), colon = text.find(':', scheme + 3);
  return host != text.npos && colon != text.npos && colon < host;
}

std::vector<Check> judge_database(const std::string& rows) {
  std::map<std::string, std::string> is;
  std::istringstream in(rows);
  for (std::string line; std::getline(in, line);)
    if (const auto bar = line.find('|'); bar != line.npos) is[line.substr(0, bar)] = line.substr(bar + 1);
  std::vector<Check> checks;
  const auto say = [&](Finding finding, std::string text, std::string way_out = {}) {
    checks.push_back({"database", finding, std::move(text), std::move(way_out)});
  };
  const auto version = number(is["server_version_num"]);
  if (version < 150'000)
    say(Finding::fail, "PostgreSQL " + is["server_version_num"] + " is too old", "15 or newer is needed");
  for (const auto* name : {"fsync", "full_page_writes"})
    if (is[name] != "on")
      say(Finding::fail, std::string(name) + " is " + is[name] + ": a crash of the machine loses jobs",
          "turn it on");
  if (const auto& commit = is["synchronous_commit"]; commit == "off")
    say(Finding::fail, "synchronous_commit is off: what was answered may be lost",
        "on, or remote_apply with standbys");
  else if (commit == "local" && !is["synchronous_standby_names"].empty())
    say(Finding::warn, "synchronous_commit is local: a failover may lose what was answered", "on");
  for (const auto* name : {"autovacuum", "track_counts"})
    if (is[name] != "on")
      say(Finding::fail, std::string(name) + " is " + is[name] + ": tables grow without end", "turn it on");
  const auto most = number(is["max_connections"]), used = number(is["connections"]);
  if (most < 50)
    say(Finding::warn, "max_connections is " + std::to_string(most),
        "a scheduler uses about a dozen; several need 50");
  else if (used * 10 > most * 8)
    say(Finding::warn, std::to_string(used) + " of " + std::to_string(most) + " connections are used",
        "who else uses this server? raise max_connections");
  if (is["in_recovery"] == "true" || is["in_recovery"] == "t")
    say(Finding::warn, "this is a standby: nothing can be written here",
        "target_session_attrs=read-write in --db");
  if (const auto age = number(is["oldest_transaction_seconds"]); age > 600)
    say(Finding::warn,
        "a transaction is open since " + std::to_string(age / 60) + " minutes: tables cannot be cleaned",
        "SELECT pid, query FROM pg_stat_activity ORDER BY xact_start");
  if (checks.empty())
    say(Finding::ok, "PostgreSQL " + std::to_string(version / 10'000) + ", " +
                         gib(static_cast<std::uint64_t>(number(is["size_bytes"]))) + ", " +
                         std::to_string(used) + " of " + std::to_string(most) +
                         " connections; settings are safe");
  return checks;
}

std::vector<Check> examine_database(const std::string& db, std::chrono::milliseconds timeout) {
  if (has_password(db))
    return {{"database", Finding::fail,
             "the connection string holds a password, which others could read here",
             "leave it out: ~/.pgpass, PGPASSWORD or PGPASSFILE"}};
  const auto got =
      run_program({"psql", "-X", "-w", "-A", "-t", "-d", db, "-c", kQuestion}, timeout, kMostRows, true);
  if (!got.found)
    return {{"database", Finding::warn, "not looked at: there is no psql here", "install postgresql-client"}};
  if (!got.ended)
    return {{"database", Finding::fail, "no answer within " + std::to_string(timeout.count()) + " ms",
             "is it up?"}};
  if (got.status != 0)
    return {{"database", Finding::fail, got.output.substr(0, got.output.find('\n')),
             "is it up, and is --db right?"}};
  return judge_database(got.output);
}

// ---------------------------------------------------------------- TLS

std::optional<double> certificate_days(const std::string& url, const std::string& ca,
                                       std::chrono::milliseconds timeout) {
  CURL* curl = curl_easy_init();
  if (curl == nullptr) return std::nullopt;
  curl_easy_setopt(curl, CURLOPT_URL, (url + "/healthz").c_str());
  curl_easy_setopt(curl, CURLOPT_CERTINFO, 1L);
  curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  if (!ca.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, ca.c_str());
  std::optional<double> days;
  curl_certinfo* chain = nullptr;
  if (curl_easy_perform(curl) == CURLE_OK && curl_easy_getinfo(curl, CURLINFO_CERTINFO, &chain) == CURLE_OK &&
      chain != nullptr && chain->num_of_certs > 0)
    for (const curl_slist* line = chain->certinfo[0]; line != nullptr; line = line->next) {
      const std::string text = line->data;
      if (!text.starts_with("Expire date:")) continue;
      const time_t at = curl_getdate(text.c_str() + 12, nullptr);
      if (at > 0) days = std::difftime(at, std::time(nullptr)) / 86'400;
    }
  curl_easy_cleanup(curl);
  return days;
}

}  // namespace tutti::cli
