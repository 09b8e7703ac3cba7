// `tutti exec`: a program inside a running attempt, with this terminal in front of it. Called by
// commands/jobs.cpp.
//
// Messages of the WebSocket are binary; the first byte says what the rest is:
//   to the server:   0 bytes of standard input, 1 {"rows","cols"}, 2 end of standard input
//   from the server: 0 bytes of output, 3 {"exit_code"} or {"signal"}, 4 a problem (RFC 9457)
#pragma once

#include <string>
#include <vector>

#include "cli/verbs.h"

namespace tutti::cli {

struct ExecOptions {
  std::string id;
  int attempt = 0;                   // 0: the latest
  std::string node;                  // either a node …
  int rank = -1;                     // … or a rank; neither: node 0 of the gang
  std::vector<std::string> command;  // empty: the login shell of the job's user
  bool tty = false, no_tty = false;  // neither: one if standard input and output are terminals
};
// Returns the exit status of the program; 128 + number when a signal ended it.
int run_exec(Session& session, const ExecOptions& options);

}  // namespace tutti::cli
