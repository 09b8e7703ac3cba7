#include "cli/exec.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <ostream>

#include "cli/documents.h"
#include "cli/exec_link.h"
#include "cli/terminal.h"

namespace tutti::cli {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using boost::system::error_code;

constexpr std::size_t kPiece = 16 << 10;  // of standard input
constexpr int kOutputPatienceMs = 60'000;
constexpr std::size_t kMostQueued = 256 << 10;  // then it is not read for a while

enum Kind : char {
  kBytes = 0,
  kResize = 1,
  kEndOfInput = 2,
  kExit = 3,
  kError = 4
};

std::string frame(Kind kind, std::string_view rest = {}) { return std::string(1, kind) + std::string(rest); }

int signal_number(const json::object& ended) {
  if (const auto number = integer_of(ended, "signal"); number && *number > 0 && *number < 65)
    return static_cast<int>(*number);
  const std::string name = text_of(ended, "signal");
  for (int number = 1; number < 32; ++number)
    if (const char* word = sigabbrev_np(number);
        word != nullptr && (name == word || name == "SIG" + std::string(word)))
      return number;
  return 0;
}

std::optional<winsize> window_size() {
  winsize size{};
  if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0)
    return std::nullopt;
  return size;
}

class Shell {
 public:
  Shell(Session& session, bool tty)
      : session_(session),
        tty_(tty),
        input_(io_),
        signals_(io_),
        link_(make_exec_link(io_, session.client.connection())) {}

  int run(const std::string& target) {
    target_ = target;
    open();
    try {
      io_.run();
    } catch (...) {
      release();
      throw;
    }
    release();
    if (failure_) throw *failure_;
    return status_;
  }

 private:
  void open() {
    ExecLink::Handlers handlers{[this](std::string message) { on_message(std::move(message)); },
                                [this](std::string why) { on_closed(std::move(why)); },
                                [this] { on_sent(); }};
    link_->open(target_, session_.client.patience().timeout, std::move(handlers),
                [this](const Outcome& outcome) { on_opened(outcome); });
  }

  // A standby hands over no shell: it says who leads. Our token goes to no worse place than it has been.
  bool follow_to_leader(const Outcome& outcome) {
    if (outcome.reply.status != 421 || followed_ >= 2) return false;
    const Failure failure = failure_of(outcome.reply);
    const auto* leader = failure.problem.if_contains("leader");
    if (leader == nullptr || !leader->is_string()) return false;
    const std::string url(leader->get_string());
    Connection there = session_.client.connection();
    if (there.server.starts_with("https://") && !url.starts_with("https://")) return false;
    there.server = parse_server(url).server;
    there.unix_socket.clear();
    ++followed_;
    left_ = std::exchange(link_, make_exec_link(io_, there));  // it is calling us
    open();
    return true;
  }

  void on_opened(const Outcome& outcome) {
    if (outcome.trouble == Trouble::none && follow_to_leader(outcome)) return;
    if (outcome.trouble != Trouble::none)
      return end(Failure(Exit::unreachable, "cannot reach the scheduler at " +
                                                session_.client.connection().server + ": " + outcome.why));
    if (outcome.reply.status != 101) return end(failure_of(outcome.reply));
    if (tty_) {
      raw_.emplace(STDIN_FILENO);
      send_size();
      signals_.add(SIGWINCH);
      wait_for_resize();
    }
    watch_input();
    read_input();
  }

  void send_size() {
    if (const auto size = window_size())
      link_->send(
          frame(kResize, json::serialize(json::object{{"rows", size->ws_row}, {"cols", size->ws_col}})));
  }

  void wait_for_resize() {
    signals_.async_wait([this](error_code error, int) {
      if (error) return;
      send_size();
      wait_for_resize();
    });
  }

