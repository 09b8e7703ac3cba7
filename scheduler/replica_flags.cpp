#include "scheduler/replica_flags.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "api/access/forward_mark.h"
#include "scheduler/http_flags.h"
#include "scheduler/service/leader.h"
#include "scheduler/service/local_files.h"

namespace tutti {
namespace {

constexpr int kLockTries = 50;
constexpr std::chrono::milliseconds kLockPause{100};
constexpr std::chrono::milliseconds kLeastFrozen{6000};  // a leader speaks every second

std::string host_name() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return host;
}

// machine-id(5); empty where there is none.
std::string machine_id() {
  std::ifstream in("/etc/machine-id");
  std::string id;
  std::getline(in, id);
  return id.substr(0, 32);
}

// A copy of --data is another directory, and that of a cloned machine is on another machine: a process that
// starts there knows nothing of the one that it was copied from, and must not say that it is dead.
std::string instance_of(const std::filesystem::path& data) {
  const std::string path = (data / "instance").string();
  const std::string name = load_or_make_secret(path).substr(0, 16);
  struct stat file{};
  if (::stat(path.c_str(), &file) != 0) throw std::runtime_error(path + ": " + std::strerror(errno));
  return name + "-" + std::to_string(file.st_ino) + "-" + host_name() + "-" + machine_id();
}

// Where others reach us: an address that means every one of ours is none for them.
std::string default_url(http::ServerConfig config, std::uint16_t port) {
  if (config.address == "0.0.0.0" || config.address == "::") config.address = host_name();
  return local_url(config, port);
}

}  // namespace

void add_replica_flags(CLI::App& app, ReplicaFlags& f) {
  app.add_option("--advertise", f.advertise,
                 "URL where other schedulers and workers reach this one while it leads, like "
                 "http://sched-1.example:7070; default: from --listen, with this host's name for 0.0.0.0");
  app.add_option("--replica-ca", f.ca_file,
                 "PEM: who vouches for a leader that serves https, when requests are handed to it; default: "
                 "whom this machine trusts")
      ->check(CLI::ExistingFile);
  app.add_option(
         "--renew-without-store", f.renew_minutes,
         "minutes for which a leader goes on renewing leases while it cannot ask the database whether "
         "it leads; after a take-over the next leader waits as long before it gives up nodes that do "
         "not come to it, unless the one before is known to be over")
      ->check(CLI::Range(0.1, 60.0 * 24 * 7))
      ->capture_default_str();
}

DataLock::DataLock(const std::filesystem::path& data) {
  const std::string path = (data / "lock").string();
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd_ < 0) throw std::runtime_error(path + ": " + std::strerror(errno));
  for (int tries = 1; ::flock(fd_, LOCK_EX | LOCK_NB) != 0; ++tries) {
    const int why = errno;
    if (why == EWOULDBLOCK && tries < kLockTries) {
      std::this_thread::sleep_for(kLockPause);  // at the start, before anything else
      continue;
    }
    ::close(fd_);
    throw std::runtime_error(why == EWOULDBLOCK
                                 ? "--data " + data.string() + " is in use by another tutti-scheduler"
                                 : path + ": cannot be locked: " + std::strerror(why));
  }
}
DataLock::~DataLock() { ::close(fd_); }

std::string advertised_url(const ReplicaFlags& flags, const http::ServerConfig& config, std::uint16_t port) {
  std::string url = flags.advertise.empty() ? default_url(config, port) : flags.advertise;
  while (url.ends_with('/')) url.pop_back();
  const auto scheme = url.find("://");
  if ((!url.starts_with("http://") && !url.starts_with("https://")) ||
      url.find_first_of("/?# \t\r\n", scheme + 3) != std::string::npos || url.size() == scheme + 3)
    throw std::runtime_error("--advertise " + flags.advertise +
                             ": must be http://HOST:PORT or https://HOST:PORT");
  // Workers follow it, and take no port for granted.
  const auto host = url.substr(scheme + 3);
  const auto colon = host.rfind(':');
  if (colon == std::string::npos || colon + 1 == host.size() ||
      host.find_first_not_of("0123456789", colon + 1) != std::string::npos)
    throw std::runtime_error("--advertise " + flags.advertise + ": name the port, like " + url + ":7070");
  return url;
}

LeaderCard leader_card(const ReplicaFlags& flags, const http::ServerConfig& config, std::uint16_t port,
                       const std::filesystem::path& data, const ReplicaSecrets& secrets) {
  LeaderCard card;
  card.url = advertised_url(flags, config, port);
  card.instance = instance_of(data);
  card.key_print = key_print(secrets.key, secrets.token);
  card.renews_for = from_seconds(flags.renew_minutes * 60);
  return card;
}

LeaderProxy::Leading leading(const Leader& leader, const std::string& own_url) {
  if (leader.leads()) return {.ours = true};
  const LeaderView* seen = leader.seen();
  const bool somebody = seen != nullptr && seen->term && !seen->over && seen->url != own_url;
  if (!somebody) return {};
  return {.ours = false, .url = seen->url, .holder = seen->holder};
}

std::chrono::milliseconds frozen_after(Duration lease) {
  return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(lease), kLeastFrozen);
}

}  // namespace tutti
