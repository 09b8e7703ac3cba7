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

namespace tutti::worker {
namespace {

namespace fs = std::filesystem;
using supervisor::read_file;
using supervisor::replace_file;
using supervisor::throw_errno;

void make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) throw_errno("mkdir " + path);
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
  make_folder(root_);
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

void AttemptDirs::give(const std::string& path) const {
  if (geteuid() == 0 && lchown(path.c_str(), settings_.job_user.uid, settings_.job_user.gid) != 0)
    throw_errno("chown " + path);
}

void AttemptDirs::create(AttemptKey key, const protocol::Prepare& prepare) {
  const auto dir = path(key);
  make_folder(dir);
  replace_file(dir + "/prepare.json", wire::encode(protocol::ToWorker(prepare)), true, 0600);
}

void AttemptDirs::write_preparation(AttemptKey key, const Preparation& p) {
  const auto dir = path(key);
  for (const auto* folder : {files::kProgress, files::kTmp, files::kCapture, files::kWork}) {
    make_folder(dir + "/" + folder);
    give(dir + "/" + folder);
  }
  replace_file(dir + "/" + files::kHostfile, p.hostfile, false);
  replace_file(dir + "/supervise.json", supervisor::encode(p.config), false, 0600);
}

void AttemptDirs::write_launch(AttemptKey key, const LaunchPlan& plan, const std::string& secret) {
  const auto dir = path(key);
  boost::json::object record;
  record["set_by_tutti"] = boost::json::array(plan.variables.begin(), plan.variables.end());
  replace_file(dir + "/environment.json", boost::json::serialize(record), false);
  if (plan.agents.empty()) return;
  boost::json::object hosts;
  for (const auto& a : plan.agents) hosts[a.host] = {{"address", a.address}, {"port", a.port}};
  replace_file(dir + "/" + files::kEndpoints, boost::json::serialize(hosts), false);
  const auto file = dir + "/" + files::kAgentSecret;
  replace_file(file, secret, false, 0400);
  give(file);
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
