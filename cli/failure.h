// Why a command ends badly: one line for people, a hint, and the exit status. Thrown by every verb, caught
// once in main.cpp.
#pragma once

#include <boost/json/object.hpp>
#include <stdexcept>
#include <string>

namespace tutti::cli {

// What `tutti` ends with. `submit --wait` and `--follow` end with the job's own status instead.
enum class Exit : int {
  ok = 0,
  failed = 1,       // the server refused or failed the request
  usage = 2,        // the command line, or a file named on it, is wrong
  not_found = 3,    // no such job, node or attempt
  refused = 4,      // by policy: not allowed, quota, token
  unreachable = 5,  // no answer within --retry-for, or the server is unavailable for that long
  cancelled = 130   // --wait, --follow: the job was cancelled
};

class Failure : public std::runtime_error {
 public:
  Failure(Exit status, const std::string& message, std::string help = {})
      : std::runtime_error(message), exit(status), hint(std::move(help)) {}
  Exit exit;
  std::string hint;
  boost::json::object problem;  // as the server sent it; empty when it did not
};

}  // namespace tutti::cli
