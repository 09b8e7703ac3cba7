// A child process with its input and output on pipes, for end-to-end tests. Every read has a deadline; the
// child is killed and reaped when the object goes.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace tutti::nvml::test {

using Milliseconds = std::chrono::milliseconds;

class Child {
 public:
  explicit Child(const std::vector<std::string>& command);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  void write_line(const std::string& line);
  void close_input();
  void kill(int signal);

  // The next line of output. Nothing when the time is over (ended() tells which) or the output has ended.
  std::optional<std::string> read_line(Milliseconds timeout);
  bool output_ended() const { return output_ended_; }
  // The status of waitpid once the child has ended within the time.
  std::optional<int> wait(Milliseconds timeout);

 private:
  pid_t pid_ = -1;
  int input_ = -1;
  int output_ = -1;
  std::string pending_;
  bool output_ended_ = false;
  std::optional<int> status_;
};

struct Finished {
  int exit_code = -1;
  std::string output;
};
// Runs a program to its end; output is what it wrote to standard output.
Finished run(const std::vector<std::string>& command);

}  // namespace tutti::nvml::test
