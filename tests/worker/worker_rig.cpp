#include "tests/worker/worker_rig.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "api/http/link.h"
#include "api/http/router.h"
#include "api/http/server.h"
#include "api/wire/job_spec_codec.h"
#include "api/wire/messages.h"

extern char** environ;

namespace tutti::worker::testing {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr std::size_t kMaxMessages = 100'000;

std::string folder(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr) throw std::runtime_error(std::string(variable) + " is not set: run me through ctest");
  return fs::absolute(value);
}

pid_t spawn(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env) {
  std::vector<std::string> words;
  for (char** e = environ; *e != nullptr; ++e) words.emplace_back(*e);
  for (const auto& [k, v] : env) words.push_back(k + "=" + v);
  std::vector<char*> args, envp;
  for (const auto& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  for (auto& w : words) envp.push_back(w.data());
  envp.push_back(nullptr);
  pid_t pid = 0;
  if (const int error = posix_spawn(&pid, args[0], nullptr, nullptr, args.data(), envp.data()); error != 0)
    throw std::system_error(error, std::generic_category(), argv[0]);
  return pid;
}

// Processes of this scratch directory: supervisors by their argument, the rest by their environment.
std::vector<pid_t> processes_of(const std::string& dir) {
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const auto pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 1 || pid == getpid()) continue;
    for (const auto* file : {"cmdline", "environ"}) {
      std::ifstream in(entry.path() / file, std::ios::binary);
      std::stringstream text;
      text << in.rdbuf();
      if (text.str().find(dir + "/") == std::string::npos) continue;
      found.push_back(pid);
      break;
    }
  }
  return found;
}

}  // namespace

std::string binary(const std::string& name) { return folder("TUTTI_BIN") + "/" + name; }
std::string library(const std::string& name) { return folder("TUTTI_LIB") + "/" + name; }

// ---------------------------------------------------------------- scheduler

struct FakeScheduler::State {
  explicit State(FakeScheduler& owner) : owner(owner) {
    router.websocket("/v1/worker", [this](http::Request, std::shared_ptr<http::Link> link) { take(link); });
    http::ServerConfig config;
    config.serial_executor = true;
    server.emplace(io.get_executor(), config, router);
    server->start();
    thread = std::thread([this] { io.run(); });
  }

  void take(const std::shared_ptr<http::Link>& link) {
    auto node = std::make_shared<std::string>();
    link->start([this, link, node](const std::string& text) { on_message(link, *node, text); },
                [](const std::string&) {});
  }

  void on_message(const std::shared_ptr<http::Link>& link, std::string& node, const std::string& text) {
    auto message = wire::decode_from_worker(text);
    const std::scoped_lock lock(mutex);
    if (!message) {
      trouble = message.error().message;
    } else {
      if (const auto* hello = std::get_if<protocol::Hello>(&*message)) {
        node = hello->node;
        links[node] = link;
        if (leader) {
          link->send(wire::encode(protocol::ToWorker(protocol::Refused{"a standby", leader})));
        } else {
          protocol::Welcome welcome{1, owner.lease_us, owner.heartbeat_us, kept[node], {}};
          welcome.term = term;
          link->send(wire::encode(protocol::ToWorker(std::move(welcome))));
        }
      } else if (const auto* beat = std::get_if<protocol::Heartbeat>(&*message); beat && acknowledging) {
        link->send(wire::encode(protocol::ToWorker(protocol::HeartbeatAck{beat->seq})));
      }
      if (messages.size() < kMaxMessages) messages.emplace_back(node, std::move(*message));
    }
    changed.notify_all();
  }

