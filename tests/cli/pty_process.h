// Runs `tutti` in a terminal of its own, as a person would. Everything has a deadline of twenty seconds.
#pragma once

#include <termios.h>

#include <string>
#include <vector>

#include "tests/cli/tutti_process.h"

namespace tutti::cli::test {

class PtyProcess {
 public:
  PtyProcess(std::vector<std::string> arguments, const TuttiProcess::Environment& environment, int rows = 24,
             int columns = 80);
  ~PtyProcess();
  PtyProcess(const PtyProcess&) = delete;
  PtyProcess& operator=(const PtyProcess&) = delete;

  void type(const std::string& bytes) const;
  void resize(int rows, int columns) const;
  void signal(int number) const;
  void wait_for_output(const std::string& text);
  const std::string& output() const { return output_; }
  termios mode() const;   // of the terminal, now
  bool blocking() const;  // reads and writes of the terminal, as its processes share it
  int wait();             // exit status; 1000 + signal

 private:
  bool pump(int milliseconds);  // false: it has closed the terminal

  int master_ = -1, slave_ = -1;
  pid_t pid_ = 0;
  std::string output_;
};

bool same_mode(const termios& a, const termios& b);

}  // namespace tutti::cli::test
