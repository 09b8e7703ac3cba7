#include "worker/service/node_watch.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "worker/node/sysfs.h"
#include "worker/service/machine.h"

namespace tutti::worker {

namespace asio = boost::asio;

namespace {

constexpr std::int64_t kStalledUs = 5'000'000;
constexpr std::uint64_t kLeastShm = 16ULL << 20;
constexpr rlim_t kLeastFiles = 1024;
constexpr rlim_t kLeastLocked = 64UL << 20;  // what InfiniBand pins at least

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

protocol::CheckResult result(std::string name, std::string owner, std::string why) {
  protocol::CheckResult c;
  c.name = std::move(name);
  c.owner = std::move(owner);
  c.result = why.empty() ? "ok" : "failed";
  c.detail = std::move(why);
  return c;
}

}  // namespace

NodeWatch::NodeWatch(asio::io_context& io, const Settings& settings, std::optional<std::uint64_t> log_read,
                     Events events)
    : io_(io),
      settings_(settings),
      events_(std::move(events)),
      paths_(io, settings.node_check),
      kernel_(to_boot_us(read_clocks()), log_read),
      look_timer_(io),
      disk_timer_(io) {}

NodeWatch::~NodeWatch() {
  *alive_ = false;
  kernel_log_.reset();
  sysfs_.stop();
}

void NodeWatch::start() {
  if (!settings_.kernel_log.empty()) start_kernel_log();
  look();
  look_at_disks();
}

// It holds as long as one look finds it: each look ends only what it has begun.
void NodeWatch::set(bool holds, const std::string& kind, const std::string& subject,
                    const std::string& detail, const std::string& look) {
  if (holds) {
    holding_[{kind, subject}].insert(look);
    events_.on_condition(kind, subject, detail);
    return;
  }
  const auto found = holding_.find({kind, subject});
  if (found == holding_.end() || found->second.erase(look) == 0 || !found->second.empty()) return;
  holding_.erase(found);
  events_.on_over(kind, subject);
}

// ---------------------------------------------------------------- kernel log

void NodeWatch::start_kernel_log() {
  const auto tell = [this, alive = alive_](auto what) {
    asio::post(io_, [alive, what = std::move(what)]() mutable {
      if (*alive) what();
    });
  };
  const auto come = [this, tell](bool there_is_something) {
    if (there_is_something) tell([this] { hear_kernel(); });
  };
  node::KernelReader::Events events;
  events.on_record = [this, come](const node::KernelRecord& record, bool live) {
    come(kernel_.add(record, live));
  };
  events.on_loss = [this, come](std::uint64_t records) {
    come(kernel_.add_loss(records, to_boot_us(read_clocks())));
  };
  events.on_state = [this, tell](std::string why) {
    tell([this, why = std::move(why)] {
      if (!why.empty())
        spdlog::warn(
            "the kernel log cannot be read, so Xids come from NVML alone: {}; give the worker CAP_SYSLOG or "
            "another --kernel-log",
            why);
      set(!why.empty(), "kernel_log_unreadable", "", why);
    });
  };
  kernel_log_ = std::make_unique<node::KernelReader>(settings_.kernel_log, std::move(events));
}

void NodeWatch::hear_kernel() {
  const auto news = kernel_.take();
  if (news.some_lost || news.lost_records > 0)
    events_.on_incident("kernel_log_lost",
                        (news.lost_records == 0 ? "some" : std::to_string(news.lost_records)) +
                            " records of the kernel log were overwritten before they were read");
  for (const auto& f : news.findings) events_.on_finding(f);
  if (news.dropped > 0)
    events_.on_incident("kernel_log_lost", std::to_string(news.dropped) +
                                               " errors in the kernel log came too fast and were not told");
  if (news.told_up_to) events_.on_log_read(*news.told_up_to);
}

std::string NodeWatch::kernel_slice(std::int64_t from_boot_us, std::int64_t until_boot_us) const {
  return kernel_.slice(from_boot_us, until_boot_us);
}

// ---------------------------------------------------------------- links, memory

std::vector<std::string> NodeWatch::interfaces() const {
  std::vector<std::string> out = settings_.interfaces;
  if (const auto own = find_interface(settings_.address); own && own->name != "lo") out.push_back(own->name);
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

void NodeWatch::look() {
  look_timer_.expires_after(settings_.links_every);
  look_timer_.async_wait([this](boost::system::error_code ec) {
    if (!ec) look();
  });
  hear_kernel();  // how far the log has been read, though it says nothing
  const auto now = to_boot_us(read_clocks());
  if (looking_) {
    set(now - looking_since_us_ > kStalledUs, "checks_stalled", "",
        "reading " + settings_.sysfs + " and /proc has not come back for 5 s");
    return;
  }
  looking_ = true;
  looking_since_us_ = now;
  asio::post(sysfs_, [this, alive = alive_, &io = io_, root = settings_.sysfs, wanted = interfaces()] {
    Looked looked;
    if (!root.empty()) looked.links = node::read_links(root, wanted);
    looked.memory = node::parse_meminfo(read_text("/proc/meminfo"));
    asio::post(io, [this, alive, looked = std::move(looked)] {
      if (*alive) on_looked(looked);
    });
  });
}

void NodeWatch::on_looked(const Looked& looked) {
  looking_ = false;
  set(false, "checks_stalled", "", "");
  last_links_ = looked.links;
  for (const auto& f : links_.on_sample(to_boot_us(read_clocks()), looked.links)) {
    if (f.kind == "link_flap")
      events_.on_incident(f.kind, f.detail);
    else
      set(f.holds, f.kind, f.link, f.detail);
  }
  if (!looked.memory) return;
  const auto why = node::why_memory_low(*looked.memory, said("memory_low", ""));
  set(!why.empty(), "memory_low", "", why);
}

// ---------------------------------------------------------------- disks and file systems

std::vector<std::string> NodeWatch::disks() const {
  std::vector<std::string> out = {settings_.state_dir, "/tmp"};
  out.insert(out.end(), settings_.disks.begin(), settings_.disks.end());
  return out;
}

void NodeWatch::look_at_disks() {
  disk_timer_.expires_after(settings_.disks_every);
  disk_timer_.async_wait([this](boost::system::error_code ec) {
    if (!ec) look_at_disks();
  });
  for (const auto& path : disks())
    paths_.run({"space", path}, settings_.check_deadline, [this, alive = alive_, path](const auto& answer) {
      if (*alive) on_space(path, answer);
    });
  for (const auto& path : settings_.check_paths)
    paths_.run({"file", path}, settings_.check_deadline, [this, alive = alive_, path](const auto& answer) {
      if (*alive) on_file(path, answer);
    });
}

void NodeWatch::on_space(const std::string& path, const PathChecks::Answer& answer) {
  set(answer.hangs, "filesystem_hang", path, answer.text, "space");
  const auto space = answer.ok ? node::parse_space(answer.text) : std::nullopt;
  if (!space) {
    if (!answer.hangs) set(true, "disk_read_only", path, answer.text, "space");
    return;
  }
  const auto full = node::why_full(*space, said("disk_full", path));
  const auto files = node::why_no_files(*space, said("inodes_full", path));
  set(!full.empty(), "disk_full", path, full);
  set(!files.empty(), "inodes_full", path, files);
  set(space->read_only, "disk_read_only", path, "the file system is mounted read-only", "space");
}

void NodeWatch::on_file(const std::string& path, const PathChecks::Answer& answer) {
  set(answer.hangs, "filesystem_hang", path, "writing and reading a file there: " + answer.text, "file");
  if (!answer.hangs) set(!answer.ok, "disk_read_only", path, answer.text, "file");
}

// ---------------------------------------------------------------- gate, inspection

protocol::CheckResult NodeWatch::judge(const Wanted& wanted, const PathChecks::Answer& answer) const {
  auto c = result(wanted.name, wanted.owner, answer.ok ? "" : answer.text);
  c.limit_us = std::chrono::duration_cast<std::chrono::microseconds>(settings_.check_deadline).count();
  c.took_us = answer.took.count();
  if (!answer.ok || wanted.words.front() != "space") return c;
  const auto space = node::parse_space(answer.text);
  if (!space) return result(wanted.name, wanted.owner, "the helper said nonsense: " + answer.text);
  std::string why;
  if (wanted.words.back() == "/dev/shm") {
    if (space->free_bytes < kLeastShm) why = "only " + node::bytes_text(space->free_bytes) + " are free";
  } else {
    why = node::why_full(*space, false);
    if (why.empty()) why = node::why_no_files(*space, false);
    if (why.empty() && space->read_only) why = "mounted read-only";
  }
  c.result = why.empty() ? "ok" : "failed";
  c.detail = why.empty() ? node::bytes_text(space->free_bytes) + " free" : why;
  return c;
}

void NodeWatch::run_all(std::vector<Wanted> wanted, std::function<void(Results)> done) {
  struct Round {
    Results results;
    std::size_t open = 0;
    std::function<void(Results)> done;
  };
  auto round = std::make_shared<Round>();
  round->results.resize(wanted.size());
  round->open = wanted.size();
  round->done = std::move(done);
  if (wanted.empty())
    return asio::post(io_, [round, alive = alive_] {
      if (*alive) round->done({});
    });
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto words = wanted[i].words;
    paths_.run(words, settings_.check_deadline,
               [this, alive = alive_, round, i, one = wanted[i]](const auto& answer) {
                 if (!*alive) return;
                 round->results[i] = judge(one, answer);
                 if (--round->open == 0) round->done(std::move(round->results));
               });
  }
}

// What processes of jobs inherit from us.
NodeWatch::Results NodeWatch::check_limits() {
  Results out;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  out.push_back(result("limit of open files", "host",
                       limit.rlim_max < kLeastFiles ? "only " + std::to_string(limit.rlim_max) +
                                                          "; raise LimitNOFILE of the worker's unit"
                                                    : ""));
  getrlimit(RLIMIT_MEMLOCK, &limit);
  auto locked = result("limit of locked memory", "host", "");
  if (find_ib_hcas().empty()) {
    locked.result = "skipped";
    locked.detail = "no InfiniBand here";
  } else if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < kLeastLocked) {
    locked = result("limit of locked memory", "host",
                    "only " + node::bytes_text(limit.rlim_max) +
                        ", InfiniBand needs more; set LimitMEMLOCK=infinity in the worker's unit");
  }
  out.push_back(std::move(locked));
  return out;
}

