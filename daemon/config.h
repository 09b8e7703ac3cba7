// Where a service's settings come from: its flags, the environment, and a TOML file. Each key of the file is
// the flag of that name without "--", each variable PREFIX_NAME_OF_FLAG; a flag wins over the environment,
// that over the file. Adds --config, --check-config and --print-config to the program's flags.
//
//   CLI::App app("…");
//   add_flags(app, flags);                       // the program's own
//   Configuration configuration(app, "tutti-scheduler");
//   if (const auto status = configuration.parse(argc, argv)) return *status;
//
// A key that is not known is an error that names file, line and the nearest one that is; so is a value of
// another kind. On SIGHUP a program parses its command line anew into fresh flags and compares values().
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tutti::daemon {

class Configuration {
 public:
  enum class Check : std::uint8_t {
    none,
    quick,  // what can be looked at on this machine
    full    // and what is asked of others: database, scheduler
  };

  /// After all other flags have been added. `program` as in "tutti-scheduler". Both outlive this.
  Configuration(CLI::App& app, std::string program);

  /// An exit status, if there is nothing left to do: 0 after --help and the like, 2 after a complaint.
  std::optional<int> parse(int argc, const char* const* argv);
  /// The same, but throws std::runtime_error with the complaint instead of writing it.
  void parse_again(int argc, const char* const* argv);

  Check check() const;
  /// All keys and what they are set to, defaults where they are not.
  std::map<std::string, std::string> values() const;

 private:
  class File;
  std::string complaint(const CLI::ParseError& error) const;
  void name_environment();
  void forget_environment();

  CLI::App& app_;
  std::string program_;
  std::string check_;
  bool printed_ = false;
  std::vector<CLI::Option*> named_;  // options whose variable was named here, and is not shown by --help
  std::map<std::string, std::string> from_file_;  // key → "FILE:LINE"
};

/// TUTTI_SCHEDULER_LOG_LEVEL of tutti-scheduler and log-level.
std::string variable_of(const std::string& program, const std::string& key);
/// Every key with its help and default as a commented TOML file; those that are set stand there uncommented.
std::string config_page(const CLI::App& app, const std::string& program);
/// Options that a file may set, in the order of --help.
std::vector<const CLI::Option*> configurable(const CLI::App& app);

/// What --check-config finds. Each look throws std::exception for what is wrong.
class Findings {
 public:
  void look(const std::function<void()>& at);
  void problem(const std::string& what) { problems_.push_back(what); }
  /// Writes them; 0 if there are none, else 1.
  int finish(const std::string& program) const;

 private:
  std::vector<std::string> problems_;
};

/// The first line of a file that holds a secret. Throws std::runtime_error naming the flag.
std::string first_line_of(const std::string& flag, const std::string& file);
/// Complains of a secret that everybody on this machine may read.
void look_at_secret(const std::string& flag, const std::string& file);

}  // namespace tutti::daemon
