#include "cli/sbatch_options.h"

#include <algorithm>
#include <array>

namespace tutti::cli {
namespace {

constexpr std::string_view kLogs = "Tutti keeps the output of every attempt: tutti logs ID";
constexpr std::string_view kMail = "no mail is sent; tutti submit --wait and webhooks tell when a job ends";
constexpr std::string_view kNoPart = "there is nothing like it here";
constexpr std::string_view kPlacing = "Tutti places processes and memory itself";
constexpr std::string_view kWhole = "a node is shared by GPUs; ask for all GPUs of the node to have it alone";
constexpr std::string_view kRank =
    "jobs are ordered by queue, share and priority: tutti update ID --priority N";

constexpr auto kOptions = std::to_array<SbatchOption>({
    {"account", 'A'},
    {"array", 'a'},
    {"begin", 'b'},
    {"chdir", 'D'},
    {"comment"},
    {"constraint", 'C'},
    {"cpus-per-gpu"},
    {"cpus-per-task", 'c'},
    {"deadline"},
    {"dependency", 'd'},
    {"exclude", 'x'},
    {"export"},
    {"gpus", 'G'},
    {"gpus-per-node"},
    {"gpus-per-task"},
    {"gres"},
    {"job-name", 'J'},
    {"mem"},
    {"mem-per-cpu"},
    {"mem-per-gpu"},
    {"no-requeue", 0, Takes::nothing},
    {"nodelist", 'w'},
    {"nodes", 'N'},
    {"ntasks", 'n'},
    {"ntasks-per-gpu"},
    {"ntasks-per-node"},
    {"partition", 'p'},
    {"requeue", 0, Takes::nothing},
    {"signal"},
    {"spread-job", 0, Takes::nothing},
    {"time", 't'},
    {"wrap"},
    // What the command does, not what the job is.
    {"dry-run", 0, Takes::nothing},
    {"follow", 0, Takes::nothing},
    {"key"},
    {"parsable", 0, Takes::nothing},
    {"wait", 'W', Takes::nothing},
    // Said to have no effect.
    {"acctg-freq", 0, Takes::value, kNoPart},
    {"batch", 0, Takes::value, kNoPart},
    {"bb", 0, Takes::value, kNoPart},
    {"bbf", 0, Takes::value, kNoPart},
    {"cluster-constraint", 0, Takes::value, kNoPart},
    {"clusters", 'M', Takes::value, "choose the cluster with --server or --context before the verb"},
    {"container", 0, Takes::value, kNoPart},
    {"contiguous", 0, Takes::nothing, "topology.require of a job file keeps nodes near each other"},
    {"core-spec", 'S', Takes::value, kPlacing},
    {"cores-per-socket", 0, Takes::value, kPlacing},
    {"cpu-bind", 0, Takes::value, kPlacing},
    {"cpu-freq", 0, Takes::value, kNoPart},
    {"delay-boot", 0, Takes::value, kNoPart},
    {"distribution", 'm', Takes::value, kPlacing},
    {"error", 'e', Takes::value, kLogs},
    {"exclusive", 0, Takes::maybe, kWhole},
    {"export-file", 0, Takes::value, "name the variables: --export=A=1,B=2"},
    {"extra-node-info", 'B', Takes::value, kPlacing},
    {"get-user-env", 0, Takes::maybe, "name the variables: --export=A=1,B=2"},
    {"gid", 0, Takes::value, "a job runs as its submitter"},
    {"gpu-bind", 0, Takes::value, kPlacing},
    {"gpu-freq", 0, Takes::value, kNoPart},
    {"gres-flags", 0, Takes::value, kPlacing},
    {"hint", 0, Takes::value, kPlacing},
    {"hold", 'H', Takes::nothing, "hold it once it is submitted: tutti hold ID"},
    {"ignore-pbs", 0, Takes::nothing, kNoPart},
    {"input", 'i', Takes::value, "a job has no standard input; redirect it in the script"},
    {"kill-on-invalid-dep", 0, Takes::value, "a job whose dependency cannot be met is always cancelled"},
    {"licenses", 'L', Takes::value, kNoPart},
    {"mail-type", 0, Takes::value, kMail},
    {"mail-user", 0, Takes::value, kMail},
    {"mcs-label", 0, Takes::value, kNoPart},
    {"mem-bind", 0, Takes::value, kPlacing},
    {"mincpus", 0, Takes::value, "ask with --cpus-per-task"},
    {"network", 0, Takes::value, kNoPart},
    {"nice", 0, Takes::maybe, kRank},
    {"no-kill", 'k', Takes::maybe, "a gang runs on all its nodes or is started again"},
    {"nodefile", 'F', Takes::value, "name nodes to avoid with --exclude"},
    {"ntasks-per-core", 0, Takes::value, kPlacing},
    {"ntasks-per-socket", 0, Takes::value, kPlacing},
    {"open-mode", 0, Takes::value, kLogs},
    {"output", 'o', Takes::value, kLogs},
    {"overcommit", 'O', Takes::nothing, kPlacing},
    {"oversubscribe", 's', Takes::nothing, kWhole},
    {"power", 0, Takes::value, kNoPart},
    {"prefer", 0, Takes::value, "only --constraint is looked at"},
    {"priority", 0, Takes::value, kRank},
    {"profile", 0, Takes::value, kNoPart},
    {"propagate", 0, Takes::maybe, "limits of the submitting shell are not carried over"},
    {"qos", 'q', Takes::value, kRank},
    {"quiet", 'Q', Takes::nothing, "use -o json before the verb for scripts"},
    {"reboot", 0, Takes::nothing, kNoPart},
    {"reservation", 0, Takes::value, "nodes reserved for a project are used without asking"},
    {"sockets-per-node", 0, Takes::value, kPlacing},
    {"switches", 0, Takes::value, "topology.prefer of a job file keeps nodes near each other"},
    {"test-only", 0, Takes::nothing,
     "tutti -o json sbatch --dry-run SCRIPT | tutti plan - tells when it would start"},
    {"thread-spec", 0, Takes::value, kPlacing},
    {"threads-per-core", 0, Takes::value, kPlacing},
    {"time-min", 0, Takes::value, "a job has one time limit: --time"},
    {"tmp", 0, Takes::value, kNoPart},
    {"uid", 0, Takes::value, "a job runs as its submitter"},
    {"use-min-nodes", 0, Takes::nothing, "the smaller number is always taken"},
    {"verbose", 'v', Takes::nothing, kNoPart},
    {"wait-all-nodes", 0, Takes::value, "a gang starts on all its nodes together or not at all"},
    {"wckey", 0, Takes::value, "label the job instead: --comment"},
});

const SbatchOption* by_letter(char letter) {
  const auto* at = std::find_if(kOptions.begin(), kOptions.end(),
                                [&](const auto& option) { return option.letter == letter; });
  return at == kOptions.end() ? nullptr : at;
}

// By its name or, as getopt does, by a beginning that no other has.
const SbatchOption* by_name(std::string_view name, bool& ambiguous) {
  const SbatchOption* found = nullptr;
  ambiguous = false;
  for (const auto& option : kOptions) {
    if (option.name == name) {
      ambiguous = false;
      return &option;
    }
    if (!option.name.starts_with(name)) continue;
    ambiguous = found != nullptr;
    found = &option;
  }
  return ambiguous ? nullptr : found;
}

std::string shown(std::string_view text) {
  std::string out(text.substr(0, 80));
  for (char& c : out)
    if (c < 0x20 || c >= 0x7f) c = '?';  // also what a cut may have left of a character
  return text.size() > 80 ? out + "…" : out;
}

bool is_option(std::string_view word) { return word.size() > 1 && word[0] == '-'; }

class Words {
 public:
  Words(SbatchWords& into, std::span<const std::string> words, int line)
      : into_(into), words_(words), line_(line) {}