  FakeScheduler& owner;
  boost::asio::io_context io{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{io.get_executor()};
  http::Router router;
  std::optional<http::HttpServer> server;
  std::thread thread;

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::pair<std::string, protocol::FromWorker>> messages;
  // Per node and kind: so far passed over.
  std::map<std::pair<std::string, std::size_t>, std::size_t> read;
  std::map<std::string, std::shared_ptr<http::Link>> links;
  std::map<std::string, std::vector<AttemptKey>> kept;
  std::string trouble;
  bool acknowledging = true;
  std::optional<std::int64_t> term;
  std::optional<std::string> leader;  // who leads instead of this one
};

FakeScheduler::FakeScheduler() : state_(std::make_unique<State>(*this)) {}

FakeScheduler::~FakeScheduler() {
  {
    const std::scoped_lock lock(state_->mutex);
    for (auto& [node, link] : state_->links) link->abort();
    state_->links.clear();
  }
  state_->server->stop([this] { state_->io.stop(); });
  state_->thread.join();
  state_->server.reset();
}

std::uint16_t FakeScheduler::port() const { return state_->server->port(); }

void FakeScheduler::keep(const std::string& node, std::vector<AttemptKey> attempts) {
  const std::scoped_lock lock(state_->mutex);
  state_->kept[node] = std::move(attempts);
}

void FakeScheduler::acknowledge(bool yes) {
  const std::scoped_lock lock(state_->mutex);
  state_->acknowledging = yes;
}

void FakeScheduler::cut(const std::string& node) {
  const std::scoped_lock lock(state_->mutex);
  state_->links.at(node)->abort();
}

void FakeScheduler::lead(std::int64_t term) {
  const std::scoped_lock lock(state_->mutex);
  state_->term = term;
  state_->leader.reset();
}

void FakeScheduler::stand_by(const std::string& leader_url) {
  const std::scoped_lock lock(state_->mutex);
  state_->leader = leader_url;
}

void FakeScheduler::send(const std::string& node, const protocol::ToWorker& message) {
  const std::scoped_lock lock(state_->mutex);
  state_->links.at(node)->send(wire::encode(message));
}

void FakeScheduler::wait_any(const std::string& node, std::size_t kind,
                             const std::function<bool(const protocol::FromWorker&)>& take) {
  std::unique_lock lock(state_->mutex);
  const auto until = Clock::now() + kPatience;
  auto& at = state_->read[{node, kind}];
  const auto first = at;
  while (true) {
    for (; at < state_->messages.size(); ++at)
      if (state_->messages[at].first == node && state_->messages[at].second.index() == kind &&
          take(state_->messages[at].second)) {
        ++at;
        return;
      }
    if (!state_->trouble.empty()) throw std::runtime_error("bad message: " + state_->trouble);
    if (state_->changed.wait_until(lock, until) == std::cv_status::timeout) break;
  }
  std::string came;
  for (auto i = first; i < state_->messages.size(); ++i) {
    const auto text = wire::encode(state_->messages[i].second);
    if (state_->messages[i].first == node && text.find("\"heartbeat\"") == std::string::npos)
      came += "\n  " + text.substr(0, 300);
  }
  throw std::runtime_error("message from " + node + " did not come; what came:" + came);
}

protocol::AttemptStatus FakeScheduler::wait_phase(const std::string& node, AttemptKey key,
                                                  protocol::Phase phase) {
  return wait<protocol::AttemptStatus>(
      node, [&](const protocol::AttemptStatus& s) { return s.key == key && s.phase == phase; });
}

std::size_t FakeScheduler::count(const std::string& node, const std::string& type) {
  const std::scoped_lock lock(state_->mutex);
  return static_cast<std::size_t>(std::ranges::count_if(
      state_->messages, [&](const auto& m) { return m.first == node && wire::type_name(m.second) == type; }));
}

// ---------------------------------------------------------------- worker

WorkerProcess::WorkerProcess(const FakeScheduler& scheduler, std::string node, std::vector<std::string> more)
    : scheduler_port_(scheduler.port()), node_(std::move(node)), more_(std::move(more)) {
  std::string pattern = fs::temp_directory_path() / "tutti-worker-test-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  dir_ = pattern;
  chmod(dir_.c_str(), 0755);
  fs::create_directory(dir_ + "/scratch");
  chmod((dir_ + "/scratch").c_str(), 0777);
}

WorkerProcess::~WorkerProcess() {
  kill(SIGKILL);
  // Supervisors are in sessions of their own; each process is held by a pidfd before it is killed.
  for (int round = 0; round < 20; ++round) {
    const auto left = processes_of(dir_);
    if (left.empty()) break;
    for (const auto pid : left) {
      const Pinned pinned(pid);
      ::kill(pid, SIGKILL);
      pinned.dies_in(std::chrono::milliseconds(500));
    }
  }
  std::error_code ec;
  // Of attempts that nobody was left to prove: their cgroups, by the note that their supervisor made.
  for (const auto& attempt : fs::directory_iterator(dir_ + "/state/attempts", ec)) {
    std::ifstream note(attempt.path() / "cgroup");
    std::string path;
    if (std::getline(note, path) && path.find("/tutti-") != std::string::npos) ::rmdir(path.c_str());
  }
  fs::remove_all(dir_, ec);
}

void WorkerProcess::start() {
  std::vector<std::string> argv = {binary("tutti-worker"),
                                   "--scheduler",
                                   "http://127.0.0.1:" + std::to_string(scheduler_port_),
                                   "--node",
                                   node_,
                                   "--address",
                                   "127.0.0.1",
                                   "--state-dir",
                                   dir_ + "/state"};
  if (geteuid() == 0) argv.insert(argv.end(), {"--job-user", "nobody"});
  argv.insert(argv.end(), more_.begin(), more_.end());
  pid_ = spawn(argv, env);
}

void WorkerProcess::kill(int signal) {
  if (pid_ == 0) return;
  ::kill(pid_, signal);
  const Pinned pinned(pid_);
  if (!pinned.dies_in(kPatience)) ::kill(pid_, SIGKILL);
  waitpid(std::exchange(pid_, 0), nullptr, 0);
}

std::string WorkerProcess::attempt_dir(AttemptKey key) const {
  return dir_ + "/state/attempts/" + to_string(key.job) + "-" + to_string(key.epoch);
}

// ---------------------------------------------------------------- processes and files

Pinned::Pinned(pid_t pid) : fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
Pinned::Pinned(Pinned&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
Pinned::~Pinned() {
  if (fd_ >= 0) close(fd_);
}
bool Pinned::alive() const { return !dies_in(std::chrono::milliseconds(0)); }
bool Pinned::dies_in(std::chrono::milliseconds time) const {
  if (fd_ < 0) return true;
  pollfd p{fd_, POLLIN, 0};
  return poll(&p, 1, static_cast<int>(time.count())) > 0;
}

namespace {
// Looks again after each change of the file's folder.
bool wait_for_change_until(const std::string& path, const std::function<bool()>& done) {
  const auto until = Clock::now() + kPatience;
  const int events = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  inotify_add_watch(events, fs::path(path).parent_path().c_str(),
                    IN_CREATE | IN_MODIFY | IN_MOVED_TO | IN_CLOSE_WRITE);
  bool good = false;
  while (!(good = done())) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) break;
    pollfd p{events, POLLIN, 0};
    poll(&p, 1, static_cast<int>(left));
    char drop[4096];
    while (::read(events, drop, sizeof drop) > 0) {
    }
  }
  close(events);
  return good;
}
}  // namespace