void NodeWatch::gate(std::vector<std::string> folders, const Account& user,
                     std::function<void(std::string)> done) {
  std::vector<Wanted> wanted = {{"disk " + settings_.state_dir, "host", {"space", settings_.state_dir}},
                                {"shared memory /dev/shm", "host", {"space", "/dev/shm"}},
                                {"scratch " + settings_.state_dir, "host", {"write", settings_.state_dir}}};
  std::ranges::sort(folders);
  folders.erase(std::unique(folders.begin(), folders.end()), folders.end());
  std::string groups;
  for (const auto g : user.groups) groups += (groups.empty() ? "" : ",") + std::to_string(g);
  for (const auto& folder : folders)
    wanted.push_back({"folder " + folder,
                      "storage",
                      {"write", folder, std::to_string(user.uid), std::to_string(user.gid), groups}});
  run_all(std::move(wanted), [done = std::move(done)](Results results) {
    std::ranges::move(check_limits(), std::back_inserter(results));
    for (const auto& c : results)
      if (c.result == "failed") return done(c.name + ": " + c.detail);
    done("");
  });
}

void NodeWatch::inspect(std::function<void(Results)> done) {
  std::vector<Wanted> wanted;
  for (const auto& path : disks()) wanted.push_back({"disk " + path, "host", {"space", path}});
  wanted.push_back({"shared memory /dev/shm", "host", {"space", "/dev/shm"}});
  wanted.push_back({"scratch " + settings_.state_dir, "host", {"file", settings_.state_dir}});
  for (const auto& path : settings_.check_paths)
    wanted.push_back({"file system " + path, "storage", {"file", path}});
  run_all(std::move(wanted), [this, done = std::move(done)](Results results) {
    std::ranges::move(check_limits(), std::back_inserter(results));
    if (last_links_.empty()) {
      auto none = result("links", "network", "");
      none.result = "skipped";
      none.detail = "no link is watched; name one with --interface";
      results.push_back(std::move(none));
    }
    for (const auto& link : last_links_)
      results.push_back(result("link " + link.name, "network", link.up ? "" : "it is " + link.state));
    auto log = result("kernel log", "host", "");
    if (settings_.kernel_log.empty() || said("kernel_log_unreadable", "")) {
      log.result = "skipped";
      log.detail = settings_.kernel_log.empty() ? "switched off" : "it cannot be read";
    }
    results.push_back(std::move(log));
    done(std::move(results));
  });
}

}  // namespace tutti::worker