  std::size_t read(bool stop_at_other) {
    while (at_ < words_.size()) {
      const std::string_view word = words_[at_];
      if (word == "--" && stop_at_other) {
        ++at_;
        break;
      }
      if (!is_option(word)) {
        if (stop_at_other) break;
        into_.warnings.push_back({line_, "'" + shown(word) + "' is no option of sbatch"});
        ++at_;
      } else if (word.starts_with("--")) {
        read_long(word.substr(2));
      } else {
        read_letters(word.substr(1));
      }
    }
    return at_;
  }

 private:
  void read_long(std::string_view word) {
    ++at_;
    const auto equals = word.find('=');
    const auto name = word.substr(0, equals);
    bool ambiguous = false;
    const SbatchOption* option = by_name(name, ambiguous);
    const std::string as_written = "--" + shown(name);
    if (option == nullptr) {
      unknown(as_written + (ambiguous ? " could be several options" : " is no option of sbatch"));
      // A value that follows belongs to it, or it would be taken for the script.
      if (equals == std::string_view::npos && line_ != kCommandLine && at_ < words_.size() &&
          !is_option(words_[at_]))
        ++at_;
      return;
    }
    if (equals != std::string_view::npos) {
      if (option->takes == Takes::nothing)
        into_.errors.push_back({line_, "--" + std::string(option->name) + " takes no value"});
      else
        give(*option, std::string(word.substr(equals + 1)));
    } else if (option->takes != Takes::value) {
      give(*option, {});
    } else {
      take_value(*option, as_written);
    }
  }

