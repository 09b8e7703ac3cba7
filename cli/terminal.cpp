#include "cli/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <istream>

#include "cli/failure.h"

namespace tutti::cli {
namespace {

constexpr std::array<int, 4> kEnding = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr std::size_t kMaxSecret = 64 << 10;

// Read by a signal handler: plain memory that does not change while `raw_fd` is set.
volatile sig_atomic_t raw_fd = -1;
termios saved_mode{};
std::array<struct sigaction, kEnding.size()> saved_actions{};

void put_back(int number) {
  if (raw_fd >= 0) tcsetattr(raw_fd, TCSANOW, &saved_mode);
  // SA_RESETHAND has made it the default again: now it ends us as if nothing had been between.
  raise(number);
}

class Tty {
 public:
  explicit Tty(const std::string& otherwise) : fd_(open("/dev/tty", O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0) throw Failure(Exit::usage, "there is no terminal to ask at", otherwise);
  }
  ~Tty() { close(fd_); }
  Tty(const Tty&) = delete;
  Tty& operator=(const Tty&) = delete;
  int fd() const { return fd_; }
  void say(const std::string& text) const { (void)!write(fd_, text.data(), text.size()); }

 private:
  int fd_;
};

void take_back(std::string& line, char c) {
  if (c == 0x15) line.clear();  // ^U
  while (c != 0x15 && !line.empty()) {
    const bool whole = (static_cast<unsigned char>(line.back()) & 0xC0) != 0x80;
    line.pop_back();
    if (whole) return;
  }
}

std::string read_line(const Tty& tty, bool raw) {
  std::string line;
  while (line.size() < kMaxSecret) {
    char c = 0;
    const ssize_t n = read(tty.fd(), &c, 1);
    if (n < 0 && errno == EINTR) continue;
    const bool given_up = n <= 0 || (raw && (c == 0x03 || (c == 0x04 && line.empty())));
    if (given_up) throw Failure(Exit::failed, "nothing was entered");
    if (c == '\n' || c == '\r') return line;
    if (raw && (c == 0x7f || c == '\b' || c == 0x15))
      take_back(line, c);
    else
      line += c;
  }
  throw Failure(Exit::usage, "this line is too long");
}

}  // namespace

RawTerminal::RawTerminal(int fd) {
  if (tcgetattr(fd, &saved_mode) != 0) throw Failure(Exit::usage, "this is not a terminal");
  raw_fd = fd;
  struct sigaction action{};
  action.sa_handler = put_back;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kEnding.size(); ++i) {
    sigaction(kEnding[i], &action, &saved_actions[i]);
    if (saved_actions[i].sa_handler == SIG_IGN) sigaction(kEnding[i], &saved_actions[i], nullptr);  // nohup
  }
  termios raw = saved_mode;
  cfmakeraw(&raw);
  tcsetattr(fd, TCSAFLUSH, &raw);
}

void RawTerminal::restore() {
  if (raw_fd < 0) return;
  tcsetattr(raw_fd, TCSADRAIN, &saved_mode);
  raw_fd = -1;
  for (std::size_t i = 0; i < kEnding.size(); ++i) sigaction(kEnding[i], &saved_actions[i], nullptr);
}

RawTerminal::~RawTerminal() { restore(); }

std::string ask_line(const std::string& question, const std::string& otherwise) {
  const Tty tty(otherwise);
  tty.say(question);
  return read_line(tty, false);
}

std::string ask_secret(const std::string& question, const std::string& otherwise) {
  const Tty tty(otherwise);
  RawTerminal raw(tty.fd());
  tty.say(question);
  try {
    std::string secret = read_line(tty, true);
    raw.restore();
    tty.say("\n");
    return secret;
  } catch (...) {
    raw.restore();
    tty.say("\n");
    throw;
  }
}

std::string read_secret_line(std::istream& in, const std::string& what) {
  std::string line;
  char c = 0;
  while (line.size() < kMaxSecret && in.get(c) && c != '\n') line += c;
  if (line.ends_with('\r')) line.pop_back();
  if (line.empty()) throw Failure(Exit::usage, "there is no " + what + " on standard input");
  return line;
}

}  // namespace tutti::cli
