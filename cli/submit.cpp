// submit: sends a job under an idempotency key, and waits for it or shows its logs when asked to.
#include <istream>
#include <ostream>

#include "cli/documents.h"
#include "cli/job_watch.h"
#include "cli/status_line.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string title(const json::object& job) {
  const std::string name = text_of(job, "name");
  return "job " + text_of(job, "id") + (name.empty() ? std::string() : " (" + clean(name) + ")");
}

Document send(Session& session, const SubmitOptions& options, SpecText spec) {
  const std::string key = options.key.empty() ? make_key() : options.key;
  try {
    return session.client.submit(std::move(spec.body), spec.content_type, key);
  } catch (Failure& failure) {
    // A refusal (4xx) left nothing behind; after anything else only the key makes a rerun safe.
    if (failure.exit == Exit::unreachable || (failure.exit == Exit::failed && failure.problem.empty())) {
      const std::string advice = "the job may have been accepted all the same; run it again with --key " +
                                 key + " and it is not submitted twice";
      failure.hint = failure.hint.empty() ? advice : advice + "\n" + failure.hint;
    }
    throw;
  }
}

void say_end(const Session& session, const json::object& job) {
  std::string line = title(job) + " " + text_of(job, "state");
  if (const std::string code = text_of(job, "exit_code"); !code.empty()) line += ", exit code " + code;
  if (const std::string cause = text_of(job, "cause"); !cause.empty()) line += ", cause " + cause;
  if (const std::string reason = text_of(job, "reason"); !reason.empty()) line += ": " + clean(reason);
  session.err << line << "\n";
}

Table job_table(const json::object& job, bool ended) {
  Table table{{{"ID"}, {"NAME"}, {"STATE"}},
              {{{text_of(job, "id")}, {text_of(job, "name")}, state_cell(text_of(job, "state"))}}};
  if (ended) {
    table.columns.push_back({"EXIT"});
    table.rows[0].push_back({text_of(job, "exit_code")});
  }
  return table;
}

std::string how_far(const json::object& job) {
  std::string text = title(job) + " " + text_of(job, "state");
  const json::object& progress = object_of(job, "progress");
  if (const std::string step = text_of(progress, "step"); !step.empty()) {
    const std::string total = text_of(progress, "total");
    text += ", step " + step + (total.empty() || total == "0" ? "" : " of " + total);
  }
  if (const std::string attempt = text_of(job, "attempt");
      !attempt.empty() && attempt != "0" && attempt != "1")
    text += ", attempt " + attempt;
  if (const std::string reason = text_of(job, "reason"); !reason.empty()) text += ": " + reason;
  return text;
}

// Until the job is over; its final document.
Document wait_for(Session& session, const std::string& id, bool follow) {
  if (follow) return follow_job(session, id, "0", 1, 0);
  JobWatch watch(session.client, id);
  StatusLine line(session);
  while (!watch.terminal()) {
    line.show(how_far(watch.job()));
    watch.wait(std::chrono::seconds(30));
  }
  return watch.document();
}

}  // namespace

int status_of_job(const json::object& job) {
  const std::string state = text_of(job, "state");
  if (state == "succeeded") return 0;
  if (state == "cancelled") return static_cast<int>(Exit::cancelled);
  const auto code = integer_of(job, "exit_code").value_or(0);
  return code > 0 && code < 256 ? static_cast<int>(code) : 1;
}

int submit_spec(Session& session, SpecText spec, const SubmitOptions& options) {
  if (options.follow && !session.human())
    throw Failure(Exit::usage, "--follow prints logs and goes with no other output format",
                  "use --wait -o json");
  if (options.dry_run) {
    session.out << spec.body << (spec.body.ends_with('\n') ? "" : "\n");
    return 0;
  }
  const Document document = send(session, options, std::move(spec));
  const json::object& job = as_object(document.tree);
  if (text_of(job, "id").empty()) throw Failure(Exit::failed, "the server's answer is not a job");
  const std::string accepted =
      title(job) + " " + text_of(job, "state") +
      (document.head.header("Idempotent-Replayed") == "true" ? " (it had been submitted before)" : "") + "\n";
  if (const auto warning = document.head.header("Tutti-Warning"); !warning.empty())
    session.err << "warning: it cannot start on this cluster as it is: " << clean(std::string(warning))
                << "\n";
  if (!options.wait && !options.follow) {
    session.print(document, [&] { return accepted; }, [&] { return job_table(job, false); });
    return 0;
  }
  // Standard output is for the logs, or for the job as it ended.
  if (session.human()) session.err << accepted << std::flush;
  const Document last = wait_for(session, text_of(job, "id"), options.follow);
  const json::object& ended = as_object(last.tree);
  if (session.human())
    say_end(session, ended);
  else
    session.print(last, [&] { return job_table(ended, true); });
  return status_of_job(ended);
}

int run_submit(Session& session, const SubmitOptions& options) {
  SpecEdits edits = options.edits;
  edits.default_project = session.client.connection().project;
  return submit_spec(session, make_spec(options.file, read_spec_file(options.file, session.in), edits),
                     options);
}

}  // namespace tutti::cli
