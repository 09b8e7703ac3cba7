// docs/cli/verbs.md, from the command line itself: `tutti --markdown`, which docs/reference/flags.py writes there
// and a test compares.
#include "cli/commands/commands.h"

namespace tutti::cli {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text)
    out += c == '|' ? std::string("\\|") : c == '\n' ? std::string(" ") : std::string(1, c);
  return out;
}

std::string names_of(const CLI::Option& option) {
  std::string names;
  for (const auto& name : option.get_snames()) names += (names.empty() ? "`-" : ", `-") + name + "`";
  for (const auto& name : option.get_lnames()) names += (names.empty() ? "`--" : ", `--") + name + "`";
  if (names.empty()) return option.get_name(true) + (option.get_items_expected_max() > 1 ? " …" : "");
  return names + (option.get_items_expected_max() > 0 ? " VALUE" : "");
}

std::string flags_of(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : app.get_options()) {
    if (app.get_parent() != nullptr && option->get_lnames() == std::vector<std::string>{"help"}) continue;
    out += "| " + names_of(*option) + " | " + escaped(option->get_description()) + " |\n";
  }
  return out.empty() ? out : "| | |\n|---|---|\n" + out + "\n";
}

const CLI::App& top_of(const CLI::App& verb, const CLI::App& root) {
  return verb.get_parent() == &root ? verb : top_of(*verb.get_parent(), root);
}

}  // namespace

std::string reference_page(const CommandLine& line) {
  std::string out =
      "# Verbs and flags\n\nMade by `tutti --markdown`; what the verbs have in common is in "
      "[README.md](README.md).\n\n"
      "## Flags of all verbs\n\n" +
      flags_of(line.app);
  std::string group;
  for (const CLI::App* verb : verbs_of(line.app)) {
    if (const std::string& its = top_of(*verb, line.app).get_group(); its != group) {
      group = its;
      out += "## " + group + "\n\n";
    }
    std::string example = verb->get_footer();
    example.erase(0, example.find("tutti "));
    out += "### " + full_name(*verb) + "\n\n" + verb->get_description() + "\n\n    " + example + "\n\n" +
           flags_of(*verb);
  }
  out.pop_back();
  return out;
}

}  // namespace tutti::cli
