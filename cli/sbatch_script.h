// A batch script of Slurm as a job of Tutti: its `#SBATCH` head becomes the fields of a spec, the script
// itself `run`, with launcher script and compat slurm. Used by the verb sbatch and fuzzed (tests/fuzz). Pure.
//
// Invariants
// 1. Whatever has no counterpart is a warning that names its line; nothing is dropped in silence.
// 2. A spec without errors is one that the server can read (tests/cli/sbatch_test.cpp asks its reader).
#pragma once

#include <boost/json/object.hpp>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cli/sbatch_options.h"
#include "cli/slurm_values.h"

namespace tutti::cli {

inline constexpr std::size_t kMaxScript = 60 << 10;  // the server's bound of `run`, less what goes around it

struct SbatchInput {
  std::string script;                              // text; unused with --wrap
  std::string name;                                // file name without folders; empty: standard input
  std::vector<std::string> options;                // from the command line, all of them options
  std::vector<std::string> arguments;              // of the script
  std::string folder;                              // where it is submitted, absolute
  std::map<std::string, std::string> environment;  // of the submission, for --export=NAME
  slurm::Calendar calendar;
};

struct SbatchJob {
  boost::json::object spec;
  std::vector<SbatchNote> warnings;  // by line
  std::vector<SbatchNote> errors;    // if any, the spec is not to be used
  bool wait = false, follow = false, dry_run = false, parsable = false;
  std::string key;
};

SbatchJob read_sbatch(const SbatchInput& input);

// How many of the words are options; the next is the script, the rest its arguments. `wrapped`: there is
// none.
std::size_t count_sbatch_options(const std::vector<std::string>& words, bool& wrapped);

// What `run` is for a script: /bin/sh runs it, so other interpreters are called with the script's text.
std::string run_of_script(std::string_view script, const std::string& name,
                          const std::vector<std::string>& arguments, std::string* warning);

}  // namespace tutti::cli
