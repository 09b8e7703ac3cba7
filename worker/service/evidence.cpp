#include "worker/service/evidence.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <ctime>
#include <filesystem>

#include "api/wire/job_spec_codec.h"
#include "api/wire/tar_gz.h"
#include "api/wire/utf8.h"
#include "worker/service/job_files.h"
#include "worker/service/machine.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::size_t kMaxFiles = 4096;             // of one folder
constexpr auto kLiveFor = std::chrono::seconds(5);  // a part of a living attempt is made anew after that
constexpr std::string_view kNothing = "there is no evidence of ";

std::string name_of(AttemptKey key) { return to_string(key.job) + "-" + to_string(key.epoch); }

json::value failure_json(const std::optional<protocol::Failure>& f) {
  if (!f) return nullptr;
  return json::object{
      {"kind", f->kind},       {"rank", f->rank},     {"exit_code", f->exit_code},  {"signal", f->signal},
      {"boot_us", f->boot_us}, {"detail", f->detail}, {"last_lines", f->last_lines}};
}

class Part {
 public:
  Part(std::string dir, std::string prefix, uid_t owner, const Redactor& redactor, std::size_t reach,
       const EvidenceBounds& bounds)
      : dir_(std::move(dir)),
        prefix_(std::move(prefix)),
        owner_(owner),
        redactor_(redactor),
        reach_(reach),
        bounds_(bounds) {}

  // `before`: so many bytes stand before what is wanted, so that a secret is known of which the end is in it.
  void add(const std::string& name, std::string_view bytes, std::int64_t changed, std::size_t before = 0) {
    const std::string clean =
        wire::is_utf8(bytes) ? redactor_.text(bytes, before) : redactor_.binary(bytes, before);
    if (used_ + clean.size() > bounds_.part || !tar_.add(prefix_ + name, clean, changed)) {
      leave_out(name, "the bundle's bound");
      return;
    }
    used_ += clean.size();
  }
  // The end of a file that the job's user (or we) wrote.
  void add_file(const std::string& name, std::size_t most, std::optional<uid_t> owner) {
    const std::string path = dir_ + "/" + name;
    const auto file = owner ? supervisor::open_regular_of(*owner, path) : supervisor::open_regular(path);
    if (!file) return;
    const auto size = static_cast<std::size_t>(std::max<off_t>(file->info.st_size, 0));
    const auto wanted = std::min(size, most), before = std::min(size - wanted, reach_);
    std::string bytes(before + wanted, '\0');
    const auto n = pread(file->fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(size - bytes.size()));
    bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    if (wanted < size) leave_out(name, "all but its last " + std::to_string(wanted) + " bytes");
    add(name, bytes, file->info.st_mtim.tv_sec, std::min(before, bytes.size()));
  }
  // Regular files in it and one level below, in order of their names.
  void add_folder(const std::string& folder, std::optional<uid_t> owner, int depth = 1) {
    std::error_code ec;
    std::vector<std::string> names;
    std::vector<std::string> folders;
    for (auto it = fs::directory_iterator(dir_ + "/" + folder, ec); !ec && it != fs::directory_iterator();
         it.increment(ec)) {
      if (names.size() + folders.size() >= kMaxFiles) break;
      const auto status = it->symlink_status(ec);
      if (ec) break;
      if (fs::is_regular_file(status)) names.push_back(folder + "/" + it->path().filename().string());
      if (fs::is_directory(status)) folders.push_back(folder + "/" + it->path().filename().string());
    }
    std::ranges::sort(names);
    std::ranges::sort(folders);
    for (const auto& name : names) add_file(name, bounds_.file, owner);
    if (depth > 0)
      for (const auto& f : folders) add_folder(f, owner, depth - 1);
  }
  void leave_out(const std::string& name, const std::string& why) {
    if (left_out_.size() < 1000)
      left_out_.push_back(json::object{{"file", wire::to_utf8(name)}, {"left_out", why}});
  }
  uid_t owner() const { return owner_; }
  const json::array& left_out() const { return left_out_; }
  std::string finish() { return tar_.finish(); }
  // Beside what is bounded: what the bounds left out.
  void add_last(const std::string& name, const std::string& text) {
    tar_.add(prefix_ + name, redactor_.text(text), std::time(nullptr));
  }

