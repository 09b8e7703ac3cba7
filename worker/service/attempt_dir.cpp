#include "worker/service/attempt_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "api/wire/messages.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/private_tmp.h"
#include "worker/supervisor/secrets_file.h"

namespace tutti::worker {
namespace {

namespace fs = std::filesystem;
using supervisor::read_file;
using supervisor::replace_file;
using supervisor::throw_errno;

void make_folder(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST) throw_errno("mkdir " + path);
}

void give(const std::string& path, uid_t uid, gid_t gid) {
  if (geteuid() == 0 && lchown(path.c_str(), uid, gid) != 0) throw_errno("chown " + path);
}

void write_for(const Account& user, const std::string& path, const std::string& text) {
  replace_file(path, text, false, 0400);
  give(path, user.uid, user.gid);
}

// To be read by the user and changed by nobody but the worker, in whose folder it lies.
void write_readable_by(const Account& user, const std::string& path, const std::string& text) {
  replace_file(path, text, false, 0440);
  if (chmod(path.c_str(), 0440) != 0) throw_errno("chmod " + path);  // whatever the umask
  give(path, geteuid(), user.gid);
}

std::string name_of(AttemptKey key) { return to_string(key.job) + "-" + to_string(key.epoch); }

std::optional<AttemptKey> key_of(const std::string& name) {
  long long job = 0, epoch = 0;
  int used = 0;
  if (std::sscanf(name.c_str(), "%lld-%lld%n", &job, &epoch, &used) != 2) return std::nullopt;
  const AttemptKey key{JobId(job), Epoch(epoch)};
  if (job <= 0 || epoch <= 0 || name != name_of(key)) return std::nullopt;
  return key;
}

}  // namespace

AttemptDirs::AttemptDirs(const Settings& settings)
    : settings_(settings), root_(settings.state_dir + "/attempts") {
  make_folder(root_, 0711);
}

std::string AttemptDirs::path(AttemptKey key) const { return root_ + "/" + name_of(key); }

bool AttemptDirs::exists(AttemptKey key) const {
  std::error_code ec;
  return fs::is_directory(path(key), ec);
}

std::vector<AttemptKey> AttemptDirs::list() const {
  std::vector<AttemptKey> keys;
  for (const auto& entry : fs::directory_iterator(root_))
    if (const auto key = key_of(entry.path().filename())) keys.push_back(*key);
  std::sort(keys.begin(), keys.end());
  return keys;
}

void AttemptDirs::create(AttemptKey key, const protocol::Prepare& prepare) {
  const auto dir = path(key);
  make_folder(dir, 0711);
  if (!prepare.secrets.empty()) supervisor::write_secrets(dir, prepare.secrets);
  auto kept = prepare;
  kept.secrets.clear();
  replace_file(dir + "/prepare.json", wire::encode(protocol::ToWorker(std::move(kept))), true, 0600);
}

void AttemptDirs::write_preparation(AttemptKey key, const Preparation& p) {
  const auto dir = path(key);
  const Account user{.name = p.config.user, .uid = p.config.uid, .gid = p.config.gid, .groups = {}};
  for (const auto* folder : {files::kProgress, files::kTmp, files::kCapture, files::kWork}) {
    make_folder(dir + "/" + folder, 0700);
    give(dir + "/" + folder, user.uid, user.gid);
  }
  if (p.container) {
    const auto own = dir + "/" + container::kFolder;
    make_folder(p.container->cache.substr(0, p.container->cache.rfind('/')), 0711);
    for (const auto& folder : {own, p.container->cache}) {
      make_folder(folder, 0700);
      give(folder, user.uid, user.gid);
    }
    write_readable_by(user, dir + "/" + container::kPlanFile, container::encode(*p.container));
  }
  write_for(user, dir + "/" + files::kHostfile, p.hostfile);
  replace_file(dir + "/supervise.json", supervisor::encode(p.config), false, 0600);
}

void AttemptDirs::write_launch(AttemptKey key, const LaunchPlan& plan, const Account& user,
                               const std::string& secret) {
  const auto dir = path(key);
  boost::json::object record;
  record["set_by_tutti"] = boost::json::array(plan.variables.begin(), plan.variables.end());
  if (!plan.network.empty()) record["network"] = plan.network;
  replace_file(dir + "/environment.json", boost::json::serialize(record), false, 0600);
  if (plan.agents.empty()) return;
  boost::json::object hosts;
  for (const auto& a : plan.agents) hosts[a.host] = {{"address", a.address}, {"port", a.port}};
  write_for(user, dir + "/" + files::kEndpoints, boost::json::serialize(hosts));
  write_for(user, dir + "/" + files::kAgentSecret, secret);
}

