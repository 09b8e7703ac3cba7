// The person's terminal: raw mode that is undone however the process ends, questions, and secrets typed
// without an echo. Used by exec, login, secret and the bulk verbs. One object of RawTerminal at a time, main
// thread.
#pragma once

#include <termios.h>

#include <iosfwd>
#include <string>

namespace tutti::cli {

// Bytes as they are typed, nothing echoed, no signals made of them. Undone by the destructor, and by a signal
// that ends the process (INT, TERM, HUP, QUIT): its handler puts the old mode back and lets the signal do its
// work.
class RawTerminal {
 public:
  explicit RawTerminal(int fd);  // throws Failure when it is no terminal
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  void restore();  // may be called twice
};

// From /dev/tty, whatever standard input is. Throws Failure{usage} with `otherwise` as its hint when there is
// no terminal, and Failure{failed} when the person gives up (^C, ^D).
std::string ask_line(const std::string& question, const std::string& otherwise);
std::string ask_secret(const std::string& question, const std::string& otherwise);

// Up to the first line end of `in`; at most 64 KiB. Throws Failure{usage} when there is nothing.
std::string read_secret_line(std::istream& in, const std::string& what);

}  // namespace tutti::cli
