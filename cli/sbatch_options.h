// The options of sbatch: read from `#SBATCH` lines and from the command line, before anybody asks what they
// mean. Used by sbatch_script.cpp. Pure.
//
// Invariants
// 1. Of an option given twice the last one counts; the command line comes after the script.
// 2. What is not an option of sbatch becomes a warning with its line, never silence.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::cli {

inline constexpr int kCommandLine = 0;  // as a line number

struct SbatchNote {
  int line = kCommandLine;  // of the script, from 1
  std::string text;         // begins with the option
};

enum class Takes {
  nothing,
  value,
  maybe  // only as --name=value
};

struct SbatchOption {
  std::string_view name;
  char letter = 0;
  Takes takes = Takes::value;
  std::string_view ignored = {};  // why it has no effect here; empty: it has one
};
std::span<const SbatchOption> sbatch_options();

struct Given {
  std::string value;
  int line = kCommandLine;
  int order = 0;  // later ones are larger
};

struct SbatchWords {
  std::map<std::string_view, Given> given;  // by SbatchOption::name
  std::vector<SbatchNote> warnings, errors;
  int count = 0;

  // Reads options until the first word that is none, or all of them; returns how many words were taken.
  std::size_t read(std::span<const std::string> words, int line, bool stop_at_other);
};

// `#SBATCH` lines up to the first command, each cut into words as sbatch does: quotes, \ and # comments.
void read_heads(std::string_view script, SbatchWords& into);

}  // namespace tutti::cli