void AttemptDirs::write_end(const protocol::AttemptStatus& status) {
  if (!exists(status.key)) return;  // refused before it had a directory: nothing to be confused about
  replace_file(path(status.key) + "/end.json", wire::encode(protocol::FromWorker(status)), true, 0600);
}

void AttemptDirs::retire(AttemptKey key) {
  if (!exists(key)) return;
  replace_file(path(key) + "/retired", "", true);
}

bool AttemptDirs::retired(AttemptKey key) const {
  return access((path(key) + "/retired").c_str(), F_OK) == 0;
}

std::optional<protocol::Prepare> AttemptDirs::read_prepare(AttemptKey key) const {
  const auto text = read_file(path(key) + "/prepare.json", wire::kMaxMessageBytes);
  if (!text) return std::nullopt;
  auto message = wire::decode_to_worker(*text);
  if (!message) return std::nullopt;
  auto* prepare = std::get_if<protocol::Prepare>(&*message);
  if (prepare == nullptr || prepare->key != key) return std::nullopt;
  return std::move(*prepare);
}

std::optional<protocol::AttemptStatus> AttemptDirs::read_end(AttemptKey key) const {
  const auto text = read_file(path(key) + "/end.json");
  if (!text) return std::nullopt;
  auto message = wire::decode_from_worker(*text);
  if (!message) return std::nullopt;
  auto* status = std::get_if<protocol::AttemptStatus>(&*message);
  if (status == nullptr || status->key != key || !status->end) return std::nullopt;
  return std::move(*status);
}

std::optional<supervisor::Status> AttemptDirs::read_state(AttemptKey key) const {
  const auto text = read_file(path(key) + "/state.json");
  if (!text) return std::nullopt;
  try {
    return supervisor::decode_status(*text);
  } catch (const std::invalid_argument&) {
    return std::nullopt;
  }
}

std::optional<supervisor::Config> AttemptDirs::read_config(AttemptKey key) const {
  const auto text = read_file(path(key) + "/supervise.json", 16 << 20);
  if (!text) return std::nullopt;
  try {
    return supervisor::decode_config(*text);
  } catch (const std::invalid_argument&) {
    return std::nullopt;
  }
}

std::optional<Account> AttemptDirs::read_account(AttemptKey key) const {
  const auto config = read_config(key);
  if (!config) return std::nullopt;
  Account account{.name = config->user,
                  .home = config->home,
                  .shell = config->shell,
                  .uid = config->uid,
                  .gid = config->gid,
                  .groups = config->groups};
  if (account.name.empty() && settings_.job_user.uid == account.uid && !settings_.job_user.name.empty())
    return settings_.job_user;  // of an older worker, which had one account for all
  if (account.groups.empty()) account.groups = {account.gid};
  return account;
}

SecretMask AttemptDirs::read_mask(AttemptKey key) const {
  return SecretMask(supervisor::read_secrets(path(key)));
}

supervisor::Fd AttemptDirs::take_supervisor_lock(AttemptKey key) const {
  supervisor::Fd fd(
      open((path(key) + "/supervisor.lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd && flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  return {};
}

void AttemptDirs::remove(AttemptKey key) const {
  std::error_code ec;  // what cannot be removed now is tried again after the next retirement
  fs::remove_all(path(key), ec);
}

void AttemptDirs::remove_private_tmp(AttemptKey key) const {
  std::error_code ec;
  fs::remove_all(path(key) + "/" + supervisor::kPrivateTmp, ec);
}

std::vector<AttemptKey> AttemptDirs::expired() const {
  std::vector<std::pair<fs::file_time_type, AttemptKey>> kept;
  for (const auto key : list()) {
    std::error_code ec;
    const auto since = fs::last_write_time(path(key) + "/retired", ec);
    if (!ec) kept.emplace_back(since, key);
  }
  std::sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a > b; });  // newest first
  const auto oldest = fs::file_time_type::clock::now() - settings_.keep_for;
  std::vector<AttemptKey> out;
  for (std::size_t i = 0; i < kept.size(); ++i)
    if (i >= settings_.keep_attempts || kept[i].first < oldest) out.push_back(kept[i].second);
  return out;
}

}  // namespace tutti::worker
