#include "cli/sbatch_script.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <tuple>

#include "api/wire/job_spec_codec.h"
#include "api/wire/utf8.h"
#include "cli/sbatch_spec.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

// ---------------------------------------------------------------- the script as `run`

std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  while (true) {
    const auto from = text.find_first_not_of(" \t\r");
    if (from == std::string_view::npos) return words;
    const auto to = std::min(text.find_first_of(" \t\r", from), text.size());
    words.emplace_back(text.substr(from, to - from));
    text.remove_prefix(to);
  }
}

std::string file_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// A line that the script does not have.
std::string end_mark(std::string_view script) {
  std::string mark = "END_OF_SCRIPT";
  while (("\n" + std::string(script) + "\n").find("\n" + mark + "\n") != std::string::npos) mark += '_';
  return mark;
}

std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("/._-+=:,@%").find(c) != std::string_view::npos;
  });
  return plain ? word : quoted(word);
}

std::string shell_words(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += " " + shell_word(word);
  return out;
}

bool is_shell(const std::vector<std::string>& interpreter, std::string& shell) {
  std::size_t at = 0;
  if (file_of(interpreter[0]) == "env" && interpreter.size() > 1) at = 1;
  shell = file_of(interpreter[at]);
  return shell == "sh" || shell == "bash" || shell == "dash" || shell == "zsh" || shell == "ksh";
}

// ---------------------------------------------------------------- what the script calls

// Programs of Slurm in the body, which are not here.
void note_commands(std::string_view script, std::vector<SbatchNote>& warnings) {
  for (int line = 1; !script.empty(); ++line) {
    const auto end = std::min(script.find('\n'), script.size());
    const auto words = words_of(script.substr(0, end));
    script.remove_prefix(std::min(end + 1, script.size()));
    for (const auto& word : words) {
      const bool assignment = word.find('=') != std::string::npos && word[0] != '-';
      if (assignment || word == "exec" || word == "time" || word == "nohup") continue;
      if (word == "srun")
        warnings.push_back({line,
                            "srun: there is none here; mpirun starts processes on all nodes, or use "
                            "launcher torchrun or direct in a job file"});
      else if (word == "scontrol" || word == "sbatch" || word == "squeue" || word == "scancel")
        warnings.push_back({line, word + ": there is none here"});
      break;
    }
  }
}

void check_text(SbatchInput& input, std::vector<SbatchNote>& warnings, std::vector<SbatchNote>& errors) {
  if (input.script.find('\0') != std::string::npos || !wire::is_utf8(input.script))
    errors.push_back({1, "the script is not text (UTF-8)"});
  if (input.script.size() > kMaxScript)
    errors.push_back({1, "a script has at most " + std::to_string(kMaxScript >> 10) +
                             " KiB; put data into files of its own"});
  if (input.script.find("\r\n") != std::string::npos) {
    warnings.push_back({1, "the lines end as on DOS; the carriage returns are removed"});
    std::erase(input.script, '\r');
  }
}

// What only the server's own reader knows: lengths, names of variables, the size of an array.
void check_spec(const json::object& spec, std::int64_t now, std::vector<SbatchNote>& errors) {
  const Now read_at{Instant(std::chrono::seconds(now)), Mono{}};
  // As text, as it will be sent: what is no UTF-8 shows only there.
  for (const auto& problem : wire::parse_spec_json(json::serialize(spec), read_at).problems)
    errors.push_back({kCommandLine, (problem.field.empty() ? "the job" : problem.field) + ": " +
                                        problem.message +
                                        (problem.hint.empty() ? "" : " (" + problem.hint + ")")});
}

void sort_by_line(std::vector<SbatchNote>& notes) {
  std::sort(notes.begin(), notes.end(), [](const SbatchNote& a, const SbatchNote& b) {
    return std::tie(a.line, a.text) < std::tie(b.line, b.text);
  });
}

}  // namespace

std::string run_of_script(std::string_view script, const std::string& name,
                          const std::vector<std::string>& arguments, std::string* warning) {
  const auto first_line = script.substr(0, script.find('\n'));
  std::vector<std::string> interpreter;
  if (first_line.starts_with("#!")) interpreter = words_of(first_line.substr(2));
  if (interpreter.empty()) {
    if (warning != nullptr) *warning = "no #! in the first line; /bin/sh runs it";
    interpreter = {"/bin/sh"};
  }
  std::string shell;
  const bool plain = is_shell(interpreter, shell);
  if (plain && shell == "sh" && interpreter.size() == 1)
    return (arguments.empty() ? "" : "set --" + shell_words(arguments) + "\n") + std::string(script);

  const std::string mark = end_mark(script);
  const std::string text = std::string(script) + (script.ends_with('\n') ? "" : "\n");
  const std::string calling = shell_words(interpreter).substr(1);
  // The trap as in a plain `run`: the shell waits for its command to deal with a stop, then ends with its
  // status.
  if (plain)
    return "exec " + calling + " -c \"trap exit TERM INT HUP USR1 USR2\n$(cat <<'" + mark + "'\n" + text +
           mark + "\n)\" " + shell_word(name.empty() ? "script" : name) + shell_words(arguments) + "\n";
  return "script=$(mktemp) || exit\ncat >\"$script\" <<'" + mark + "'\n" + text + mark + "\nexec " + calling +
         " \"$script\"" + shell_words(arguments) + "\n";
}

std::size_t count_sbatch_options(const std::vector<std::string>& words, bool& wrapped) {
  SbatchWords found;
  const auto count = found.read(words, kCommandLine, true);
  wrapped = found.given.contains("wrap");
  return count;
}

SbatchJob read_sbatch(const SbatchInput& given) {
  SbatchInput input = given;
  SbatchJob job;
  SbatchWords words;
  check_text(input, words.warnings, words.errors);
  read_heads(input.script, words);
  words.read(input.options, kCommandLine, true);
  if (const auto wrap = words.given.find("wrap"); wrap != words.given.end())
    input.script = "#!/bin/sh\n" + wrap->second.value + "\n";
  job.spec = build_spec(input, words);
  std::string warning;
  job.spec["run"] = run_of_script(input.script, input.name, input.arguments, &warning);
  if (!warning.empty()) words.warnings.push_back({1, warning});
  note_commands(input.script, words.warnings);
  if (words.errors.empty()) check_spec(job.spec, input.calendar.now, words.errors);
  job.wait = words.given.contains("wait");
  job.follow = words.given.contains("follow");
  job.dry_run = words.given.contains("dry-run");
  job.parsable = words.given.contains("parsable");
  if (const auto key = words.given.find("key"); key != words.given.end()) job.key = key->second.value;
  sort_by_line(words.warnings);
  sort_by_line(words.errors);
  job.warnings = std::move(words.warnings);
  job.errors = std::move(words.errors);
  return job;
}

}  // namespace tutti::cli
