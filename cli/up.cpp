#include "cli/up.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <ostream>
#include <stdexcept>

#include "cli/children.h"
#include "cli/connection.h"
#include "cli/documents.h"
#include "cli/failure.h"
#include "cli/process_sweep.h"
#include "cli/profile.h"
#include "cli/transfer.h"
#include "cli/up_files.h"
#include "cli/up_network.h"

namespace tutti::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kProbeEvery(100);  // only while starting: readiness is not announced by a signal
constexpr seconds kProbeTimeout(2);
constexpr seconds kWorkerGrace(5);
constexpr seconds kSweepFor(10);
constexpr seconds kSchedulerGrace(40);  // its database has 30 s
constexpr seconds kDatabaseGrace(10);   // when the scheduler did not live to stop it
constexpr int kToolDeadlineMs = 10'000;
constexpr int kHopelessStarts = 3;  // of a scheduler that has never been ready

class Up {
 public:
  Up(const UpOptions& options, std::ostream& out, std::ostream& err)
      : options_(options),
        out_(out),
        err_(err),
        programs_(find_programs(options.libexec, options.nvml_library, options.workers > 0)),
        files_(options.data.empty() ? default_data_directory() : options.data) {}
  ~Up() {
    for (const int fd : {signals_, endpoint_watch_})
      if (fd >= 0) close(fd);
  }
  Up(const Up&) = delete;
  Up& operator=(const Up&) = delete;

  int run();

 private:
  enum class Phase {
    listening,   // until the scheduler has written its endpoint
    recovering,  // until it is ready
    joining,     // until every worker is connected
    running
  };

  void prepare();
  ChildPlan scheduler_plan(int port) const;
  ChildPlan worker_plan(int number) const;
  void make_network();
  void make_gpus(const std::string& node) const;
  void start_due();
  void wait_for_something(Clock::time_point until);
  void reap();
  void on_ended(Child& child, int status);
  void advance();
  bool ready() const;
  std::string missing_nodes() const;
  void announce();
  void stop();
  bool wait_until_ended(Clock::time_point until, bool workers);
  [[noreturn]] void give_up(const std::string& why, const std::string& log) const;

  const UpOptions& options_;
  std::ostream& out_;
  std::ostream& err_;
  const UpPrograms programs_;
  const UpFiles files_;
  std::unique_ptr<UpNetwork> network_;  // null: the nodes share this host
  std::vector<Child> children_;         // the scheduler first
  Phase phase_ = Phase::listening;
  std::string url_;
  int signals_ = -1;
  int endpoint_watch_ = -1;
  int asked_to_stop_ = 0;  // how many signals
};

void Up::prepare() {
  sigset_t taken;
  sigemptyset(&taken);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&taken, number);
  sigprocmask(SIG_BLOCK, &taken, nullptr);
  signal(SIGPIPE, SIG_IGN);  // the terminal may go away; the cluster must still be stopped in order
  signals_ = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
  // Supervisors and ranks whose parents die become ours: then we can end and reap them.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  endpoint_watch_ = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (signals_ < 0 || endpoint_watch_ < 0 ||
      inotify_add_watch(endpoint_watch_, files_.data().c_str(), IN_CLOSE_WRITE | IN_MOVED_TO) < 0)
    throw Failure(Exit::failed, std::string("cannot watch ") + files_.data() + ": " + std::strerror(errno));
  unlink(files_.endpoint().c_str());  // of an earlier run
  unlink(files_.context().c_str());
}

ChildPlan Up::scheduler_plan(int port) const {
  ChildPlan plan{.name = "scheduler", .argv = {}, .environment = {}, .log = files_.log("scheduler")};
  const std::string listen = network_ ? network_->host_address() : options_.listen;
  plan.argv = {programs_.scheduler, "--listen",     listen + ":" + std::to_string(port), "--data",
               files_.data(),       "--embedded-db"};
  const bool named = std::ranges::any_of(
      options_.scheduler_flags, [](const std::string& flag) { return flag.starts_with("--console-dir"); });
  if (!programs_.console.empty() && !named)
    plan.argv.insert(plan.argv.end(), {"--console-dir", programs_.console});
  plan.argv.insert(plan.argv.end(), options_.scheduler_flags.begin(), options_.scheduler_flags.end());
  return plan;
}

