// What a shell asks when somebody presses the tabulator key: the tree of verbs and flags, and names that the
// server knows. The server is asked once, for a short time; if it does not answer, there are no names.
#include <algorithm>
#include <boost/json/parse.hpp>
#include <ostream>

#include "cli/commands/commands.h"
#include "cli/documents.h"
#include "cli/profile.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::milliseconds kPatience(1500);

struct Candidate {
  std::string word, what;
};
using Candidates = std::vector<Candidate>;

Candidates words_of(std::initializer_list<const char*> words) {
  Candidates all;
  for (const char* word : words) all.push_back({word, ""});
  return all;
}

json::value ask(const CommandLine& line, const std::string& path) {
  try {
    Transfer transfer(find_connection(line.globals.connection));
    const Outcome outcome =
        transfer.perform({.method = "GET", .path = path, .headers = {}, .body = {}}, kPatience);
    boost::system::error_code ec;
    json::value tree = json::parse(outcome.reply.body, ec);
    if (!ec && outcome.reply.status == 200) return tree;
  } catch (const Failure&) {  // no server is known
  }
  return nullptr;
}

Candidates names_of(const CommandLine& line, const std::string& list) {
  Candidates all;
  const json::value tree = ask(line, "/v1/" + list);
  for (const auto& item : array_of(as_object(tree), list)) {
    const json::object& row = as_object(item);
    all.push_back({text_of(row, "name"), list == "nodes" ? text_of(row, "state") : ""});
  }
  return all;
}

Candidates jobs_of(const CommandLine& line, bool by_name) {
  Candidates all;
  const json::value tree = ask(line, "/v1/jobs?page_size=200");
  for (const auto& item : array_of(as_object(tree), "jobs")) {
    const json::object& job = as_object(item);
    const std::string id = text_of(job, "id"), name = text_of(job, "name"), state = text_of(job, "state");
    if (by_name)
      all.push_back({name, "job " + id + ", " + state});
    else
      all.push_back({id, name + ", " + state});
  }
  return all;
}

Candidates contexts() {
  Candidates all;
  try {
    for (const auto& context : load_profile(profile_path()).contexts)
      all.push_back({context.name, context.server});
  } catch (const Failure&) {  // a broken file is said when a verb needs it
  }
  return all;
}

