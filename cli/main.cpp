// tutti: parses the command line and runs what it says. Flags are in commands/, what the verbs do in verbs.h
// and the headers beside it.
#include <CLI/Formatter.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <map>

#include "cli/commands/commands.h"

namespace {

using namespace tutti::cli;

int report(const Failure& failure, bool json) {
  if (!json) {
    std::cerr << "tutti: " << failure.what() << "\n";
    if (!failure.hint.empty()) std::cerr << "hint: " << failure.hint << "\n";
    return static_cast<int>(failure.exit);
  }
  boost::json::object problem = failure.problem;
  if (problem.empty()) {
    static const std::map<Exit, const char*> codes = {{Exit::usage, "usage"},
                                                      {Exit::not_found, "not_found"},
                                                      {Exit::refused, "refused"},
                                                      {Exit::unreachable, "unreachable"}};
    const auto code = codes.find(failure.exit);
    problem = {{"type", "about:blank"},
               {"title", failure.what()},
               {"code", code == codes.end() ? "failed" : code->second},
               {"detail", failure.what()}};
  }
  // What people and programs look for, whatever the server called it.
  if (const auto* detail = problem.if_contains("detail"); !problem.contains("message"))
    problem["message"] = detail != nullptr ? *detail : boost::json::value(failure.what());
  if (!failure.hint.empty()) problem["hint"] = failure.hint;
  std::cerr << boost::json::serialize(problem) << "\n";
  return static_cast<int>(failure.exit);
}

// Also where the command line itself is wrong and was not read to its end.
bool wants_json(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "-ojson" || word == "--output=json" || word == "-o=json") return true;
    if ((word == "-o" || word == "--output") && i + 1 < argc && std::string(argv[i + 1]) == "json")
      return true;
    if (word == "--" || word == "sbatch") break;
  }
  return false;
}

int usage_error(CommandLine& line, const CLI::ParseError& error, bool json) {
  if (error.get_exit_code() == 0 || !json)
    return line.app.exit(error) == 0 ? 0 : static_cast<int>(Exit::usage);
  return report(Failure(Exit::usage, error.what(), "tutti --help"), true);
}

int run(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "__complete") {
    const int first = argc > 2 && std::string(argv[2]) == "--" ? 3 : 2;
    return run_complete({argv + std::min(first, argc), argv + argc}, std::cout);
  }
  CommandLine line;
  const std::string only = argc == 2 ? argv[1] : "";
  if (only == "--man" || only == "--markdown") {
    std::cout << (only == "--man" ? man_page(line) : reference_page(line));
    return 0;
  }
  const bool json = wants_json(argc, argv);
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return usage_error(line, error, json);
  }
  try {
    return run_chosen(line);
  } catch (const Failure& failure) {
    return report(failure, json);
  } catch (const std::exception& e) {
    return report(Failure(Exit::failed, e.what()), json);
  }
}

// A report that has not arrived on a full disk is none, whatever the server said.
int end(int status, bool json) {
  errno = 0;
  if (std::cout.flush() || status != 0) return status;
  const std::string why = errno == 0 ? "" : std::string(": ") + std::strerror(errno);
  return report(Failure(Exit::failed, "standard output cannot be written" + why), json);
}

}  // namespace

int main(int argc, char** argv) { return end(run(argc, argv), wants_json(argc, argv)); }
