#include "tests/worker/supervisor_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/kill_proof.h"

namespace tutti::supervisor::testing {
namespace {

constexpr std::int64_t kSecond = 1'000'000;

bool readable_within(int fd, std::int64_t until_us) {
  while (true) {
    const std::int64_t left = until_us - boot_us();
    if (left <= 0) return false;
    pollfd p{fd, POLLIN, 0};
    const int n = poll(&p, 1, static_cast<int>(left / 1000 + 1));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

}  // namespace

std::string binary(const std::string& name) {
  if (const char* dir = std::getenv("TUTTI_BIN")) return std::string(dir) + "/" + name;
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
}

bool cgroup2_works() {
  Config probe;
  probe.key = {JobId(999999), Epoch(1)};
  char dir[] = "/tmp/tutti-probe-XXXXXX";
  probe.dir = mkdtemp(dir);
  std::string problem;
  const std::string made = create_cgroup(probe, problem);
  if (!made.empty()) remove_cgroup(made);
  std::filesystem::remove_all(probe.dir);
  return !made.empty();
}

Pinned::Pinned(pid_t pid) : fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {
  if (!fd_) throw std::runtime_error("process " + std::to_string(pid) + " is not there");
}
bool Pinned::alive() const {
  pollfd p{fd_.get(), POLLIN, 0};
  return poll(&p, 1, 0) == 0;
}
bool Pinned::dies_within(int seconds) const {
  return readable_within(fd_.get(), boot_us() + seconds * kSecond);
}

Rig::Rig(const std::string& kill_mode, std::int64_t job) {
  char name[] = "/tmp/tutti-rig-XXXXXX";
  config.dir = mkdtemp(name);
  config.key = {JobId(job), Epoch(1)};
  config.kill_mode = kill_mode;
  const bool root = geteuid() == 0;
  config.uid = root ? 65534 : geteuid();
  config.gid = root ? 65534 : getegid();
  chmod(dir().c_str(), 0755);
  mkdir((dir() + "/scratch").c_str(), 0777);
  chmod((dir() + "/scratch").c_str(), 0777);
}

Rig::~Rig() {
  if (supervisor_ > 0) kill_supervisor();
  kill_and_prove(config, boot_us() + 10 * kSecond);
  std::error_code ignored;
  std::filesystem::remove_all(dir(), ignored);
}

void Rig::add_device() {
  const std::string path = dir() + "/nvidia" + std::to_string(config.devices.size());
  std::ofstream(path) << "simulated";
  config.devices.push_back({path, "GPU-" + std::to_string(config.devices.size()), true});
}

void Rig::write_lease(std::int64_t until_us) const {
  const Fd fd(open(config.lease_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (pwrite(fd.get(), &until_us, sizeof until_us, 0) != sizeof until_us) throw std::runtime_error("lease");
}

pid_t Rig::spawn_supervisor() {
  replace_file(dir() + "/supervise.json", encode(config), false, 0600);
  const std::string program = binary("tutti-supervisor");
  supervisor_ = fork();
  if (supervisor_ == 0) {
    execl(program.c_str(), program.c_str(), dir().c_str(), nullptr);
    _exit(127);
  }
  return supervisor_;
}

pid_t Rig::start() {
  spawn_supervisor();
  connect();
  return supervisor_;
}

void Rig::connect() {
  wait_for_file(dir() + "/state.json");  // written once the sockets are there
  socket_ = connect_unix(dir(), "supervisor.sock");
  text_.clear();
}

void Rig::send(const ToSupervisor& command) const {
  const std::string line = encode(command);
  if (::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
    throw std::runtime_error("send to the supervisor");
}

Process Rig::rank(std::int32_t number, std::int32_t world, const std::string& shell_line) const {
  Process p;
  p.argv = {binary("tutti-rank"), "--shell", shell_line};
  p.env = {{"RANK", std::to_string(number)},
           {"WORLD_SIZE", std::to_string(world)},
           {"LOCAL_RANK", std::to_string(number)},
           {"LOCAL_WORLD_SIZE", std::to_string(world)},
           {"SCRATCH", dir() + "/scratch"}};
  std::string devices;
  for (const Device& d : config.devices) devices += (devices.empty() ? "" : ",") + d.path;
  if (!devices.empty()) p.env["TUTTI_SIM_DEVICES"] = devices;
  p.log = "logs/keeper-" + std::to_string(number) + ".log";
  p.is_rank = true;
  return p;
}

void Rig::launch_ranks(const std::vector<std::string>& shell_lines) {
  Launch launch;
  const auto world = static_cast<std::int32_t>(shell_lines.size());
  for (std::int32_t i = 0; i < world; ++i)
    launch.processes.push_back(rank(i, world, shell_lines[static_cast<std::size_t>(i)]));
  send(launch);
}

Status Rig::wait_for(const std::function<bool(const Status&)>& wanted, int seconds) {
  const std::int64_t until = boot_us() + seconds * kSecond;
  while (true) {
    for (std::size_t end; (end = text_.find('\n')) != std::string::npos;) {
      last_ = text_.substr(0, end);
      text_.erase(0, end + 1);
      const Status status = decode_status(last_);
      if (wanted(status)) return status;
    }
    char chunk[8192];
    const ssize_t n = readable_within(socket_.get(), until) ? recv(socket_.get(), chunk, sizeof chunk, 0) : 0;
    if (n <= 0)
      throw std::runtime_error("the wanted status did not come; the last one: " + last_ +
                               "\nlog: " + read_file(dir() + "/supervisor.log").value_or(""));
    text_.append(chunk, static_cast<std::size_t>(n));
  }
}

Status Rig::wait_for_phase(protocol::Phase phase) {
  return wait_for([phase](const Status& s) {
    if (s.phase == protocol::Phase::ended && phase != s.phase)
      throw std::runtime_error("ended early: " + encode(s));
    return s.phase == phase;
  });
}

std::string Rig::wait_for_file(const std::string& path, int seconds) const {
  const std::int64_t until = boot_us() + seconds * kSecond;
  const Fd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  const std::string parent = std::filesystem::path(path).parent_path();
  if (inotify_add_watch(watch.get(), parent.c_str(), IN_CLOSE_WRITE | IN_MOVED_TO | IN_MODIFY) < 0)
    throw std::runtime_error("inotify " + parent);
  while (true) {
    const auto text = read_file(path);
    if (text && !text->empty() && text->back() == '\n') return *text;
    if (!readable_within(watch.get(), until))
      throw std::runtime_error("no file " + path +
                               "\nlog: " + read_file(dir() + "/supervisor.log").value_or(""));
    char events[4096];
    (void)!read(watch.get(), events, sizeof events);
  }
}

void Rig::kill_supervisor() {
  kill(supervisor_, SIGKILL);
  waitpid(supervisor_, nullptr, 0);
  supervisor_ = 0;
}

int Rig::wait_for_exit() {
  if (!Pinned(supervisor_).dies_within(kPatienceSeconds)) throw std::runtime_error("the supervisor stays");
  int status = 0;
  waitpid(supervisor_, &status, 0);
  supervisor_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace tutti::supervisor::testing