// Values of a flag or a positional, by its name; none: files, which the shell knows better.
Candidates values_of(const CommandLine& line, const std::string& name, const std::string& typed) {
  if (name == "job" || name == "--job" || name == "--array")
    return jobs_of(line, !typed.empty() && (typed[0] < '0' || typed[0] > '9'));
  if (name == "node" || name == "--node" || name == "--nodes") return names_of(line, "nodes");
  if (name == "project" || name == "--project" || name == "--projects" || name == "--parent")
    return names_of(line, "projects");
  if (name == "queue" || name == "--queue" || name == "--nodes-of") return names_of(line, "queues");
  if (name == "reservation") return names_of(line, "reservations");
  if (name == "webhook") return names_of(line, "webhooks");
  if (name == "user" || name == "--user" || name == "--who") return names_of(line, "users");
  if (name == "context-name" || name == "--context") return contexts();
  if (name == "shell") return words_of({"bash", "zsh", "fish"});
  if (name == "--output") return words_of({"table", "wide", "json", "yaml", "csv"});
  if (name == "--state")
    return words_of({"pending", "active", "terminal", "queued", "delayed", "blocked", "held", "starting",
                     "running", "stopping", "succeeded", "failed", "cancelled"});
  if (name == "--group-by") return words_of({"project", "user", "queue", "day", "cause"});
  if (name == "--scopes") return words_of({"read", "submit", "operate", "admin"});
  return {};
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// A flag of this verb, or of those it belongs to.
const CLI::Option* find_flag(const CLI::App* app, const std::string& word) {
  for (; app != nullptr; app = app->get_parent())
    if (const CLI::Option* option = app->get_option_no_throw(word); option != nullptr) return option;
  return nullptr;
}

const CLI::App* subcommand(const CLI::App& app, const std::string& word) {
  const auto named = app.get_subcommands([&](const CLI::App* sub) { return sub->get_name() == word; });
  return named.empty() ? nullptr : named.front();
}

std::string long_name(const CLI::Option& option) {
  return option.get_lnames().empty() ? option.get_name() : "--" + option.get_lnames().front();
}

class Completion {
 public:
  Completion(CommandLine& line, std::vector<std::string> words) : line_(line), words_(std::move(words)) {
    if (words_.empty()) words_.emplace_back();
    // bash takes "=" for a word of its own.
    std::erase(words_, "=");
    typed_ = words_.back();
  }

  Candidates candidates() {
    walk();
    Candidates all;
    if (only_positionals_)
      all = positionals();
    else if (pending_ != nullptr)
      all = values_of(line_, long_name(*pending_), typed_);
    else if (const auto equals = typed_.find('='); typed_.starts_with("--") && equals != std::string::npos)
      all = assigned(typed_.substr(0, equals), typed_.substr(equals + 1));
    else if (typed_.starts_with('-'))
      all = flags();
    else
      all = positionals();
    std::erase_if(all, [&](const Candidate& c) { return c.word.empty() || !c.word.starts_with(typed_); });
    return all;
  }

 private:
  // The words before the last: which verb, how many positionals, and whether a flag still waits for its
  // value.
  void walk() {
    at_ = &line_.app;
    for (std::size_t i = 0; i + 1 < words_.size(); ++i) {
      const std::string& word = words_[i];
      if (pending_ != nullptr) {
        take(*pending_, word);
        pending_ = nullptr;
      } else if (only_positionals_) {
        ++given_;
      } else if (word == "--") {
        only_positionals_ = true;
      } else if (word.starts_with('-') && word.size() > 1) {
        const auto equals = word.find('=');
        const CLI::Option* option = find_flag(at_, word.substr(0, equals));
        if (option == nullptr || !takes_value(*option)) continue;
        if (equals == std::string::npos)
          pending_ = option;
        else
          take(*option, word.substr(equals + 1));
      } else if (const CLI::App* sub = subcommand(*at_, word); sub != nullptr && given_ == 0) {
        at_ = sub;
      } else {
        ++given_;
      }
    }
  }

  // Flags that say which server is to be asked.
  void take(const CLI::Option& option, const std::string& value) {
    const std::string name = long_name(option);
    ConnectionFlags& flags = line_.globals.connection;
    if (name == "--server") flags.server = value;
    if (name == "--token-file") flags.token_file = value;
    if (name == "--context") flags.context = value;
    if (name == "--ca") flags.ca = value;
  }

  Candidates assigned(const std::string& flag, const std::string& typed) {
    Candidates all;
    const CLI::Option* option = find_flag(at_, flag);
    if (option == nullptr) return all;
    for (const auto& value : values_of(line_, long_name(*option), typed))
      all.push_back({flag + "=" + value.word, value.what});
    return all;
  }

  Candidates flags() const {
    Candidates all;
    for (const CLI::App* app = at_; app != nullptr; app = app->get_parent())
      for (const CLI::Option* option : app->get_options())
        if (!option->get_positional() && !option->get_group().empty())
          all.push_back({long_name(*option), option->get_description()});
    return all;
  }

  Candidates positionals() const {
    Candidates all;
    if (given_ == 0)
      for (const CLI::App* sub : at_->get_subcommands([](const CLI::App*) { return true; }))
        if (!sub->get_group().empty()) all.push_back({sub->get_name(), sub->get_description()});
    if (!all.empty()) return all;
    std::size_t place = 0;
    for (const CLI::Option* option : at_->get_options()) {
      if (!option->get_positional()) continue;
      const bool many = option->get_items_expected_max() > 1;
      if (place++ == given_ || (many && place <= given_))
        return values_of(line_, option->get_name(true), typed_);
    }
    return all;
  }

  CommandLine& line_;
  std::vector<std::string> words_;
  std::string typed_;
  const CLI::App* at_ = nullptr;
  const CLI::Option* pending_ = nullptr;
  std::size_t given_ = 0;
  bool only_positionals_ = false;
};

constexpr const char* kBash = R"(# bash completion for tutti
_tutti() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("${line%%$'\t'*}")
  done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _tutti tutti
)";

constexpr const char* kZsh = R"(#compdef tutti
_tutti() {
  local -a lines candidates
  local line
  lines=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for line in $lines; do
    candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
  done
  if (( ${#candidates} )); then
    _describe -V tutti candidates
  else
    _files
  fi
}
if [ "$funcstack[1]" = "_tutti" ]; then _tutti "$@"; else compdef _tutti tutti; fi
)";

constexpr const char* kFish = R"(# fish completion for tutti
function __tutti_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete -- $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c tutti -f -a '(__tutti_complete)'
)";

}  // namespace

int run_complete(const std::vector<std::string>& words, std::ostream& out) {
  CommandLine line;
  for (const auto& [word, what] : Completion(line, words).candidates())
    out << clean(word) << "\t" << clean(what) << "\n";
  return 0;
}

std::string completion_script(const std::string& shell) {
  return shell == "bash" ? kBash : shell == "zsh" ? kZsh : kFish;
}

}  // namespace tutti::cli
