// `tutti replay`: the decision log of a scheduler, decided again. Needs no server. docs/decision-log.md.
#pragma once

#include <optional>
#include <string>

#include "cli/verbs.h"

namespace tutti::cli {

struct DecisionsOptions {
  std::string path;   // a directory, or one file of it
  std::string until;  // an instant, or 2h ago; "" = to the end
  bool prove = false;
  bool queue = false;
  std::optional<std::int64_t> explain;  // a job
};

// 1 where something was decided otherwise than the log says, or the log is damaged.
int run_replay_decisions(const DecisionsOptions& options, const Printer& printer);

}  // namespace tutti::cli
