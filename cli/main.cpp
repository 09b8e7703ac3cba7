// tutti: the command line's flags, and nothing else. What the verbs do is in verbs.h and up.h.
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <cstdlib>
#include <iostream>
#include <map>

#include "cli/simulate.h"
#include "cli/up.h"
#include "cli/verbs.h"

namespace {

using namespace tutti::cli;

struct Flags {
  ConnectionFlags connection;
  Patience patience;
  double retry_for = 30, timeout = 30;
  std::string format = "table";
  bool utc = false;
  std::string id;  // of verbs that take one
  bool watch = false;

  SubmitOptions submit;
  PlanOptions plan;
  ShareSet share;
  ListOptions list;
  LogOptions log;
  EvidenceOptions evidence;
  EventOptions events;
  bool all_events = false;
  ChangeOptions change;
  NodeChange node;
  InspectOptions inspect;
  FaultOptions faults;
  UpOptions up;
  SimulateOptions simulate;
  bool no_workers = false;
};

using Verb = std::function<int(Session&, Flags&)>;

Look terminal_look(const Flags& flags) {
  Look look;
  look.utc = flags.utc;
  look.wide = flags.format == "wide";
  if (isatty(STDOUT_FILENO) != 0) {
    const char* no_colour = std::getenv("NO_COLOR");
    look.colour = no_colour == nullptr || *no_colour == '\0';
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) look.width = size.ws_col;
  }
  return look;
}

// `run` is what main calls after parsing; `up` needs no server and is handled apart.
class CommandLine {
 public:
  CommandLine(CLI::App& app, Flags& flags) : app_(app), f_(flags) {
    app.require_subcommand(1);
    app.option_defaults()->always_capture_default(false);
    app.add_option("--server", f_.connection.server, "URL of the scheduler (TUTTI_SERVER)");
    app.add_option("--token-file", f_.connection.token_file,
                   "file with the token (TUTTI_TOKEN holds it itself)");
    app.add_option("--context", f_.connection.context, "file with server and token (TUTTI_CONTEXT)");
    app.add_option("--retry-for", f_.retry_for, "seconds to go on trying while the server is away [30]")
        ->check(CLI::Range(0.0, 86400.0));
    app.add_option("--timeout", f_.timeout, "seconds to wait for one answer [30]")
        ->check(CLI::Range(0.1, 3600.0));
    app.add_option("-o,--output", f_.format, "table, wide, json, yaml or csv [table]")
        ->check(CLI::IsMember({"table", "wide", "json", "yaml", "csv"}));
    app.add_flag("--utc", f_.utc, "instants in full instead of ages");
    jobs();
    changes();
    machines();
    shares();
    up();
    simulate();
  }

  Verb chosen;
  bool up_chosen = false;
  bool simulate_chosen = false;
  bool needs_server = true;

 private:
  CLI::App* verb(const char* name, const std::string& text, Verb run, CLI::App* parent = nullptr) {
    CLI::App* sub = (parent == nullptr ? app_ : *parent).add_subcommand(name, text);
    sub->fallthrough();  // -o and --server may come after the verb
    if (run) sub->callback([this, run = std::move(run)] { chosen = run; });
    return sub;
  }
  CLI::App* job_verb(const char* name, const std::string& text, int (*run)(Session&, const std::string&)) {
    CLI::App* sub = verb(name, text, [run](Session& s, Flags& f) { return run(s, f.id); });
    sub->add_option("id", f_.id, "number or name of a job")->required();
    return sub;
  }

