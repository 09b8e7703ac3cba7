// The verbs of `tutti`: one options struct and one function each. Filled and called by commands/; each
// returns the exit status or throws Failure. `tutti up` is in up.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "cli/client.h"
#include "cli/render.h"
#include "cli/spec_file.h"

namespace tutti::cli {

enum class Format {
  table,
  wide,
  json,
  yaml,
  csv
};

// How and where results are written.
struct Printer {
  Format format = Format::table;
  Look look;
  std::vector<std::string> columns;  // of tables and CSV; empty: those the verb shows
  std::ostream& out;
  std::ostream& err;

  bool human() const { return format == Format::table || format == Format::wide; }
  // The same object in the format asked for. `table` is called only when a table is wanted.
  void print(const Document& document, const std::function<Table()>& table) const;
  // Likewise, where people see something other than a table.
  void print(const Document& document, const std::function<std::string()>& text,
             const std::function<Table()>& table) const;
  void print(boost::json::value tree, const std::function<std::string()>& text,
             const std::function<Table()>& table) const;
  // Of a list of results, one after the other: a line of JSON, a YAML document, or the text.
  void print_one(const Document& document, const std::string& text) const;
};

// What a verb works with: the server, and the terminal.
struct Session : Printer {
  Session(Printer printer, Client& c, std::istream& i) : Printer(std::move(printer)), client(c), in(i) {}
  Client& client;
  std::istream& in;
  bool input_is_terminal = false;
  bool output_is_terminal = false;
  bool error_is_terminal = false;

  void refresh_now();  // ages count from here
};

// A number stays; a name becomes the id of its newest job, with a warning when there are several.
std::string resolve_job(const Session& session, const std::string& id_or_name);
// `-` is replaced by the words read from standard input.
std::vector<std::string> expand_ids(const Session& session, const std::vector<std::string>& ids);
std::string number_or_dash(const boost::json::object& object, std::string_view key);

struct SubmitOptions {
  std::string file;
  SpecEdits edits;
  std::string key;
  bool wait = false;
  bool follow = false;
  bool dry_run = false;
};
int run_submit(Session& session, const SubmitOptions& options);
// Sends a spec that is ready, and waits or follows as asked. `options.file` and `.edits` are not looked at.
int submit_spec(Session& session, SpecText spec, const SubmitOptions& options);
// What `--wait` ends with for a terminal job: its own status.
int status_of_job(const boost::json::object& job);

struct ListOptions {
  bool all = false;
  std::vector<std::string> states;
  std::string user, project, queue, since, array;
  int limit = 100;
  bool watch = false;
};
int run_ls(Session& session, const ListOptions& options);
int run_queue(Session& session, bool watch);
int run_show(Session& session, const std::string& id, bool watch);
// `at` empty: now; else an instant of the past, or an age such as 2h.
int run_explain(Session& session, const std::string& id, const std::string& at, bool watch);
struct PlanOptions {
  std::string file;  // of a job that is not submitted …
  SpecEdits edits;
  std::string job;  // … or a queued job, and what would change
  int priority = -1, nodes = 0, quota = -1, max_gpus = -1;
  std::string time_limit;
};
int run_plan(Session& session, const PlanOptions& options);
int run_attempts(Session& session, const std::string& id, bool watch);
int run_checkpoints(Session& session, const std::string& id, bool watch);

struct LogOptions {
  std::string id;
  bool follow = false;
  bool first_failure = false;  // of the rank that failed first
  std::string rank = "0";      // or "all"
  int attempt = 0;             // 0: the latest
  std::int64_t tail = 0;       // bytes; 0: all
};
int run_logs(Session& session, const LogOptions& options);
// Prints the logs of rank `rank`, attempt after attempt from `first_attempt`, until the job is terminal.
// Returns the job's final document.
Document follow_job(Session& session, const std::string& id, const std::string& rank,
                    std::int64_t first_attempt, std::int64_t tail);

struct EvidenceOptions {
  std::string id;
  int attempt = 0;   // 0: the latest
  std::string file;  // "" = evidence-ID-N.tar.gz here, "-" = standard output
};
int run_evidence(Session& session, const EvidenceOptions& options);

struct EventOptions {
  std::string id;  // empty: all
  bool follow = false;
  int limit = 200;
};
int run_events(Session& session, const EventOptions& options);

// Which jobs a bulk change is for; all that is given must hold.
struct JobFilter {
  std::vector<std::string> states, labels;
  std::string project, queue, user, name, since;
  bool all = false;  // without any other condition
  bool empty() const {
    return states.empty() && labels.empty() && project.empty() && queue.empty() && user.empty() &&
           name.empty() && since.empty() && !all;
  }
};
struct ChangeOptions {
  std::string verb;  // cancel, hold, release, requeue
  std::vector<std::string> ids;
  JobFilter filter;  // instead of ids
  std::string reason;
  std::string signal;  // of cancel: send this and end nothing
  bool yes = false;
  bool array = false;  // all tasks
  bool dry_run = false;
  int limit = 10'000;  // of a filter
};
int run_change(Session& session, const ChangeOptions& options);

struct UpdateOptions {
  std::vector<std::string> ids;
  JobFilter filter;
  int priority = -1;
  std::string time_limit, total_time_limit, begin_time, deadline;  // "none" takes it away
  std::vector<std::string> labels;                                 // K=V, or K= to remove it
  std::string reason;
  bool yes = false, dry_run = false;
  int limit = 10'000;
};
int run_update(Session& session, const UpdateOptions& options);

struct ResubmitOptions {
  std::vector<std::string> ids;
  SpecEdits edits;
  std::string key;
  bool wait = false, follow = false, dry_run = false;
};
int run_resubmit(Session& session, const ResubmitOptions& options);

// `words`: options, script and arguments as for Slurm's sbatch.
int run_sbatch(Session& session, const std::vector<std::string>& words);

int run_shares(Session& session, const std::string& kind);  // "queue", "project", "reservation"
struct ShareSet {
  std::string kind, name;
  boost::json::object body;
};
int run_share_set(Session& session, const ShareSet& set, bool dry_run);
int run_share_remove(Session& session, const std::string& kind, const std::string& name, bool dry_run);

int run_nodes(Session& session, bool watch);
int run_gpus(Session& session, bool watch);
struct NodeChange {
  std::string verb;  // drain, resume, quarantine, repair, return, retire, off, report
  std::string node;
  std::string reason;
  std::string until;  // of drain: an instant or +2h
  bool dry_run = false;
};
int run_node_change(Session& session, const NodeChange& change);
struct InspectOptions {
  std::string node;
  bool last = false;  // show the last report instead of asking for a new one
};
int run_inspect(Session& session, const InspectOptions& options);
struct FaultOptions {
  std::string node, job;
  int limit = 100;
  bool watch = false;
};
int run_faults(Session& session, const FaultOptions& options);
int run_cluster(Session& session, bool watch);
// Also without a server.
int run_version(const Printer& printer, const ConnectionFlags& flags, std::chrono::milliseconds timeout);
std::string client_version();

// Draws again whenever something happens in the cluster, until the process is ended. At most twice a second.
int watch(Session& session, const std::function<void()>& draw);
// Once, or again and again.
int draw_or_watch(Session& session, bool watching, const std::function<void()>& draw);

// A question before something is done to many things. `what`: "cancel 12 jobs". Throws Failure when the
// answer is not yes, or nobody can be asked.
void ask_yes(const Session& session, const std::string& what);
// "7d", "12h" ago or an instant, as an instant. Throws Failure{usage} that names `flag`.
std::string instant_of(const std::string& text, Instant now, const char* flag);

}  // namespace tutti::cli