  // Asio makes what it waits for non-blocking, and standard input shares that with standard output and with
  // the shell that started us. So it waits for an epoll set that holds it. A file or /dev/null is always
  // ready, and no epoll set takes it.
  void watch_input() {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    always_ready_ = set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, STDIN_FILENO, &wanted) != 0;
    if (set >= 0) input_.assign(set);
  }

  void read_input() {
    reading_ = true;
    if (always_ready_) return asio::post(io_, [this] { take_input(); });
    input_.async_wait(asio::posix::stream_descriptor::wait_read, [this](error_code error) {
      if (error == asio::error::operation_aborted) return;
      always_ready_ = static_cast<bool>(error);
      take_input();
    });
  }

  void take_input() {
    reading_ = false;
    if (over_) return;
    std::string piece(kPiece, '\0');
    const ssize_t n = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return read_input();
    if (n <= 0) return end_of_input();
    link_->send(frame(kBytes, std::string_view(piece).substr(0, static_cast<std::size_t>(n))));
    if (link_->queued_bytes() < kMostQueued) read_input();
  }

  void on_sent() {
    if (!reading_ && !input_over_ && !over_ && link_->queued_bytes() < kMostQueued) read_input();
  }

  void end_of_input() {
    input_over_ = true;
    link_->send(frame(kEndOfInput));
  }

  void on_message(std::string message) {
    if (message.empty() || over_) return;
    const std::string_view rest = std::string_view(message).substr(1);
    switch (message[0]) {
      case kBytes: return write_output(rest);
      case kExit: return on_exit(rest);
      case kError: return on_error(rest);
      default: return;  // of a newer server
    }
  }

  void write_output(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      pollfd room{STDOUT_FILENO, POLLOUT, 0};  // somebody else may have made it non-blocking
      if (n < 0 && errno == EAGAIN && poll(&room, 1, kOutputPatienceMs) > 0) continue;
      if (n <= 0)
        return end(Failure(Exit::failed, std::string("cannot write the output: ") + std::strerror(errno)));
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  void on_exit(std::string_view text) {
    error_code error;
    const json::value tree = json::parse(text, error);
    const json::object& ended = as_object(tree);
    if (const int number = signal_number(ended); number > 0)
      status_ = 128 + number;
    else
      status_ = static_cast<int>(integer_of(ended, "exit_code").value_or(1)) & 0xFF;
    finish();
  }

  void on_error(std::string_view text) {
    HttpReply reply;
    error_code error;
    const json::value tree = json::parse(text, error);
    reply.status = static_cast<int>(integer_of(as_object(tree), "status").value_or(500));
    reply.body = std::string(text);
    end(failure_of(reply));
  }

  void on_closed(std::string why) {
    if (!over_)
      end(Failure(Exit::unreachable, "the connection to the job is lost: " + why,
                  "what ran there has got a hang-up; tutti exec opens another"));
  }

  void end(Failure failure) {
    if (!failure_) failure_.emplace(std::move(failure));
    finish();
  }

  void finish() {
    over_ = true;
    link_->close();
    io_.stop();
  }

  // The terminal first: whatever is said afterwards has to be readable.
  void release() { raw_.reset(); }

  Session& session_;
  const bool tty_;
  asio::io_context io_;
  asio::posix::stream_descriptor input_;
  asio::signal_set signals_;
  std::string target_;
  int followed_ = 0;                       // to leaders
  std::shared_ptr<ExecLink> link_, left_;  // left_: to a standby
  std::optional<RawTerminal> raw_;
  std::optional<Failure> failure_;
  int status_ = 0;
  bool reading_ = false, always_ready_ = false, input_over_ = false, over_ = false;
};

// "/v1/jobs/12/attempts/latest/exec?tty=1&rows=24&cols=80&term=xterm&command=bash"
std::string exec_target(const std::string& job, const ExecOptions& options, bool tty) {
  std::string target = "/v1/jobs/" + job + "/attempts/" +
                       (options.attempt > 0 ? std::to_string(options.attempt) : std::string("latest")) +
                       "/exec?tty=" + (tty ? "1" : "0");
  if (const auto size = window_size(); tty && size)
    target += "&rows=" + std::to_string(size->ws_row) + "&cols=" + std::to_string(size->ws_col);
  if (const char* term = std::getenv("TERM"); tty && term != nullptr && *term != '\0')
    target += "&term=" + percent_encode(std::string_view(term).substr(0, 64));
  if (!options.node.empty()) target += "&node=" + percent_encode(options.node);
  if (options.rank >= 0) target += "&rank=" + std::to_string(options.rank);
  for (const auto& word : options.command) target += "&command=" + percent_encode(word);
  return target;
}

}  // namespace

int run_exec(Session& session, const ExecOptions& options) {
  if (!options.node.empty() && options.rank >= 0)
    throw Failure(Exit::usage, "exec: --node or --rank, not both");
  const bool here = session.input_is_terminal && session.output_is_terminal;
  if (options.tty && !session.input_is_terminal)
    throw Failure(Exit::usage, "exec: --tty needs a terminal as standard input");
  const bool tty = options.tty || (here && !options.no_tty);
  const std::string job = resolve_job(session, options.id);
  session.out.flush();
  signal(SIGPIPE, SIG_IGN);  // a reader that goes away must not leave the terminal raw
  return Shell(session, tty).run(exec_target(job, options, tty));
}

}  // namespace tutti::cli