// Its nodes then have addresses and host names of their own, as on a real network.
void Up::make_network() {
  if (!options_.namespaces || options_.workers == 0) return;
  try {
    network_ = std::make_unique<UpNetwork>(files_.data(), options_.workers);
  } catch (const std::runtime_error& e) {
    err_ << "tutti up: the nodes share this host: " << e.what() << std::endl;
  }
}

ChildPlan Up::worker_plan(int number) const {
  const std::string node = "n" + std::to_string(number);
  const std::string folder = files_.node(node);
  ChildPlan plan{.name = "worker " + node, .argv = {}, .environment = {}, .log = files_.log(node)};
  plan.argv = {programs_.worker,
               "--scheduler",
               url_,
               "--token-file",
               files_.token(),
               "--node",
               node,
               "--address",
               network_ ? network_->address(number) : "127.0.0.1",
               "--state-dir",
               folder + "/state",
               "--nvml-library",
               programs_.nvml_library};
  plan.argv.insert(plan.argv.end(), {"--run-as", "job-user"});  // one person's cluster: owners are names only
  if (!options_.job_user.empty()) plan.argv.insert(plan.argv.end(), {"--job-user", options_.job_user});
  if (options_.cpus > 0) plan.argv.insert(plan.argv.end(), {"--cpus", std::to_string(options_.cpus)});
  plan.argv.insert(plan.argv.end(), options_.worker_flags.begin(), options_.worker_flags.end());
  if (network_) plan.argv = network_->inside(number, node, plan.argv);
  plan.environment = {{"TUTTI_NVML_DOUBLE_STATE", folder + "/gpu"}, {std::string(kUpMark), files_.data()}};
  return plan;
}

// What was broken in a machine stays broken over a restart, unless another machine is asked for.
void Up::make_gpus(const std::string& node) const {
  const std::string folder = files_.node(node);
  std::error_code ec;
  std::filesystem::create_directories(folder + "/state", ec);
  const std::string wanted = std::to_string(options_.gpus) + " x " + options_.gpu_model;
  if (read_line(folder + "/gpu-plan") == wanted && access((folder + "/gpu/state").c_str(), F_OK) == 0) return;
  const ChildPlan plan{.name = "tutti-gpu-sim",
                       .argv = {programs_.gpu_sim, "init", "--state", folder + "/gpu", "--gpus",
                                std::to_string(options_.gpus), "--model", options_.gpu_model, "--node", node},
                       .environment = {},
                       .log = files_.log(node)};
  const pid_t pid = spawn(plan);
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  pollfd ended{pidfd, POLLIN, 0};
  if (pidfd < 0 || poll(&ended, 1, kToolDeadlineMs) <= 0) kill(pid, SIGKILL);
  if (pidfd >= 0) close(pidfd);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0)
    give_up("the simulated GPUs of " + node + " cannot be made: " + describe_end(status), plan.log);
  write_line(folder + "/gpu-plan", wanted);
}

void Up::give_up(const std::string& why, const std::string& log) const {
  std::string message = why;
  if (const std::string end = read_end(log, 2000); !end.empty()) message += "\n--- " + log + "\n" + end;
  while (message.ends_with('\n')) message.pop_back();
  throw Failure(Exit::failed, message);
}

void Up::start_due() {
  const auto now = Clock::now();
  for (Child& child : children_)
    if (!child.running() && child.start_at() && *child.start_at() <= now) {
      const bool again = child.early_ends() > 0;
      child.start(now);
      if (again)
        err_ << "tutti up: " << child.plan().name << " started again, pid " << child.pid() << std::endl;
    }
}

