// Runs the `tutti` program (and others) for a test: arguments and input in, output and exit status out.
// Everything has a deadline of twenty seconds; a process that outlives its object is killed.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace tutti::cli::test {

struct Finished {
  int status = -1;  // exit status; 1000 + signal
  std::string out, err;
};

std::string bin_folder();  // TUTTI_BIN, else build/cli/bin below the source

class TuttiProcess {
 public:
  using Environment = std::map<std::string, std::string>;
  // `pass_fd` stays open in the child under the same number.
  explicit TuttiProcess(std::vector<std::string> arguments, std::string input = {},
                        const Environment& environment = {}, int pass_fd = -1);
  ~TuttiProcess();
  TuttiProcess(const TuttiProcess&) = delete;
  TuttiProcess& operator=(const TuttiProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Until standard output (or error) holds the text; throws when it does not in time or the process ends
  // first.
  void wait_for_output(const std::string& text);
  void wait_for_error(const std::string& text);
  const std::string& out() const { return out_; }
  const std::string& err() const { return err_; }
  void signal(int number) const;
  Finished wait();

 private:
  bool pump(std::chrono::steady_clock::time_point until);  // false: both ends are closed
  void wait_for(const std::string& text, const std::string& in);

  pid_t pid_ = 0;
  int out_fd_ = -1, err_fd_ = -1;
  std::string out_, err_;
};

// Without what would lead to another server, plus `added`; and as execve wants it.
std::vector<std::string> child_environment(const TuttiProcess::Environment& added);
std::vector<char*> pointers(std::vector<std::string>& texts);

Finished run_tutti(std::vector<std::string> arguments, std::string input = {},
                   const TuttiProcess::Environment& environment = {});

}  // namespace tutti::cli::test