std::string wait_for_file(const std::string& path) {
  std::string text;
  const bool came = wait_for_change_until(path, [&] {
    std::ifstream in(path);
    std::stringstream whole;
    whole << in.rdbuf();
    text = whole.str();
    return text.ends_with("\n");
  });
  if (!came) throw std::runtime_error(path + " did not come to be; its text: " + text);
  return text;
}

void wait_until_exists(const std::string& path) {
  if (!wait_for_change_until(path, [&] { return fs::exists(path); }))
    throw std::runtime_error(path + " did not come to be");
}

std::string run_command(const std::vector<std::string>& argv) {
  std::string line;
  for (const auto& word : argv) line += "'" + word + "' ";
  FILE* out = popen(line.c_str(), "r");
  if (out == nullptr) throw std::runtime_error("popen");
  std::string text;
  char chunk[4096];
  for (std::size_t n; (n = fread(chunk, 1, sizeof chunk, out)) > 0;) text.append(chunk, n);
  if (const int status = pclose(out); status != 0) throw std::runtime_error(line + ": " + text);
  return text;
}

protocol::Prepare make_prepare(const JobSpec& spec, AttemptKey key, const std::vector<std::string>& nodes,
                               int index, int ranks) {
  protocol::Prepare p;
  p.key = key;
  p.spec_json = wire::encode_spec(spec);
  p.owner = "ada";
  p.index = index;
  p.secret = "the gang's own";
  const bool script = spec.launcher == Launcher::script;
  int rank = 0;
  for (const auto& node : nodes) {
    const int here = script ? (rank == 0 ? 1 : 0) : ranks;
    p.gang.push_back({node, "127.0.0.1", rank, here});
    rank += here;
  }
  return p;
}

}  // namespace tutti::worker::testing
