// Another program's output, within a deadline and a bound: psql for the doctor, journalctl for a bundle. Its
// standard input is empty. One thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace tutti::cli {

struct ProgramResult {
  bool found = true;   // false: there is no such program in PATH
  bool ended = true;   // false: it was killed at the deadline
  bool cut = false;    // it said more than was wanted: the rest is dropped
  int status = 0;      // its exit code; 128 + the signal
  std::string output;  // standard output; with `errors`, standard error too
};

ProgramResult run_program(const std::vector<std::string>& argv, std::chrono::milliseconds deadline,
                          std::size_t most_bytes, bool errors = false);

}  // namespace tutti::cli