  void jobs() {
    CLI::App* submit = verb("submit", "submit a job: tutti submit job.yaml --set resources.gpus=4 --follow",
                            [](Session& s, Flags& f) { return run_submit(s, f.submit); });
    submit->add_option("file", f_.submit.file, "job spec in YAML or JSON; - reads standard input")
        ->required();
    const auto many = [](CLI::Option* option) { option->allow_extra_args(false)->take_all(); };
    many(submit->add_option("--set", f_.submit.edits.set, "change a field: a.b=c (may be repeated)"));
    many(
        submit->add_option("--env", f_.submit.edits.env, "set a variable of the job: K=V (may be repeated)"));
    submit->add_option("--name", f_.submit.edits.name, "name the job");
    submit->add_option("--key", f_.submit.key, "idempotency key: the same key never submits twice");
    submit->add_flag("--wait", f_.submit.wait,
                     "wait for the end and return the job's exit status (cancelled: 130)");
    submit->add_flag("--follow", f_.submit.follow,
                     "print the logs of rank 0 over all attempts; implies --wait");
    submit->add_flag("--dry-run", f_.submit.dry_run, "print what would be sent");

    CLI::App* plan =
        verb("plan", "what would become of a job: tutti plan job.yaml, tutti plan --job 12 --priority 80",
             [](Session& s, Flags& f) { return run_plan(s, f.plan); });
    plan->add_option("file", f_.plan.file, "job spec in YAML or JSON; - reads standard input");
    many(plan->add_option("--set", f_.plan.edits.set, "change a field: a.b=c (may be repeated)"));
    plan->add_option("--job", f_.plan.job, "number or name of a queued job, instead of a file");
    plan->add_option("--priority", f_.plan.priority, "with --job: if it had this one")
        ->check(CLI::Range(0, 100));
    plan->add_option("--nodes", f_.plan.nodes, "with --job: if it asked for so many")
        ->check(CLI::Range(1, 4096));
    plan->add_option("--quota", f_.plan.quota, "with --job: if its queue had so many GPUs guaranteed")
        ->check(CLI::NonNegativeNumber);
    plan->add_option("--max-gpus", f_.plan.max_gpus, "with --job: if its project might hold so many GPUs")
        ->check(CLI::NonNegativeNumber);
    plan->add_option("--time-limit", f_.plan.time_limit, "with --job: if it were this: 2h, 30m");

    CLI::App* ls = verb("ls", "list jobs: tutti ls -a --since 7d", [](Session& s, Flags& f) {
      f.list.watch = f.watch;
      return run_ls(s, f.list);
    });
    ls->add_flag("-a,--all", f_.list.all, "finished jobs, too");
    many(ls->add_option("--state", f_.list.states, "running, failed, …, or pending, active, terminal")
             ->delimiter(','));
    ls->add_option("--user", f_.list.user);
    ls->add_option("--project", f_.list.project);
    ls->add_option("--queue", f_.list.queue);
    ls->add_option("--array", f_.list.array, "tasks of the array with this id");
    ls->add_option("--since", f_.list.since, "submitted since: 7d, 12h or an instant");
    ls->add_option("-n", f_.list.limit, "at most so many [100]")->check(CLI::Range(1, 100'000));
    ls->add_flag("-w,--watch", f_.watch, "draw again whenever something changes");

    job_verb("show", "one job: tutti show 12", run_show);
    CLI::App* queue = verb("queue", "pending jobs in order, and why they wait",
                           [](Session& s, Flags& f) { return run_queue(s, f.watch); });
    queue->add_flag("-w,--watch", f_.watch, "draw again whenever something changes");
    job_verb("explain", "why a job does not run: tutti explain 12", run_explain);
    job_verb("attempts", "the attempts of a job, with cause and place", run_attempts);
    job_verb("checkpoints", "the checkpoints of a job, their states, and how often to save", run_checkpoints);

    CLI::App* logs = verb("logs", "output of a rank: tutti logs 12 -f --rank 3", [](Session& s, Flags& f) {
      f.log.id = f.id;
      return run_logs(s, f.log);
    });
    logs->add_option("id", f_.id, "number or name of a job")->required();
    logs->add_flag("-f,--follow", f_.log.follow, "go on, over all further attempts, until the job ends");
    logs->add_option("--rank", f_.log.rank, "a number, or all [0]")
        ->check(CLI::Range(0, 1'000'000) | CLI::IsMember({"all"}));
    logs->add_option("--attempt", f_.log.attempt, "[the latest]")->check(CLI::Range(1, 1'000'000));
    logs->add_option("--tail", f_.log.tail, "only the last so many bytes")->check(CLI::Range(1LL, 1LL << 40));

    CLI::App* evidence =
        verb("evidence", "everything known of how an attempt went: tutti evidence 12 -o bundle.tar.gz",
             [](Session& s, Flags& f) {
               f.evidence.id = f.id;
               return run_evidence(s, f.evidence);
             });
    evidence->add_option("id", f_.id, "number or name of a job")->required();
    evidence->add_option("--attempt", f_.evidence.attempt, "[the latest]")->check(CLI::Range(1, 1'000'000));
    evidence->add_option("-o,--file", f_.evidence.file, "[evidence-ID-ATTEMPT.tar.gz]; - is standard output");

    CLI::App* events =
        verb("events", "what happened: tutti events 12 -f, tutti events --all", [](Session& s, Flags& f) {
          if (f.id.empty() == !f.all_events) throw Failure(Exit::usage, "events: name a job, or give --all");
          f.events.id = f.id;
          return run_events(s, f.events);
        });
    events->add_option("id", f_.id, "number or name of a job");
    events->add_flag("--all", f_.all_events, "of the whole cluster");
    events->add_flag("-f,--follow", f_.events.follow, "go on, live");
    events->add_option("-n", f_.events.limit, "the last so many [200]")->check(CLI::Range(1, 1'000'000));
  }

  void shares() {
    for (const auto& [noun, text] :
         {std::pair{"queue", "queues: whose nodes they use, quotas, and who holds what"},
          std::pair{"project", "projects: shares, limits, and who holds what"},
          std::pair{"reservation", "reservations of nodes for a time"}})
      verb((std::string(noun) + "s").c_str(), text,
           [kind = std::string(noun)](Session& s, Flags&) { return run_shares(s, kind); });
    CLI::App* set =
        verb("set", "set up a queue, project or reservation: tutti set queue a --quota 16", nullptr);
    CLI::App* unset = verb("unset", "remove a queue, project or reservation", nullptr);
    set->require_subcommand(1);
    unset->require_subcommand(1);
    const auto noun = [&](const char* kind, const std::string& text) {
      CLI::App* remove = verb(
          kind, "remove a " + std::string(kind),
          [kind](Session& s, Flags& f) { return run_share_remove(s, kind, f.share.name); }, unset);
      remove->add_option("name", f_.share.name)->required();
      CLI::App* sub = verb(
          kind, text,
          [kind](Session& s, Flags& f) {
            f.share.kind = kind;
            return run_share_set(s, f.share);
          },
          set);
      sub->add_option("name", f_.share.name)->required();
      return sub;
    };
    const auto put = [&](CLI::App* sub, const char* flag, const char* field, const std::string& text) {
      sub->add_option_function<std::string>(
          flag, [this, field](const std::string& v) { f_.share.body[field] = v; }, text);
    };
    const auto number = [&](CLI::App* sub, const char* flag, const char* field, const std::string& text) {
      sub->add_option_function<double>(
          flag,
          [this, field](double v) {
            f_.share.body[field] = v == static_cast<double>(static_cast<std::int64_t>(v))
                                       ? boost::json::value(static_cast<std::int64_t>(v))
                                       : boost::json::value(v);
          },
          text);
    };
    const auto names = [&](CLI::App* sub, const char* flag, const char* field, const std::string& text) {
      sub->add_option_function<std::vector<std::string>>(
             flag,
             [this, field](const std::vector<std::string>& v) {
               f_.share.body[field] = boost::json::value_from(v);
             },
             text)
          ->delimiter(',');
    };
    CLI::App* queue = noun("queue", "create or replace a queue");
    put(queue, "--nodes-of", "nodes_of", "use the nodes of this queue [its own]");
    number(queue, "--quota", "quota_gpus", "GPUs guaranteed [none: it may use all, and lends nothing]");
    number(queue, "--borrow", "borrow_gpus", "at most so many beyond the quota [all that others lend]");
    number(queue, "--lend", "lend_gpus", "at most so many of the quota to others [all]");
    CLI::App* project = noun("project", "create or replace a project");
    put(project, "--parent", "parent", "the project it is part of");
    number(project, "--weight", "weight", "share among its siblings [1]");
    number(project, "--max-gpus", "max_gpus", "held at one time, children included [no limit]");
    CLI::App* reservation = noun("reservation", "keep nodes for some projects, or for maintenance");
    names(reservation, "--nodes", "nodes", "names, with commas");
    names(reservation, "--projects", "projects", "who may use them, with commas [nobody: maintenance]");
    put(reservation, "--from", "from", "an instant, +2h or now [now]");
    put(reservation, "--until", "until", "an instant or +2h");
    put(reservation, "--reason", "reason", "for people");
  }

  void changes() {
    const std::pair<const char*, const char*> verbs[] = {
        {"cancel", "cancel jobs: tutti cancel 12 13 --reason \"wrong data\""},
        {"hold", "keep pending jobs from starting"},
        {"release", "let held jobs go on"},
        {"requeue", "stop jobs and queue them again"}};
    for (const auto& [name, text] : verbs) {
      CLI::App* sub = verb(name, text, [word = std::string(name)](Session& s, Flags& f) {
        f.change.verb = word;
        return run_change(s, f.change);
      });
      sub->add_option("id", f_.change.ids, "numbers or names; - reads them from standard input")->required();
      sub->add_option("--reason", f_.change.reason, "kept with the job");
      sub->add_flag("-y,--yes", f_.change.yes, "do not ask, whatever the number");
      sub->add_flag("--array", f_.change.array, "every task of the array that begins with the job");
      sub->add_flag("--dry-run", f_.change.dry_run, "show what would be changed");
    }
  }

  void machines() {
    CLI::App* nodes =
        verb("nodes", "the machines", [](Session& s, Flags& f) { return run_nodes(s, f.watch); });
    nodes->add_flag("-w,--watch", f_.watch, "draw again whenever something changes");
    verb("gpus", "every GPU", [](Session& s, Flags&) { return run_gpus(s); });
    CLI::App* node = verb("node", "take a machine out, or back in", nullptr);
    node->require_subcommand(1);
    for (const auto& [word, help] : std::initializer_list<std::pair<std::string, const char*>>{
             {"drain", "let nothing new start there: tutti node drain n3 --reason \"new cable\""},
             {"resume", "let work start there again: you vouch for it"},
             {"quarantine", "set it aside as bad"},
             {"repair", "somebody works on it"},
             {"return", "back from repair, on probation: gangs of several nodes rather go elsewhere"},
             {"retire", "not to be used again"},
             {"report",
              "say that it is bad: tutti node report n3 --reason \"twice as slow as the others\""}}) {
      CLI::App* sub = verb(
          word.c_str(), help,
          [word = word](Session& s, Flags& f) {
            f.node.verb = word;
            return run_node_change(s, f.node);
          },
          node);
      sub->add_option("node", f_.node.node, "name")->required();
      sub->add_option("--reason", f_.node.reason, "for whoever finds it later")->required(word != "resume");
      sub->add_flag("--dry-run", f_.node.dry_run, "show what would be changed");
    }
    CLI::App* inspect = verb(
        "inspect", "run all its checks now: tutti node inspect n3",
        [](Session& s, Flags& f) { return run_inspect(s, f.inspect); }, node);
    inspect->add_option("node", f_.inspect.node, "name")->required();
    inspect->add_flag("--last", f_.inspect.last, "show the last report instead");
    CLI::App* faults =
        verb("faults", "the fault ledger", [](Session& s, Flags& f) { return run_faults(s, f.faults); });
    faults->add_option("--node", f_.faults.node);
    faults->add_option("--job", f_.faults.job);
    faults->add_option("-n", f_.faults.limit, "the last so many [100]")->check(CLI::Range(1, 10'000));
    verb("cluster", "the whole in a few lines", [](Session& s, Flags&) { return run_cluster(s); });
    CLI::App* version = verb("version", "of this program and of the server",
                             [](Session& s, Flags&) { return run_version(s); });
    version->preparse_callback([this](std::size_t) { needs_server = false; });
  }

  void up() {
    CLI::App* sub = verb("up", "a cluster on this machine: tutti up --workers 4 --gpus 8", nullptr);
    sub->callback([this] { up_chosen = true; });
    sub->add_option("--data", f_.up.data, "directory for everything it keeps");
    sub->add_option("--workers", f_.up.workers, "[2]")->check(CLI::Range(0, 256));
    sub->add_option("--gpus", f_.up.gpus, "simulated GPUs of each worker [4]")->check(CLI::Range(0, 16));
    sub->add_option("--gpu-model", f_.up.gpu_model, "[H100]");
    sub->add_option("--port", f_.up.port, "0 = any [7070]")->check(CLI::Range(0, 65535));
    sub->add_option("--listen", f_.up.listen, "address [127.0.0.1]");
    sub->add_flag("--no-workers", f_.no_workers, "the scheduler alone");
    sub->add_option("--cpus", f_.up.cpus, "of each worker")->check(CLI::Range(1, 4096));
    sub->add_option("--job-user", f_.up.job_user, "user that ranks run as (when root)");
    sub->add_flag("--namespaces", f_.up.namespaces,
                  "nodes get network and host-name namespaces where possible (root); the scheduler listens "
                  "on their bridge");
    sub->add_flag("--write-context", f_.up.write_context, "make it the server this user's tutti talks to");
    sub->add_option("--libexec", f_.up.libexec, "directory of tutti-scheduler, tutti-worker, tutti-gpu-sim");
    sub->add_option("--nvml-library", f_.up.nvml_library, "use this libnvidia-ml, not the double");
    sub->add_option("--once-ready-fd", f_.up.ready_fd, "write the URL to this descriptor when all is up")
        ->check(CLI::Range(0, 1'000'000));
    sub->add_option("--start-timeout", f_.up.start_timeout_seconds, "seconds [60]")
        ->check(CLI::Range(1, 3600));
    const auto hand_on = [](CLI::Option* option) { option->allow_extra_args(false)->take_all(); };
    hand_on(sub->add_option("--scheduler-flag", f_.up.scheduler_flags,
                            "handed on, as --scheduler-flag=--lease=3"));
    hand_on(sub->add_option("--worker-flag", f_.up.worker_flags, "handed on to every worker"));
  }

  void simulate() {
    CLI::App* sub = verb("simulate",
                         "a recorded workload under the planner, in virtual time: tutti simulate --trace "
                         "jobs.csv.gz --nodes 74 --policy easy,fair",
                         nullptr);
    sub->callback([this] { simulate_chosen = true; });
    SimulateOptions& o = f_.simulate;
    sub->add_option("--trace", o.trace, "CSV of jobs, plain or gzip")->required();
    sub->add_option("--cluster", o.cluster, "YAML with nodes and gpus_per_node");
    sub->add_option("--faults", o.faults, "CSV of node faults: node,fail_s,down_s");
    sub->add_option("--fault-speed", o.fault_speed, "so many times as often [1]")->check(CLI::PositiveNumber);
    sub->add_option("--checkpoint-every", o.checkpoint_every, "seconds; what a fault loses at most [1800]")
        ->check(CLI::PositiveNumber);
    sub->add_option("--detection", o.detection, "seconds until a dead gang is known to be dead [10]")
        ->check(CLI::NonNegativeNumber);
    sub->add_option("--eta", o.etas, "tell so many jobs when they will start, and see what comes of it [0]")
        ->check(CLI::Range(0, 100'000));
    sub->add_option("--plot", o.plot, "write SVG pictures into this folder");
    sub->add_option("--nodes", o.nodes)->check(CLI::Range(1, 1'000'000));
    sub->add_option("--gpus-per-node", o.gpus_per_node, "[8]")->check(CLI::Range(1, 1024));
    sub->add_option("--policy", o.policies, "fair, checkpoint, las, easy, fifo; clairvoyant: srtf, srsf")
        ->delimiter(',');
    sub->add_option("--from", o.from, "seconds of the trace to begin at")->check(CLI::NonNegativeNumber);
    sub->add_option("--to", o.to, "seconds of the trace to end before")->check(CLI::NonNegativeNumber);
    sub->add_option("--load", o.load, "press submissions together to this offered load")
        ->check(CLI::Range(0.01, 10.0));
    sub->add_option("--runs", o.runs, "the first as recorded, the others shaken [3]")
        ->check(CLI::Range(1, 100));
    sub->add_option("--shake", o.shake, "seconds that submissions are shaken by [600]")
        ->check(CLI::Range(0, 86400));
    sub->add_option("--seed", o.seed, "[1]");
    sub->add_option("--restart-cost", o.restart_cost, "seconds a preempted job pays at its restart [60]")
        ->check(CLI::Range(0.0, 86400.0));
  }

  CLI::App& app_;
  Flags& f_;
};

int report(const Failure& failure, const std::string& format) {
  if (format == "json") {
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
    if (!failure.hint.empty()) problem["hint"] = failure.hint;
    std::cerr << boost::json::serialize(problem) << "\n";
  } else {
    std::cerr << "tutti: " << failure.what() << "\n";
    if (!failure.hint.empty()) std::cerr << "hint: " << failure.hint << "\n";
  }
  return static_cast<int>(failure.exit);
}

Connection find_or_none(const ConnectionFlags& flags) {
  try {
    return find_connection(flags);
  } catch (const Failure&) {
    return {};
  }
}

int run(Flags& flags, const CommandLine& line) {
  if (line.up_chosen) {
    if (flags.no_workers) flags.up.workers = 0;
    return run_up(flags.up, std::cout, std::cerr);
  }
  if (line.simulate_chosen)
    return run_simulate(flags.simulate, flags.format == "json", terminal_look(flags), std::cout, std::cerr);
  static const std::map<std::string, Format> formats = {{"table", Format::table},
                                                        {"wide", Format::wide},
                                                        {"json", Format::json},
                                                        {"yaml", Format::yaml},
                                                        {"csv", Format::csv}};
  const auto ms = [](double seconds) {
    return std::chrono::milliseconds(static_cast<long long>(seconds * 1000));
  };
  flags.patience = {line.needs_server ? ms(flags.retry_for) : ms(0), ms(flags.timeout)};
  Client client(line.needs_server ? find_connection(flags.connection) : find_or_none(flags.connection),
                flags.patience, [&](const std::string& note) {
                  if (flags.format != "json") std::cerr << "tutti: " << note << std::endl;
                });
  Session session{.client = client,
                  .format = formats.at(flags.format),
                  .look = terminal_look(flags),
                  .input_is_terminal = isatty(STDIN_FILENO) != 0,
                  .output_is_terminal = isatty(STDOUT_FILENO) != 0,
                  .in = std::cin,
                  .out = std::cout,
                  .err = std::cerr};
  session.refresh_now();
  return line.chosen(session, flags);
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app{
      "Tutti: jobs for GPU training, all together or not at all\n"
      "Exit status: 0 ok, 1 failed request, 2 usage, 3 not found, 4 refused by policy,\n"
      "5 server unreachable; with --wait and --follow the job's own, 130 when it was cancelled"};
  CommandLine line(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(Exit::usage);
  }
  try {
    return run(flags, line);
  } catch (const Failure& failure) {
    return report(failure, flags.format);
  } catch (const std::exception& e) {
    std::cerr << "tutti: " << e.what() << "\n";
    return static_cast<int>(Exit::failed);
  }
}
