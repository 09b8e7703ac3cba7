// The second half of supervisor.h: the loop, stopping, and the end with its proof.
#include "worker/supervisor/supervisor.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <utility>

#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/kill_proof.h"
#include "worker/supervisor/proc_scan.h"

namespace tutti::supervisor {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kLeaseMissing = 10 * kSecond;  // how long we wait for the worker's first lease
constexpr std::int64_t kProofSlice = kSecond / 10;    // the loop goes round at least this often
constexpr std::int64_t kProofLimit = 50 * kSecond;    // then the end is told without proof…
constexpr std::int64_t kProofLater = kSecond;         // …and proof is looked for this often
constexpr std::int64_t kStayAfterEnd = 600 * kSecond;
constexpr std::size_t kMaxWorkers = 8;
constexpr std::size_t kSpareRankPeers = 64;  // turned away one by one
constexpr std::size_t kMaxCommand = 16 << 20;

std::optional<int> signal_named(std::string name) {
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (int s = 1; s < 32; ++s)
    if (const char* known = sigabbrev_np(s); known != nullptr && name == known) return s;
  return std::nullopt;
}

User user_of(const Config& config) {
  if (config.user.empty()) return look_up_user(config.uid, config.gid);
  return {.uid = config.uid,
          .gid = config.gid,
          .groups = {config.groups.begin(), config.groups.end()},
          .name = config.user,
          .home = config.home,
          .shell = config.shell};
}

}  // namespace

Supervisor::Supervisor(Config config)
    : config_(std::move(config)),
      user_(user_of(config_)),
      part_(config_.local_ranks, {.by_agent = config_.listen_agent}),
      lease_(config_.lease_path, boot_us() + kLeaseMissing) {}

Supervisor::~Supervisor() = default;

void Supervisor::run() {
  listen();
  publish();  // `preparing` is on disk before anything is started: invariant 1
  prepare();
  while (!quit_) {
    turn();
    if (quit_) break;
    poller_.run_once(next_wake());
  }
}