  // -N4, -N 4, and several letters without values: -HQ.
  void read_letters(std::string_view letters) {
    ++at_;
    while (!letters.empty()) {
      const SbatchOption* option = by_letter(letters[0]);
      const std::string as_written = "-" + shown(letters.substr(0, 1));
      letters.remove_prefix(1);
      if (option == nullptr) {
        unknown(as_written + " is no option of sbatch");
        return;
      }
      if (option->takes == Takes::nothing) {
        give(*option, {});
        continue;
      }
      if (letters.starts_with('=')) letters.remove_prefix(1);
      if (!letters.empty() || option->takes == Takes::maybe)
        give(*option, std::string(letters));
      else
        take_value(*option, as_written);
      return;
    }
  }

  // A script may hold what another cluster knows; whoever types an option can be told at once.
  void unknown(std::string text) {
    (line_ == kCommandLine ? into_.errors : into_.warnings).push_back({line_, std::move(text)});
  }

  void take_value(const SbatchOption& option, const std::string& as_written) {
    if (at_ < words_.size())
      give(option, words_[at_++]);
    else
      into_.errors.push_back({line_, as_written + " needs a value"});
  }

  void give(const SbatchOption& option, std::string value) {
    into_.given[option.name] = {std::move(value), line_, into_.count++};
  }

  SbatchWords& into_;
  std::span<const std::string> words_;
  const int line_;
  std::size_t at_ = 0;
};

// Quotes group, a backslash takes the next character as it is, # begins a comment at the start of a word.
bool cut_words(std::string_view line, std::vector<std::string>& words) {
  std::string word;
  bool inside = false;  // of a word
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote != 0) {
      if (c == quote)
        quote = 0;
      else if (c == '\\' && quote == '"' && i + 1 < line.size())
        word += line[++i];
      else
        word += c;
    } else if (c == '"' || c == '\'') {
      quote = c;
      inside = true;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      if (inside) words.push_back(std::move(word));
      word.clear();
      inside = false;
    } else if (c == '#' && !inside) {
      break;
    } else {
      if (c == '\\' && i + 1 < line.size()) ++i;
      word += line[i];
      inside = true;
    }
  }
  if (inside) words.push_back(std::move(word));
  return quote == 0;
}

}  // namespace

std::span<const SbatchOption> sbatch_options() { return kOptions; }

std::size_t SbatchWords::read(std::span<const std::string> words, int line, bool stop_at_other) {
  return Words(*this, words, line).read(stop_at_other);
}

void read_heads(std::string_view script, SbatchWords& into) {
  bool commands_begun = false;
  for (int line = 1; !script.empty(); ++line) {
    const auto end = std::min(script.find('\n'), script.size());
    const auto text = script.substr(0, end);
    script.remove_prefix(std::min(end + 1, script.size()));
    const auto first = text.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) continue;
    constexpr std::string_view kHead = "#SBATCH";
    if (text.starts_with(kHead) && (text.size() == kHead.size() || text[kHead.size()] == ' ' ||
                                    text[kHead.size()] == '\t' || text[kHead.size()] == '\r')) {
      if (commands_begun) {
        into.warnings.push_back({line, "#SBATCH after the first command is not read, as with sbatch"});
        continue;
      }
      std::vector<std::string> words;
      if (!cut_words(text.substr(kHead.size()), words))
        into.errors.push_back({line, "#SBATCH: a quote is not closed"});
      else if (words.size() == 1 && (words[0] == "hetjob" || words[0] == "packjob"))
        into.errors.push_back({line, "#SBATCH " + words[0] +
                                         ": jobs of several kinds of node are not supported; "
                                         "submit one job each"});
      else
        into.read(words, line, false);
    } else if (text[first] != '#') {
      commands_begun = true;
    }
  }
}

}  // namespace tutti::cli
