// Flags of what needs no server: up, backup, restore, simulate, replay, completion.
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <ostream>

#include "cli/backup.h"
#include "cli/commands/commands.h"
#include "cli/decisions.h"
#include "cli/simulate.h"
#include "cli/up.h"

namespace tutti::cli {
namespace {

void add_up(CommandLine& line) {
  const auto o = std::make_shared<UpOptions>();
  const auto no_workers = std::make_shared<bool>(false);
  CLI::App* sub = line.local_verb({"up", "a cluster on this machine", "up --workers 4 --gpus 8"},
                                  [o, no_workers](const Printer& printer) {
                                    if (*no_workers) o->workers = 0;
                                    return run_up(*o, printer.out, printer.err);
                                  });
  sub->add_option("--data", o->data, "directory for everything it keeps");
  sub->add_option("--workers", o->workers, "[2]")->check(CLI::Range(0, 256));
  sub->add_option("--gpus", o->gpus, "simulated GPUs of each worker [4]")->check(CLI::Range(0, 16));
  sub->add_option("--gpu-model", o->gpu_model, "[H100]");
  sub->add_option("--port", o->port, "0 = any [7070]")->check(CLI::Range(0, 65535));
  sub->add_option("--listen", o->listen, "address [127.0.0.1]");
  sub->add_flag("--no-workers", *no_workers, "the scheduler alone");
  sub->add_option("--cpus", o->cpus, "of each worker")->check(CLI::Range(1, 4096));
  sub->add_option("--job-user", o->job_user, "user that ranks run as (when root)");
  sub->add_flag("--namespaces", o->namespaces,
                "nodes get network and host-name namespaces where possible (root); the scheduler listens "
                "on their bridge");
  sub->add_flag("--write-context", o->write_context, "make it the server this user's tutti talks to");
  sub->add_option("--libexec", o->libexec, "directory of tutti-scheduler, tutti-worker, tutti-gpu-sim");
  sub->add_option("--nvml-library", o->nvml_library, "use this libnvidia-ml, not the double");
  sub->add_option("--once-ready-fd", o->ready_fd, "write the URL to this descriptor when all is up")
      ->check(CLI::Range(0, 1'000'000));
  sub->add_option("--start-timeout", o->start_timeout_seconds, "seconds [60]")->check(CLI::Range(1, 3600));
  repeated(
      sub->add_option("--scheduler-flag", o->scheduler_flags, "handed on, as --scheduler-flag=--lease=3"));
  repeated(sub->add_option("--worker-flag", o->worker_flags, "handed on to every worker"));
}

void add_place(CLI::App* sub, std::string& data, std::string& db, double& deadline) {
  sub->add_option("--data", data, "data directory of the scheduler, with its embedded PostgreSQL");
  sub->add_option("--db", db, "connection string of a PostgreSQL, instead");
  sub->add_option("--deadline", deadline, "seconds until it is given up [3600]")
      ->check(CLI::Range(1.0, 604800.0));
}

void add_backup(CommandLine& line) {
  const auto o = std::make_shared<BackupOptions>();
  CLI::App* sub =
      line.local_verb({"backup", "all that the scheduler knows, as one directory",
                       "backup /backups/tutti-monday --data /var/lib/tutti"},
                      [o](const Printer& printer) { return run_backup(*o, printer.out, printer.err); });
  sub->add_option("target", o->target, "directory to make; it must not be there yet");
  sub->add_option("--verify", o->verify, "look whether this backup is whole");
  sub->add_flag("--with-secrets", o->with_secrets, "and the files secret and token of --data");
  add_place(sub, o->data, o->db, o->deadline_seconds);
}

void add_restore(CommandLine& line) {
  const auto o = std::make_shared<RestoreOptions>();
  CLI::App* sub = line.local_verb(
      {"restore", "a backup into an empty database", "restore /backups/tutti-monday --data /var/lib/tutti"},
      [o](const Printer& printer) { return run_restore(*o, printer.out, printer.err); });
  sub->add_option("backup", o->backup, "directory that tutti backup has made")->required();
  sub->add_flag("--check", o->check, "look at backup and database, say what would be done");
  sub->add_flag("--replace", o->replace, "in the place of what is there; all schedulers are stopped");
  sub->add_option("--quiet-minutes", o->quiet_minutes,
                  "nothing begins for so long; 0 when every worker has been stopped [21]")
      ->check(CLI::Range(0.0, 10080.0));
  add_place(sub, o->data, o->db, o->deadline_seconds);
}

void add_workload(CLI::App* sub, SimulateOptions& o) {
  sub->add_option("--trace", o.trace, "CSV of jobs, plain or gzip")->required();
  sub->add_option("--cluster", o.cluster, "YAML with nodes and gpus_per_node");
  sub->add_option("--nodes", o.nodes, "instead of --cluster")->check(CLI::Range(1, 1'000'000));
  sub->add_option("--gpus-per-node", o.gpus_per_node, "[8]")->check(CLI::Range(1, 1024));
  sub->add_option("--from", o.from, "seconds of the trace to begin at")->check(CLI::NonNegativeNumber);
  sub->add_option("--to", o.to, "seconds of the trace to end before")->check(CLI::NonNegativeNumber);
  sub->add_option("--load", o.load, "press submissions together to this offered load")
      ->check(CLI::Range(0.01, 10.0));
  sub->add_option("--runs", o.runs, "the first as recorded, the others shaken [3]")
      ->check(CLI::Range(1, 100));
  sub->add_option("--shake", o.shake, "seconds that submissions are shaken by [600]")
      ->check(CLI::Range(0, 86400));
  sub->add_option("--seed", o.seed, "[1]");
}

void add_simulate(CommandLine& line) {
  const auto o = std::make_shared<SimulateOptions>();
  CLI::App* sub = line.local_verb({"simulate", "a recorded workload under the planner, in virtual time",
                                   "simulate --trace jobs.csv.gz --nodes 74 --policy easy,fair"},
                                  [o](const Printer& printer) {
                                    return run_simulate(*o, printer.format == Format::json, printer.look,
                                                        printer.out, printer.err);
                                  });
  add_workload(sub, *o);
  sub->add_option("--policy", o->policies, "fair, checkpoint, las, easy, fifo; clairvoyant: srtf, srsf")
      ->delimiter(',');
  sub->add_option("--faults", o->faults, "CSV of node faults: node,fail_s,down_s");
  sub->add_option("--fault-speed", o->fault_speed, "so many times as often [1]")->check(CLI::PositiveNumber);
  sub->add_option("--checkpoint-every", o->checkpoint_every, "seconds; what a fault loses at most [1800]")
      ->check(CLI::PositiveNumber);
  sub->add_option("--detection", o->detection, "seconds until a dead gang is known to be dead [10]")
      ->check(CLI::NonNegativeNumber);
  sub->add_option("--eta", o->etas, "tell so many jobs when they will start, and see what comes of it [0]")
      ->check(CLI::Range(0, 100'000));
  sub->add_option("--plot", o->plot, "write SVG pictures into this folder");
  sub->add_option("--restart-cost", o->restart_cost, "seconds a preempted job pays at its restart [60]")
      ->check(CLI::Range(0.0, 86400.0));
}

void add_replay(CommandLine& line) {
  const auto o = std::make_shared<DecisionsOptions>();
  CLI::App* sub = line.local_verb(
      {"replay", "a scheduler's decision log, decided again", "replay tutti-data/decisions --prove"},
      [o](const Printer& printer) { return run_replay_decisions(*o, printer); });
  sub->add_option("log", o->path, "directory of the decision log, or one file of it")->required();
  sub->add_option("--until", o->until, "as it was then: an instant, or 2h for two hours ago");
  sub->add_flag("--prove", o->prove, "compare every decision with the log; status 1 where one differs");
  sub->add_flag("--queue", o->queue, "who waited, in order and why, and who ran where");
  sub->add_option("--explain", o->explain, "why this job did not run")->check(CLI::PositiveNumber);
}

}  // namespace

void add_local(CommandLine& line) {
  add_up(line);
  add_backup(line);
  add_restore(line);
  add_simulate(line);
  add_replay(line);
  const auto shell = std::make_shared<std::string>();
  CLI::App* completion =
      line.local_verb({"completion", "help with typing, for your shell",
                       "completion bash > ~/.local/share/bash-completion/completions/tutti"},
                      [shell](const Printer& printer) {
                        printer.out << completion_script(*shell);
                        return 0;
                      });
  completion->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

}  // namespace tutti::cli
