#include "worker/service/probe_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <istream>
#include <map>
#include <system_error>
#include <utility>

#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {

namespace asio = boost::asio;
using supervisor::Fd;

namespace {
constexpr std::size_t kMaxQuestions = 256;
constexpr auto kRestartAfter = std::chrono::milliseconds(500);
}  // namespace

struct ProbeProcess::State : std::enable_shared_from_this<ProbeProcess::State> {
  State(asio::io_context& io_, std::vector<std::string> argv_, Deadlines deadlines_, Events events_)
      : io(io_),
        argv(std::move(argv_)),
        deadlines(deadlines_),
        events(std::move(events_)),
        in(io_),
        out(io_),
        timer(io_) {}

  void start() {
    if (closed) return;
    try {
      spawn();
    } catch (const std::system_error& e) {
      spdlog::error("probe: {}", e.what());
      process.reset();
      lost();
    }
  }

  void spawn() {
    int to_probe[2], from_probe[2];
    if (pipe2(to_probe, O_CLOEXEC) != 0) supervisor::throw_errno("pipe");
    Fd probe_in(to_probe[0]), our_out(to_probe[1]);
    if (pipe2(from_probe, O_CLOEXEC) != 0) supervisor::throw_errno("pipe");
    Fd our_in(from_probe[0]), probe_out(from_probe[1]);
    SpawnRequest request;
    request.argv = argv;
    for (const auto& [uuid, links] : links_up)
      request.argv.insert(request.argv.end(), {"--links-up", uuid + "=" + std::to_string(links)});
    request.in = probe_in.get();
    request.out = probe_out.get();
    const auto pid = spawn_child(request);
    ++life;
    process = std::make_unique<Watched>(io, pid, [self = shared_from_this()] { self->lost(); });
    out.assign(fcntl(our_out.get(), F_DUPFD_CLOEXEC, 3));
    in.assign(fcntl(our_in.get(), F_DUPFD_CLOEXEC, 3));
    text = std::make_unique<asio::streambuf>(nvml::kMaxLineBytes);
    questions.clear();
    writing = false;
    read();
    expect_life(deadlines.first);
  }

  void expect_life(std::chrono::milliseconds within) {
    timer.expires_after(within);
    timer.async_wait([self = shared_from_this(), within](boost::system::error_code ec) {
      if (ec || self->closed || !self->process) return;
      spdlog::error("probe: no sign of life for {} ms: killed", within.count());
      self->kill_it(within);
    });
  }

  // A call into a driver that hangs may not come back, kill or not: so it counts as lost now, and as hung
  // once more each time that it is still there. No other one is started beside it: that would hang as well.
  void kill_it(std::chrono::milliseconds again) {
    events.on_hung(++hung);
    if (closed || !process) return;
    process->signal(SIGKILL);
    if (!dying) {
      dying = true;
      close_pipes();
      events.on_lost();
    }
    expect_life(again);
  }

  void close_pipes() {
    ++life;
    boost::system::error_code ec;
    in.close(ec);
    out.close(ec);
  }

  void lost() {
    if (closed) return;
    if (process) spdlog::warn("probe: process {} has ended", process->pid());
    process.reset();
    close_pipes();
    if (!std::exchange(dying, false)) events.on_lost();
    timer.expires_after(kRestartAfter);
    timer.async_wait([self = shared_from_this()](boost::system::error_code error) {
      if (!error) self->start();
    });
  }

  void read() {
    asio::async_read_until(
        in, *text, '\n', [self = shared_from_this(), life = life](boost::system::error_code ec, std::size_t) {
          if (self->closed || life != self->life || ec) return;  // its end is told by the pidfd
          std::istream lines(self->text.get());
          std::string line;
          std::getline(lines, line);
          self->take(line);
          if (!self->closed && life == self->life) self->read();
        });
  }

  void take(const std::string& line) {
    auto message = nvml::parse_message(line);
    if (const auto* e = std::get_if<nvml::ParseError>(&message)) {
      spdlog::error("probe says nonsense: {}", e->why);
      return;
    }
    const auto& m = std::get<nvml::Message>(message);
    if (std::holds_alternative<nvml::Alive>(m) || std::holds_alternative<nvml::Unavailable>(m)) {
      hung = 0;
      expect_life(deadlines.each);
    }
    if (const auto* sample = std::get_if<nvml::Sample>(&m))
      for (const auto& gpu : sample->gpus)
        if (gpu.links_up && links_up.size() < 256) links_up[gpu.uuid] = *gpu.links_up;
    events.on_message(m);
  }

  void write() {
    if (closed || !process || dying || writing || questions.empty()) return;
    writing = true;
    auto line = std::make_shared<std::string>(questions.front());
    questions.pop_front();
    asio::async_write(
        out, asio::buffer(*line),
        [self = shared_from_this(), line, life = life](boost::system::error_code ec, std::size_t) {
          if (self->closed || life != self->life || ec) return;
          self->writing = false;
          self->write();
        });
  }

  void close() {
    closed = true;
    if (process) process->signal(SIGKILL);
    process.reset();
    timer.cancel();
    boost::system::error_code ec;
    in.close(ec);
    out.close(ec);
  }

  asio::io_context& io;
  std::vector<std::string> argv;
  Deadlines deadlines;
  Events events;
  asio::posix::stream_descriptor in, out;
  asio::steady_timer timer;  // the sign of life, or the restart
  std::unique_ptr<Watched> process;
  std::unique_ptr<asio::streambuf> text;
  std::deque<std::string> questions;
  std::map<std::string, std::uint64_t> links_up;  // what one probe has learned of NVLinks, for the next
  std::int64_t life = 0;  // handlers of a former process know by it that they are late
  int hung = 0;           // deaths in a row without a sign of life
  bool writing = false, closed = false;
  bool dying = false;  // killed, told as lost, and not yet gone
};

ProbeProcess::ProbeProcess(asio::io_context& io, std::vector<std::string> argv, Deadlines deadlines,
                           Events events)
    : state_(std::make_shared<State>(io, std::move(argv), deadlines, std::move(events))) {}
ProbeProcess::~ProbeProcess() { state_->close(); }

void ProbeProcess::start() { state_->start(); }

void ProbeProcess::ask(const nvml::ProcessesCommand& command) {
  if (!state_->process || state_->dying || state_->questions.size() >= kMaxQuestions) return;
  state_->questions.push_back(nvml::encode(command) + "\n");
  state_->write();
}

}  // namespace tutti::worker