 private:
  const std::string dir_, prefix_;
  const uid_t owner_;
  const Redactor& redactor_;
  const std::size_t reach_;  // of its secrets
  const EvidenceBounds& bounds_;
  wire::TarGz tar_;
  std::size_t used_ = 0;
  json::array left_out_;
};

void add_logs(Part& part, const protocol::Prepare& prepare, const EvidenceBounds& bounds,
              const std::optional<protocol::Failure>& failure) {
  const auto& node = prepare.gang[static_cast<std::size_t>(prepare.index)];
  const auto log = [&](std::int32_t rank) { part.add_file(log_name(rank), bounds.log_tail, part.owner()); };
  if (failure && failure->rank >= 0) log(failure->rank);  // first, whatever the bound leaves of the others
  for (std::int32_t r = node.first_rank; r < node.first_rank + node.ranks; ++r)
    if (!failure || r != failure->rank) log(r);
  log(kLauncherLog);
  log(kSetupLog);
}

json::array ranks_json(const std::optional<supervisor::Status>& state) {
  json::array ranks;
  if (state)
    for (const auto& r : state->ranks)
      ranks.push_back(
          json::object{{"rank", r.rank},
                       {"pid", r.pid},
                       {"exit_code", r.ended ? json::value(r.exit_code) : json::value(nullptr)},
                       {"signal", r.ended ? json::value(r.signal) : json::value(nullptr)},
                       {"ended_boot_us", r.ended ? json::value(r.ended_boot_us) : json::value(nullptr)}});
  return ranks;
}

}  // namespace

EvidenceStore::EvidenceStore(const Settings& settings, const AttemptDirs& dirs, EvidenceBounds bounds)
    : settings_(settings), dirs_(dirs), bounds_(bounds), root_(settings.state_dir + "/evidence") {
  if (mkdir(root_.c_str(), 0700) != 0 && errno != EEXIST) supervisor::throw_errno("mkdir " + root_);
}

std::string EvidenceStore::sealed_path(AttemptKey key) const {
  return root_ + "/" + name_of(key) + ".tar.gz";
}

void EvidenceStore::write(AttemptKey key, const std::string& path) {
  const auto prepare = dirs_.read_prepare(key);
  if (!prepare || prepare->index < 0 || static_cast<std::size_t>(prepare->index) >= prepare->gang.size())
    throw std::runtime_error(std::string(kNothing) + name_of(key) + ": its directory cannot be read");
  std::map<std::string, std::string> env;
  if (const auto parsed = wire::parse_spec_json(prepare->spec_json, read_clocks()); parsed.ok())
    env = parsed.spec.env;
  auto mask = dirs_.read_mask(key);  // a bundle that might show secrets is not made
  const auto reach = mask.reach();
  const Redactor redactor(env, {prepare->secret, settings_.token}, std::move(mask));
  const auto user = dirs_.read_account(key);
  const uid_t owner = user ? user->uid : static_cast<uid_t>(-1);
  const auto state = dirs_.read_state(key);
  const auto end = dirs_.read_end(key);
  const auto failure = end && end->failure ? end->failure : state ? state->failure : std::nullopt;
  const auto& gang_node = prepare->gang[static_cast<std::size_t>(prepare->index)];

  Part part(dirs_.path(key), "nodes/" + gang_node.node + "/", owner, redactor, reach, bounds_);
  json::object node{{"node", gang_node.node},
                    {"job", key.job.value},
                    {"epoch", key.epoch.value},
                    {"attempt", prepare->attempt},
                    {"boot_id", settings_.boot_id},
                    {"first_rank", gang_node.first_rank},
                    {"ranks", ranks_json(state)},
                    {"phase", protocol::name(end     ? protocol::Phase::ended
                                             : state ? state->phase
                                                     : protocol::Phase::preparing)},
                    {"first_failure", failure_json(failure)},
                    {"gpus", json::array(prepare->gpu_uuids.begin(), prepare->gpu_uuids.end())}};
  if (end && end->end)
    node["end"] = json::object{{"ok", end->end->ok},
                               {"proven", end->end->proven},
                               {"how", end->end->how},
                               {"boot_us", end->end->boot_us}};
  part.add("node.json", json::serialize(node) + "\n", std::time(nullptr));
  add_logs(part, *prepare, bounds_, failure);
  part.add_folder("evidence", std::nullopt);
  part.add_folder("capture", owner);
  for (const char* name : {"supervisor.log", "environment.json"})
    part.add_file(name, bounds_.log_tail, std::nullopt);
  part.add_file("hostfile", bounds_.log_tail, owner);
  if (!part.left_out().empty()) part.add_last("left_out.json", json::serialize(part.left_out()) + "\n");
  supervisor::replace_file(path, part.finish(), false, 0600);
}

