// The command line of `tutti`: flags that all verbs have, and how a verb is added. commands.h lists who adds
// which; main.cpp parses and runs. Every verb has an example, which --help, the man page and the tests show.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/verbs.h"

namespace tutti::cli {

struct Globals {
  ConnectionFlags connection;
  double retry_for = 30, timeout = 30;  // seconds
  std::string format = "table";
  std::vector<std::string> columns;
  bool utc = false;
};

class CommandLine {
 public:
  CommandLine();  // with all verbs
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  struct Text {
    std::string name, what, example;  // the example without "tutti"
  };
  using Run = std::function<int(Session&)>;          // with a server
  using Local = std::function<int(const Printer&)>;  // without one
  CLI::App* verb(const Text& text, Run run, CLI::App* noun = nullptr);
  CLI::App* local_verb(const Text& text, Local run, CLI::App* noun = nullptr);
  // A word that verbs come after: `tutti node drain`.
  CLI::App* noun(const std::string& name, const std::string& what);
  // The verbs that are added from now on stand below this title in --help.
  void group(const std::string& title) { group_ = title; }

  CLI::App app;
  Globals globals;
  Run chosen;  // by the parse: one of the two
  Local chosen_local;
  // The server that `chosen` talks to, where that is not simply the one of the flags.
  std::function<Connection()> connection;

 private:
  CLI::App* add(const Text& text, CLI::App* noun);
  std::string group_;
};

Look terminal_look(const Globals& globals);
Format format_of(const std::string& name);
std::chrono::milliseconds milliseconds_of(double seconds);
// Runs what the parse has chosen.
int run_chosen(const CommandLine& line);

// Every verb of the tree, nouns left out, in order.
std::vector<const CLI::App*> verbs_of(const CLI::App& app);
// "tutti node drain"
std::string full_name(const CLI::App& verb);

// An option that may be given several times, one value each.
CLI::Option* repeated(CLI::Option* option);

}  // namespace tutti::cli
