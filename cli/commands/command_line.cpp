#include "cli/commands/command_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <cstdlib>
#include <iostream>
#include <map>

#include "cli/commands/commands.h"

namespace tutti::cli {
namespace {

const std::map<std::string, Format> kFormats = {{"table", Format::table},
                                                {"wide", Format::wide},
                                                {"json", Format::json},
                                                {"yaml", Format::yaml},
                                                {"csv", Format::csv}};

constexpr const char* kAbout =
    "Tutti: jobs for GPU training, all together or not at all\n"
    "Exit status: 0 ok, 1 failed request, 2 usage, 3 not found, 4 refused by policy,\n"
    "5 server unreachable; with --wait and --follow the job's own, 130 when it was cancelled";

void add_globals(CLI::App& app, Globals& globals) {
  app.add_option("--server", globals.connection.server, "URL of the scheduler (TUTTI_SERVER)");
  app.add_option("--token-file", globals.connection.token_file,
                 "file with the token (TUTTI_TOKEN holds it itself)");
  app.add_option("--ca", globals.connection.ca, "file with the certificates to trust (TUTTI_CA)");
  app.add_option("--context", globals.connection.context,
                 "name of a context, or a file with server and token (TUTTI_CONTEXT)");
  app.add_option("--retry-for", globals.retry_for, "seconds to go on trying while the server is away [30]")
      ->check(CLI::Range(0.0, 86400.0));
  app.add_option("--timeout", globals.timeout, "seconds to wait for one answer [30]")
      ->check(CLI::Range(0.1, 3600.0));
  app.add_option("-o,--output", globals.format, "table, wide, json, yaml or csv [table]")
      ->check(CLI::IsMember({"table", "wide", "json", "yaml", "csv"}));
  app.add_option("--columns", globals.columns, "only these columns, with commas: id,state,reason")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_flag("--utc", globals.utc, "instants in full instead of ages");
}

Printer make_printer(const Globals& globals) {
  if (!globals.columns.empty() && (globals.format == "json" || globals.format == "yaml"))
    throw Failure(Exit::usage, "--columns goes with table, wide and csv; JSON and YAML are always whole");
  Printer printer{.format = format_of(globals.format),
                  .look = terminal_look(globals),
                  .columns = globals.columns,
                  .out = std::cout,
                  .err = std::cerr};
  printer.look.now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  return printer;
}

}  // namespace

CommandLine::CommandLine() : app(kAbout, "tutti") {
  app.require_subcommand(1);
  app.option_defaults()->always_capture_default(false);
  add_globals(app, globals);
  group("Jobs");
  add_submit(*this);
  add_job_lists(*this);
  add_job_views(*this);
  add_job_output(*this);
  add_job_changes(*this);
  group("The cluster");
  add_nodes(*this);
  add_cluster(*this);
  add_shares(*this);
  group("People");
  add_login(*this);
  add_users(*this);
  add_webhooks(*this);
  group("On this machine");
  add_local(*this);
}

CLI::App* CommandLine::add(const Text& text, CLI::App* noun) {
  CLI::App* sub = (noun == nullptr ? app : *noun).add_subcommand(text.name, text.what);
  sub->fallthrough();  // -o and --server may come after the verb
  sub->group(noun == nullptr ? group_ : "Subcommands");
  sub->footer(text.example.empty() ? "" : "Example:\n  tutti " + text.example);
  return sub;
}

CLI::App* CommandLine::verb(const Text& text, Run run, CLI::App* noun) {
  CLI::App* sub = add(text, noun);
  sub->callback([this, run = std::move(run)] { chosen = run; });
  return sub;
}

CLI::App* CommandLine::local_verb(const Text& text, Local run, CLI::App* noun) {
  CLI::App* sub = add(text, noun);
  sub->callback([this, run = std::move(run)] { chosen_local = run; });
  return sub;
}

CLI::App* CommandLine::noun(const std::string& name, const std::string& what) {
  CLI::App* sub = add({name, what, ""}, nullptr);
  sub->require_subcommand(1);
  return sub;
}

Look terminal_look(const Globals& globals) {
  Look look;
  look.utc = globals.utc;
  look.wide = globals.format == "wide";
  if (isatty(STDOUT_FILENO) != 0) {
    const char* no_colour = std::getenv("NO_COLOR");
    look.colour = no_colour == nullptr || *no_colour == '\0';
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) look.width = size.ws_col;
  }
  return look;
}

Format format_of(const std::string& name) { return kFormats.at(name); }

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<long long>(seconds * 1000));
}

int run_chosen(const CommandLine& line) {
  const Globals& globals = line.globals;
  Printer printer = make_printer(globals);
  if (line.chosen_local) return line.chosen_local(printer);
  const Patience patience{milliseconds_of(globals.retry_for), milliseconds_of(globals.timeout)};
  Client client(line.connection ? line.connection() : find_connection(globals.connection), patience,
                [&](const std::string& note) {
                  if (globals.format != "json") std::cerr << "tutti: " << note << std::endl;
                });
  Session session(std::move(printer), client, std::cin);
  session.input_is_terminal = isatty(STDIN_FILENO) != 0;
  session.output_is_terminal = isatty(STDOUT_FILENO) != 0;
  session.error_is_terminal = isatty(STDERR_FILENO) != 0;
  return line.chosen(session);
}

std::vector<const CLI::App*> verbs_of(const CLI::App& app) {
  std::vector<const CLI::App*> all;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (sub->get_group().empty()) continue;  // hidden
    const auto below = verbs_of(*sub);
    if (below.empty())
      all.push_back(sub);
    else
      all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

std::string full_name(const CLI::App& verb) {
  const CLI::App* parent = verb.get_parent();
  return parent == nullptr ? verb.get_name() : full_name(*parent) + " " + verb.get_name();
}

CLI::Option* repeated(CLI::Option* option) { return option->allow_extra_args(false)->take_all(); }

}  // namespace tutti::cli