void EvidenceStore::seal(AttemptKey key) {
  const std::lock_guard lock(one_writer_);
  try {
    if (!dirs_.exists(key)) return;
    write(key, sealed_path(key));
    prune();
  } catch (const std::exception& e) {  // a full disk: the directory still has most of it
    spdlog::warn("evidence of {}: {}", name_of(key), e.what());
  }
}

void EvidenceStore::prune() {
  struct Sealed {
    fs::file_time_type at;
    std::uintmax_t size;
    fs::path path;
  };
  std::vector<Sealed> all;
  std::error_code ec;
  for (auto it = fs::directory_iterator(root_, ec); !ec && it != fs::directory_iterator(); it.increment(ec)) {
    std::error_code gone;
    const Sealed one{it->last_write_time(gone), it->file_size(gone), it->path()};
    if (!gone) all.push_back(one);
  }
  std::ranges::sort(all, std::greater{}, &Sealed::at);
  std::uintmax_t sum = 0;
  for (const auto& one : all)
    if ((sum += one.size) > bounds_.total) fs::remove(one.path, ec);
}

protocol::LogChunk EvidenceStore::read(const protocol::ReadLog& request) {
  protocol::LogChunk chunk;
  chunk.request = request.request;
  chunk.end = true;
  const auto key = request.key;
  try {
    std::string path = sealed_path(key);
    if (access(path.c_str(), F_OK) != 0) {
      if (!dirs_.exists(key))
        throw std::runtime_error(std::string(kNothing) + "job " + to_string(key.job) + " epoch " +
                                 to_string(key.epoch) + " on node " + settings_.node);
      const bool over = dirs_.retired(key);
      if (!over) path = root_ + "/" + name_of(key) + ".live.tar.gz";
      const std::lock_guard lock(one_writer_);
      std::error_code ec;
      const auto made = fs::last_write_time(path, ec);
      const bool old = ec || (!over && fs::file_time_type::clock::now() - made > kLiveFor);
      if (ec || (old && request.offset == 0)) write(key, path);
    }
    const supervisor::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info{};
    if (!fd || fstat(fd.get(), &info) != 0) supervisor::throw_errno("open " + path);
    std::string bytes(static_cast<std::size_t>(std::clamp(request.max_bytes, 1, kMaxLogRead)), '\0');
    const auto offset = std::clamp<std::int64_t>(request.offset, 0, info.st_size);
    const auto n = pread(fd.get(), bytes.data(), bytes.size(), offset);
    bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    chunk.data = wire::to_base64(bytes);
    chunk.next_offset = offset + static_cast<std::int64_t>(bytes.size());
    chunk.end = chunk.next_offset >= info.st_size;
    chunk.stamp = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec;
  } catch (const std::exception& e) {
    chunk.error = e.what();
  }
  return chunk;
}

}  // namespace tutti::worker