void Up::wait_for_something(Clock::time_point until) {
  for (const Child& child : children_)
    if (!child.running() && child.start_at()) until = std::min(until, *child.start_at());
  const auto left = std::chrono::ceil<milliseconds>(until - Clock::now());
  pollfd waits[] = {{signals_, POLLIN, 0}, {endpoint_watch_, POLLIN, 0}};
  if (poll(waits, 2, static_cast<int>(std::clamp<long long>(left.count(), 0, 3'600'000))) <= 0) return;
  signalfd_siginfo info{};
  while (read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info))
    if (info.ssi_signo != SIGCHLD) ++asked_to_stop_;
  alignas(inotify_event) char events[4096];
  while (read(endpoint_watch_, events, sizeof events) > 0) {
  }
  reap();
}

void Up::reap() {
  int status = 0;
  for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG))
    for (Child& child : children_)
      if (child.pid() == pid) on_ended(child, status);
}

void Up::on_ended(Child& child, int status) {
  const pid_t pid = child.pid();
  child.ended(Clock::now(), asked_to_stop_ == 0);
  if (asked_to_stop_ > 0) return;
  const auto pause = restart_pause(child.early_ends());
  err_ << "tutti up: " << child.plan().name << " (pid " << pid << ") ended: " << describe_end(status)
       << (pause.count() == 0 ? std::string("; starting it again")
                              : "; starting it again in " + std::to_string(pause.count()) + " ms")
       << std::endl;
  if (&child == &children_.front() && phase_ != Phase::running && child.early_ends() >= kHopelessStarts)
    give_up("the scheduler does not start", child.plan().log);
}

bool Up::ready() const {
  Transfer transfer(parse_server(url_));
  const HttpRequest request{.method = "GET", .path = "/readyz", .headers = {}, .body = {}};
  const Outcome outcome = transfer.perform(request, kProbeTimeout);
  return outcome.trouble == Trouble::none && outcome.reply.status == 200;
}

std::string Up::missing_nodes() const {
  Connection connection = parse_server(url_);
  connection.token = read_line(files_.token());
  Transfer transfer(connection);
  const HttpRequest request{.method = "GET", .path = "/v1/nodes", .headers = {}, .body = {}};
  const Outcome outcome = transfer.perform(request, kProbeTimeout);
  boost::system::error_code ec;
  const auto tree = boost::json::parse(outcome.reply.body, ec);
  std::string missing;
  for (int i = 1; i <= options_.workers; ++i) {
    const std::string name = "n" + std::to_string(i);
    bool linked = false;
    if (!ec)
      for (const auto& node : array_of(as_object(tree), "nodes"))
        linked = linked || (text_of(as_object(node), "name") == name && flag_of(as_object(node), "linked"));
    if (!linked) missing += (missing.empty() ? "" : " ") + name;
  }
  return missing;
}

void Up::advance() {
  if (phase_ == Phase::listening) {
    url_ = read_line(files_.endpoint());
    const auto colon = url_.rfind(':');
    if (!url_.starts_with("http") || colon == std::string::npos) return;
    // From now on always this port, or the workers would look for it in vain after a restart.
    children_.front().replan(scheduler_plan(std::stoi(url_.substr(colon + 1))));
    phase_ = Phase::recovering;
  }
  if (phase_ == Phase::recovering) {
    if (!ready()) return;
    for (int i = 1; i <= options_.workers; ++i) {
      children_.emplace_back(worker_plan(i));
      children_.back().schedule(Clock::now());
    }
    phase_ = Phase::joining;
    return;
  }
  if (phase_ == Phase::joining && missing_nodes().empty()) {
    phase_ = Phase::running;
    // Whoever waits for it finds all nodes there.
    write_context(files_.context(), url_, read_line(files_.token()));
    announce();
  }
}

void Up::announce() {
  out_ << "tutti is up: " << url_ << "\n";
  if (!programs_.console.empty()) out_ << "console: " << url_ << "/console/\n";
  if (options_.workers == 0)
    out_ << "no workers: tutti-worker --scheduler " << url_ << " --token-file " << files_.token()
         << " adds one\n";
  else
    out_ << options_.workers << " node" << (options_.workers == 1 ? "" : "s") << " with " << options_.gpus
         << (options_.nvml_library.empty() ? " simulated" : "") << " GPUs each; logs in " << files_.data()
         << "/logs\n";
  if (options_.write_context) {
    change_profile(profile_path(), [&](Profile& profile) {
      profile.at("up") = {.name = "up", .server = url_, .token_file = files_.token()};
      profile.current = "up";
    });
    out_ << "\n  tutti cluster\n";
  } else {
    out_ << "\n  export TUTTI_CONTEXT=" << files_.context() << "\n  tutti cluster\n";
  }
  out_ << "  tutti submit job.yaml --follow\n\n"
          "Ctrl-C stops it all. Jobs are kept and go on at the next `tutti up`."
       << std::endl;
  if (options_.ready_fd >= 0) {
    const std::string line = url_ + "\n";
    (void)!write(options_.ready_fd, line.data(), line.size());
    close(options_.ready_fd);
  }
}

