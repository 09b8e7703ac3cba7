// Flags of the verbs of jobs.
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>

#include "cli/commands/commands.h"
#include "cli/exec.h"

namespace tutti::cli {
namespace {

template <class T>
std::shared_ptr<T> options() {
  return std::make_shared<T>();
}

void add_edits(CLI::App* verb, SpecEdits& edits) {
  repeated(verb->add_option("--set", edits.set, "change a field: a.b=c (may be repeated)"));
  repeated(verb->add_option("--env", edits.env, "set a variable of the job: K=V (may be repeated)"));
  verb->add_option("--name", edits.name, "name the job");
}

template <class O>
void add_waiting(CLI::App* verb, O& o) {
  verb->add_option("--key", o.key, "idempotency key: the same key never submits twice");
  verb->add_flag("--wait", o.wait, "wait for the end and return the job's exit status (cancelled: 130)");
  verb->add_flag("--follow", o.follow, "print the logs of rank 0 over all attempts; implies --wait");
  verb->add_flag("--dry-run", o.dry_run, "print what would be sent");
}

void add_filter(CLI::App* verb, JobFilter& filter) {
  repeated(
      verb->add_option("--state", filter.states, "those in this state: running, pending, …")->delimiter(','));
  verb->add_option("--project", filter.project, "those of this project");
  verb->add_option("--queue", filter.queue, "those of this queue");
  verb->add_option("--user", filter.user, "those of this user");
  verb->add_option("--job-name", filter.name, "those of this name");
  repeated(verb->add_option("--label", filter.labels, "those with this label: K=V (may be repeated)"));
  verb->add_option("--since", filter.since, "those submitted since: 7d, 12h or an instant");
  verb->add_flag("--all", filter.all, "all that can be changed");
}

void add_watch(CLI::App* verb, bool& watch) {
  verb->add_flag("-w,--watch", watch, "draw again whenever something changes");
}

CLI::Option* add_job(CLI::App* verb, std::string& id) {
  return verb->add_option("job", id, "number or name of a job")->required();
}

void add_plan(CommandLine& line) {
  const auto o = options<PlanOptions>();
  CLI::App* plan =
      line.verb({"plan", "what would become of a job", "plan job.yaml, or tutti plan --job 12 --priority 80"},
                [o](Session& s) { return run_plan(s, *o); });
  plan->add_option("file", o->file, "job spec in YAML or JSON; - reads standard input");
  repeated(plan->add_option("--set", o->edits.set, "change a field: a.b=c (may be repeated)"));
  plan->add_option("--job", o->job, "number or name of a queued job, instead of a file");
  plan->add_option("--priority", o->priority, "with --job: if it had this one")->check(CLI::Range(0, 100));
  plan->add_option("--nodes", o->nodes, "with --job: if it asked for so many")->check(CLI::Range(1, 4096));
  plan->add_option("--quota", o->quota, "with --job: if its queue had so many GPUs guaranteed")
      ->check(CLI::NonNegativeNumber);
  plan->add_option("--max-gpus", o->max_gpus, "with --job: if its project might hold so many GPUs")
      ->check(CLI::NonNegativeNumber);
  plan->add_option("--time-limit", o->time_limit, "with --job: if it were this: 2h, 30m");
}

// The words after it are those of Slurm's sbatch, read by sbatch_options.h: -o is its output file there.
void add_sbatch(CommandLine& line) {
  CLI::App* sbatch = line.verb(
      {"sbatch",
       "submit a batch script of Slurm: its #SBATCH head becomes a job.\n"
       "  tutti [FLAGS] sbatch [OPTIONS OF SBATCH] [--dry-run] [--follow] [--key KEY] SCRIPT [ARGUMENTS]",
       "sbatch --time=2:00:00 train.sh 1e-4"},
      {});
  sbatch->fallthrough(false);
  sbatch->prefix_command();
  sbatch->callback([&line, sbatch] {
    line.chosen = [words = sbatch->remaining()](Session& s) { return run_sbatch(s, words); };
  });
}

void add_resubmit(CommandLine& line) {
  const auto o = options<ResubmitOptions>();
  CLI::App* verb =
      line.verb({"resubmit", "submit a job once more, changed where asked", "resubmit 12 --set nodes=2"},
                [o](Session& s) { return run_resubmit(s, *o); });
  verb->add_option("job", o->ids, "numbers or names; - reads them from standard input")->required();
  add_edits(verb, o->edits);
  add_waiting(verb, *o);
}

}  // namespace

void add_submit(CommandLine& line) {
  const auto o = options<SubmitOptions>();
  CLI::App* submit = line.verb({"submit", "submit a job", "submit job.yaml --set resources.gpus=4 --follow"},
                               [o](Session& s) { return run_submit(s, *o); });
  submit->add_option("file", o->file, "job spec in YAML or JSON; - reads standard input")->required();
  add_edits(submit, o->edits);
  add_waiting(submit, *o);
  add_sbatch(line);
  add_plan(line);
  add_resubmit(line);
}

void add_job_lists(CommandLine& line) {
  const auto o = options<ListOptions>();
  CLI::App* ls =
      line.verb({"ls", "list jobs", "ls -a --since 7d"}, [o](Session& s) { return run_ls(s, *o); });
  ls->add_flag("-a,--all", o->all, "finished jobs, too");
  repeated(ls->add_option("--state", o->states, "running, failed, …, or pending, active, terminal")
               ->delimiter(','));
  ls->add_option("--user", o->user, "of this user");
  ls->add_option("--project", o->project, "of this project");
  ls->add_option("--queue", o->queue, "of this queue");
  ls->add_option("--array", o->array, "tasks of the array with this id");
  ls->add_option("--since", o->since, "submitted since: 7d, 12h or an instant");
  ls->add_option("-n", o->limit, "at most so many [100]")->check(CLI::Range(1, 100'000));
  add_watch(ls, o->watch);

  const auto watch = options<bool>();
  CLI::App* queue = line.verb({"queue", "pending jobs in order, and why they wait", "queue -w"},
                              [watch](Session& s) { return run_queue(s, *watch); });
  add_watch(queue, *watch);
}

void add_job_views(CommandLine& line) {
  struct View {
    std::string id, at;
    bool watch = false;
  };
  const auto o = options<View>();
  CLI::App* show =
      line.verb({"show", "one job", "show 12"}, [o](Session& s) { return run_show(s, o->id, o->watch); });
  add_job(show, o->id);
  add_watch(show, o->watch);
  CLI::App* explain = line.verb({"explain", "why a job does not run", "explain 12 --at 2h"},
                                [o](Session& s) { return run_explain(s, o->id, o->at, o->watch); });
  add_job(explain, o->id);
  explain->add_option("--at", o->at, "as it was then: an instant, or 2h for two hours ago");
  add_watch(explain, o->watch);
  CLI::App* attempts = line.verb({"attempts", "the attempts of a job, with cause and place", "attempts 12"},
                                 [o](Session& s) { return run_attempts(s, o->id, o->watch); });
  add_job(attempts, o->id);
  add_watch(attempts, o->watch);
  CLI::App* checkpoints =
      line.verb({"checkpoints", "the checkpoints of a job, and how often to save", "checkpoints 12"},
                [o](Session& s) { return run_checkpoints(s, o->id, o->watch); });
  add_job(checkpoints, o->id);
  add_watch(checkpoints, o->watch);

  const auto e = options<EventOptions>();
  const auto all = options<bool>();
  CLI::App* events = line.verb({"events", "what happened", "events 12 -f"}, [e, all](Session& s) {
    if (e->id.empty() == !*all) throw Failure(Exit::usage, "events: name a job, or give --all");
    return run_events(s, *e);
  });
  events->add_option("job", e->id, "number or name of a job");
  events->add_flag("--all", *all, "of the whole cluster");
  events->add_flag("-f,--follow", e->follow, "go on, live");
  events->add_option("-n", e->limit, "the last so many [200]")->check(CLI::Range(1, 1'000'000));
}

void add_job_output(CommandLine& line) {
  const auto l = options<LogOptions>();
  CLI::App* logs = line.verb({"logs", "output of a rank", "logs 12 -f --rank 3"},
                             [l](Session& s) { return run_logs(s, *l); });
  add_job(logs, l->id);
  logs->add_flag("-f,--follow", l->follow, "go on, over all further attempts, until the job ends");
  CLI::Option* rank = logs->add_option("--rank", l->rank, "a number, or all [0]")
                          ->check(CLI::Range(0, 1'000'000) | CLI::IsMember({"all"}));
  logs->add_flag("--first-failure", l->first_failure, "of the rank that failed first")->excludes(rank);
  logs->add_option("--attempt", l->attempt, "[the latest]")->check(CLI::Range(1, 1'000'000));
  logs->add_option("--tail", l->tail, "only the last so many bytes")->check(CLI::Range(1LL, 1LL << 40));

  const auto e = options<EvidenceOptions>();
  CLI::App* evidence = line.verb(
      {"evidence", "everything known of how an attempt went, as an archive", "evidence 12 -o bundle.tar.gz"},
      [e](Session& s) { return run_evidence(s, *e); });
  add_job(evidence, e->id);
  evidence->add_option("--attempt", e->attempt, "[the latest]")->check(CLI::Range(1, 1'000'000));
  evidence->add_option("-o,--file", e->file, "[evidence-JOB-ATTEMPT.tar.gz]; - is standard output");

  const auto x = options<ExecOptions>();
  CLI::App* exec = line.verb(
      {"exec", "a program inside a running attempt, with this terminal", "exec 12 --rank 3 -- bash"},
      [x](Session& s) { return run_exec(s, *x); });
  add_job(exec, x->id);
  exec->add_option("--attempt", x->attempt, "[the latest]")->check(CLI::Range(1, 1'000'000));
  exec->add_option("--node", x->node, "on this node of the gang [its first]");
  exec->add_option("--rank", x->rank, "beside this rank")->check(CLI::Range(0, 1'000'000));
  exec->add_flag("-t,--tty", x->tty, "a terminal over there even if standard output is none");
  exec->add_flag("-T,--no-tty", x->no_tty, "no terminal over there: for pipes");
  exec->add_option("command", x->command,
                   "the program and its arguments, after -- [the login shell of the job's user]");
}

void add_job_changes(CommandLine& line) {
  for (const auto& [name, what, example] :
       {std::tuple{"cancel", "cancel jobs", "cancel 12 13 --reason \"wrong data\""},
        std::tuple{"hold", "keep pending jobs from starting", "hold --user ann --state queued"},
        std::tuple{"release", "let held jobs go on", "release 12"},
        std::tuple{"requeue", "stop jobs and queue them again", "requeue 12 --reason \"new driver\""}}) {
    const auto o = options<ChangeOptions>();
    o->verb = name;
    CLI::App* verb = line.verb({name, what, example}, [o](Session& s) { return run_change(s, *o); });
    verb->add_option("job", o->ids, "numbers or names; - reads them from standard input");
    add_filter(verb, o->filter);
    verb->add_option("--reason", o->reason, "kept with the job");
    verb->add_flag("-y,--yes", o->yes, "do not ask, whatever the number");
    verb->add_flag("--array", o->array, "every task of the array that begins with the job");
    verb->add_flag("--dry-run", o->dry_run, "show what would be changed");
    if (o->verb == "cancel")
      verb->add_option(
          "--signal", o->signal,
          "send the running ranks this, and cancel nothing: USR1, INT, …; a program that does not "
          "handle it ends by it, also a script that the line of the job only calls "
          "(bash train.sh): trap it there");
    verb->add_option("--limit", o->limit, "of a filter: at most so many [10000]")
        ->check(CLI::Range(1, 1'000'000));
  }
  const auto u = options<UpdateOptions>();
  CLI::App* update =
      line.verb({"update", "change jobs that wait or run", "update 12 --priority 80 --time-limit 2h"},
                [u](Session& s) { return run_update(s, *u); });
  update->add_option("job", u->ids, "numbers or names; - reads them from standard input");
  update->add_option("--priority", u->priority, "0 to 100, higher first")->check(CLI::Range(0, 100));
  update->add_option("--time-limit", u->time_limit, "of one attempt: 2h, 30m, none");
  update->add_option("--total-time-limit", u->total_time_limit, "of all attempts together");
  update->add_option("--begin-time", u->begin_time, "not before: an instant, +2h, none");
  update->add_option("--deadline", u->deadline, "of no use after: an instant, +2h, none");
  repeated(update->add_option("--set-label", u->labels, "K=V; K= removes it (may be repeated)"));
  add_filter(update, u->filter);
  update->add_option("--reason", u->reason, "kept with the job");
  update->add_flag("-y,--yes", u->yes, "do not ask, whatever the number");
  update->add_flag("--dry-run", u->dry_run, "show what would be changed");
  update->add_option("--limit", u->limit, "of a filter: at most so many [10000]")
      ->check(CLI::Range(1, 1'000'000));
}

}  // namespace tutti::cli