void Supervisor::listen() {
  sigset_t wanted;
  sigemptyset(&wanted);
  for (const int s : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&wanted, s);
  signals_ = Fd(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw_errno("signalfd");
  poller_.add(signals_.get(), EPOLLIN, [this](std::uint32_t) {
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
      if (info.ssi_signo != SIGCHLD) stop({"control", "KILL", 0});
    reap();
  });
  ranks_.emplace(
      poller_, listen_unix(config_.dir, kRankSocket, 0600, config_.uid), config_.uid,
      static_cast<std::size_t>(config_.local_ranks) + kSpareRankPeers,
      RankServer::Events{[this](std::int32_t rank, std::int32_t world, pid_t program) {
                           if (!part_.on_rank_up(rank, world)) return false;
                           rank_states_[rank] = {.rank = rank, .pid = program};
                           return true;
                         },
                         [this](std::int32_t rank, const Exit& exit, bool vanished, std::int64_t when) {
                           if (auto& state = rank_states_[rank]; !state.ended)
                             state = {rank, state.pid, true, exit.code, exit.signal, when};
                           part_.on_rank_ended(rank, exit, vanished, when);
                           if (exit.signal == SIGKILL && oom_kills(cgroup_).value_or(0) > 0)
                             part_.on_oom(rank);
                         },
                         [this] {
                           const bool current = !part_.finishing() && boot_us() < lease_.until_us();
                           return "{\"epoch\":" + std::to_string(config_.key.epoch.value) +
                                  ",\"current\":" + (current ? "true}" : "false}");
                         }});
  worker_listener_ = listen_unix(config_.dir, kWorkerSocket, 0600, geteuid());
  poller_.add(worker_listener_.get(), EPOLLIN, [this](std::uint32_t) { accept_workers(); });
}

void Supervisor::accept_workers() {
  while (true) {
    Fd fd(accept4(worker_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    if (workers_.size() >= kMaxWorkers) workers_.pop_front();  // the newest is the live one
    workers_.emplace_back();
    const auto me = std::prev(workers_.end());
    *me = std::make_unique<Peer>(
        poller_, std::move(fd), Peer::Limits{kMaxCommand, 1 << 20},
        [this](std::string_view line) {
          try {
            obey(decode_command(line));
          } catch (const std::exception& e) {
            std::fprintf(stderr, "worker: %s\n", e.what());
          }
        },
        [this, me] { workers_.erase(me); });
    (*me)->send(told_);
  }
}

void Supervisor::obey(ToSupervisor command) {
  if (auto* what = std::get_if<Launch>(&command)) {
    launch(std::move(*what));
  } else if (const auto* how = std::get_if<Stop>(&command)) {
    stop(*how);
  } else if (const auto* shell = std::get_if<OpenShell>(&command)) {
    open_shell(*shell);
  } else if (const auto* signal = std::get_if<SignalRanks>(&command)) {
    signal_ranks(*signal);
  } else if (end_) {
    quit_ = true;
  } else {
    std::fprintf(stderr, "worker: Quit before the end is not obeyed\n");
  }
}

void Supervisor::stop(const Stop& how) {
  if (part_.finishing() || end_) return;
  const std::int64_t now = boot_us();
  const auto before = part_.stop_until();
  part_.on_stop(how.signal, how.grace_us, now);
  const auto until = part_.stop_until();
  if (until == before || *until <= now) return;  // nothing stricter, or no time to tell anybody
  try {
    timeval wall{};
    gettimeofday(&wall, nullptr);
    const std::int64_t wall_us = wall.tv_sec * kSecond + wall.tv_usec + (*until - now);
    char text[40];
    std::snprintf(text, sizeof text, "%lld.%06lld\n", static_cast<long long>(wall_us / kSecond),
                  static_cast<long long>(wall_us % kSecond));
    for (const auto& [leaf, content] :  // the deadline before `stop`: who sees that finds this
         {std::pair<std::string, std::string>{"/stop_deadline", text}, {"/stop", how.cause + "\n"}}) {
      const std::string draft = config_.dir + leaf + ".draft";  // theirs before it has its name
      replace_file(draft, content, false, 0400);
      give(draft);
      if (rename(draft.c_str(), (config_.dir + leaf).c_str()) != 0) throw_errno("rename " + draft);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "stop files: %s\n", e.what());
  }
  ranks_->signal_all(signal_named(how.signal)
                         .value_or(SIGTERM));  // not to mpirun or orted: those would end the ranks themselves
}

// A person's, for the program's own use. Who is being stopped already has its last word.
void Supervisor::signal_ranks(const SignalRanks& what) {
  const auto number = signal_named(what.signal);
  if (!number)
    std::fprintf(stderr, "worker: no signal is called \"%s\"\n", what.signal.c_str());
  else if (!part_.finishing() && !part_.stop_until() && !end_)
    ranks_->signal_once(*number);
}

// ---------------------------------------------------------------- processes

void Supervisor::reap() {
  while (true) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    Exit exit;
    if (WIFSIGNALED(status))
      exit.signal = WTERMSIG(status);
    else
      exit.code = WEXITSTATUS(status);
    on_process_ended(pid, exit);
  }
}

void Supervisor::on_process_ended(pid_t pid, const Exit& exit) {
  const auto it = processes_.find(pid);
  if (it == processes_.end()) return;  // an orphan we inherited
  const Running process = std::move(it->second);
  processes_.erase(it);
  const std::string trouble = exit.code == 127 ? read_trouble(process.trouble) : std::string();
  if (process.role == Role::setup) return on_setup_ended(exit, trouble);
  if (process.role == Role::shell) return on_shell_ended(process);
  ranks_->drain();  // a keeper reports, then exits: hear it in that order
  if (process.role == Role::agent) agents_->on_process_ended(pid, exit);
  const bool reported =
      ranks_->has_come_up_under(pid) || (process.rank >= 0 && ranks_->has_come_up(process.rank));
  if (!exit.well() && last_lines_log_.empty()) last_lines_log_ = process.log;
  part_.on_process_ended(exit, process.is_rank, reported,
                         trouble.empty() ? process.name : process.name + " (" + trouble + ")", boot_us());
}

// ---------------------------------------------------------------- each round

void Supervisor::turn() {
  const std::int64_t now = boot_us();
  check_deadlines(now);
  const bool had_failure = part_.failure().has_value();
  part_.settle(now);
  if (part_.finishing()) strike();
  if (!had_failure && part_.failure()) {
    const protocol::Failure& f = *part_.failure();
    const std::string log = f.kind == "setup" ? config_.dir + "/logs/setup.log"
                            : f.rank >= 0     ? config_.dir + "/logs/rank-" + std::to_string(f.rank) + ".log"
                            : f.kind == "launch" ? last_lines_log_
                                                 : std::string();
    if (!log.empty()) last_lines_ = log_tail(log, config_.uid, mask_);
    std::fprintf(stderr, "failure: %s: %s\n", f.kind.c_str(), f.detail.c_str());
  }
  publish();
  if (part_.finishing() && !(end_ && end_->proven) && now >= prove_at_) prove();
  if (end_ && boot_us() >= end_->boot_us + kStayAfterEnd) quit_ = true;
}

void Supervisor::check_deadlines(std::int64_t now) {
  if (agents_) agents_->expire(now);
  if (part_.finishing()) return;
  if (now >= lease_.until_us()) {
    if (!cgroup_.empty())
      freeze_cgroup(cgroup_);  // none of them takes another step, however long the kill takes
    part_.on_lease_expired(now);
  }
  if (setup_until_ && now >= *setup_until_) {
    setup_until_.reset();
    part_.on_failure(
        {.kind = "setup",
         .boot_us = now,
         .detail = "setup did not end in " + std::to_string(config_.setup_timeout_us / kSecond) + " s",
         .last_lines = {}});
  }
}

std::optional<std::int64_t> Supervisor::next_wake() {
  std::int64_t next = part_.finishing() ? INT64_MAX : lease_.until_us();
  const auto sooner = [&](std::optional<std::int64_t> when) {
    if (when) next = std::min(next, *when);
  };
  if (!part_.finishing()) {
    sooner(part_.kill_at());
    sooner(setup_until_);
  }
  if (agents_) sooner(agents_->next_deadline());
  if (part_.finishing() && !(end_ && end_->proven)) sooner(prove_at_);
  if (end_) sooner(end_->boot_us + kStayAfterEnd);
  if (next == INT64_MAX) return std::nullopt;
  return next;
}

// ---------------------------------------------------------------- the end

// The first blow, before any file or socket is touched; prove() goes on from here.
void Supervisor::strike() {
  if (struck_at_) return;
  struck_at_ = boot_us();
  if (!cgroup_.empty()) kill_cgroup(cgroup_);
  for (const auto& [pid, process] : processes_)
    kill(-pid, SIGKILL);  // not reaped yet: the number is still its own
}

void Supervisor::prove() {
  if (!anything_started_) {
    if (!cgroup_.empty()) remove_cgroup(cgroup_);
    return end(true, "never started");
  }
  const std::int64_t now = boot_us();
  const KillResult result = kill_and_prove(config_, now + kProofSlice, {getpid(), held_devices_});
  reap();
  prove_at_ = end_ ? now + kProofLater : 0;
  if (result.proven)
    end(true, result.how);
  else if (!end_ && now >= *struck_at_ + kProofLimit)
    end(false, result.how);
}

void Supervisor::end(bool proven, const std::string& how) {
  // Without proof the locks stay: nobody may use a device that a process of ours may still have in hand.
  if (proven) device_locks_.clear();
  end_ = protocol::End{part_.all_ranks_well() && !part_.failure(), proven, how, boot_us()};
  part_.on_ended();
  if (proven) agents_.reset();
  std::fprintf(stderr, "end: %s, %s: %s\n", end_->ok ? "ok" : "not ok", proven ? "proven" : "not proven",
               how.c_str());
  publish();
}

Status Supervisor::status() const {
  Status s;
  s.phase = part_.phase();
  s.agent_port = agent_port_;
  s.master_port = master_port_;
  s.ranks_up = part_.ranks_up();
  s.ranks_done = part_.ranks_done();
  s.kill_mode = cgroup_.empty() ? "process-group" : "cgroup2";
  s.failure = part_.failure();
  if (s.failure) {
    s.failure->last_lines = last_lines_;
    s.failure->detail = mask_.text(s.failure->detail);
  }
  s.end = end_;
  s.pid = getpid();
  for (const auto& [rank, state] : rank_states_) s.ranks.push_back(state);
  return s;
}

void Supervisor::publish() {
  std::string text = encode(status());
  if (text == told_) return;
  told_ = std::move(text);
  try {
    // Only a crash of the machine could lose what is not synced, and that ends every attempt anyway. So the
    // disk is waited for only once all is being killed: a slow one must not keep us from seeing the lease run
    // out.
    replace_file(config_.dir + "/state.json", told_, part_.finishing(), 0600);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "state.json: %s\n", e.what());  // a full disk must not keep a gang alive
  }
  for (const auto& worker : workers_) worker->send(told_);
}

}  // namespace tutti::supervisor