// False: the deadline came first, or somebody is in a hurry.
bool Up::wait_until_ended(Clock::time_point until, bool workers) {
  const int asked = asked_to_stop_;
  while (true) {
    bool over = true;
    for (std::size_t i = workers ? 1 : 0; i < (workers ? children_.size() : 1); ++i)
      over = over && !children_[i].running();
    if (over) return true;
    if (Clock::now() >= until || asked_to_stop_ > std::max(asked, 1)) return false;
    wait_for_something(until);
  }
}

void Up::stop() {
  asked_to_stop_ = std::max(asked_to_stop_, 1);
  for (Child& child : children_) child.schedule(Clock::time_point::max());
  const auto each_worker = [&](int number) {
    for (std::size_t i = 1; i < children_.size(); ++i) children_[i].signal(number);
  };
  err_ << "tutti up: stopping" << std::endl;
  each_worker(SIGTERM);
  if (!wait_until_ended(Clock::now() + kWorkerGrace, true)) {
    each_worker(SIGKILL);
    wait_until_ended(Clock::now() + kWorkerGrace, true);
  }
  // Before the scheduler: nobody is left who could tell it about ranks that fall now.
  SweepScope scope{.data = files_.data(), .excepted = {}};
  if (!children_.empty() && children_.front().running()) scope.excepted.push_back(children_.front().pid());
  if (!sweep_all(scope, kSweepFor))
    err_ << "tutti up: still there after SIGKILL: " << Sweep(scope).describe() << std::endl;
  if (children_.empty()) return;
  children_.front().signal(SIGTERM);
  if (!wait_until_ended(Clock::now() + kSchedulerGrace, false)) {
    children_.front().signal(SIGKILL);
    wait_until_ended(Clock::now() + kWorkerGrace, false);
  }
  // The database of a killed scheduler stops cleanly by itself.
  if (!Sweep(scope).wait(kDatabaseGrace)) sweep_all(scope, kSweepFor);
  unlink(files_.endpoint().c_str());
}

int Up::run() {
  prepare();
  const auto give_up_at = Clock::now() + seconds(options_.start_timeout_seconds);
  make_network();
  try {
    for (int i = 1; i <= options_.workers; ++i) make_gpus("n" + std::to_string(i));
    children_.reserve(static_cast<std::size_t>(options_.workers) + 1);  // on_ended compares addresses
    children_.emplace_back(scheduler_plan(options_.port));
    children_.front().schedule(Clock::now());
    while (asked_to_stop_ == 0) {
      start_due();
      const auto now = Clock::now();
      if (phase_ == Phase::running) {
        wait_for_something(now + std::chrono::hours(1));
        continue;
      }
      if (now >= give_up_at)
        give_up(phase_ == Phase::joining ? "these workers do not connect: " + missing_nodes()
                                         : "the scheduler is not ready in time",
                children_.back().plan().log);
      wait_for_something(std::min(give_up_at, now + kProbeEvery));
      advance();
    }
  } catch (...) {
    stop();
    throw;
  }
  stop();
  err_ << "tutti up: stopped" << std::endl;
  return 0;
}

}  // namespace

int run_up(const UpOptions& options, std::ostream& out, std::ostream& err) {
  if (options.ready_fd >= 0 && fcntl(options.ready_fd, F_GETFD) < 0)
    throw Failure(Exit::usage,
                  "--once-ready-fd " + std::to_string(options.ready_fd) + " is not an open descriptor");
  Up up(options, out, err);
  return up.run();
}

}  // namespace tutti::cli
