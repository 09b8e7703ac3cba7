// show, explain and attempts: one job, closely.
#include <ostream>

#include "cli/documents.h"
#include "cli/job_details.h"
#include "cli/pages.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;
using Fields = std::vector<std::pair<std::string, Cell>>;

std::string list_numbers(const json::array& numbers) {
  std::string text;
  for (const auto& n : numbers) text += (text.empty() ? "" : ",") + scalar_text(n);
  return text;
}

std::string allocation_of(const json::object& job) {
  std::string text;
  for (const auto& item : array_of(job, "allocation")) {
    const json::object& part = as_object(item);
    text += (text.empty() ? "" : " ") + text_of(part, "node");
    if (const std::string gpus = list_numbers(array_of(part, "gpus")); !gpus.empty())
      text += "[" + gpus + "]";
  }
  return text;
}

std::string progress_of(const json::object& job) {
  const json::object& progress = object_of(job, "progress");
  std::string text = text_of(progress, "step");
  if (text.empty()) return text;
  if (const std::string total = text_of(progress, "total"); !total.empty() && total != "0")
    text += " of " + total;
  if (const auto eta = number_of(progress, "eta_seconds")) text += ", " + seconds_cell(*eta).text + " to go";
  for (const auto& metric : object_of(progress, "metrics"))
    text += ", " + std::string(metric.key()) + " " + scalar_text(metric.value());
  return text;
}

std::string labels_of(const json::object& job) {
  std::string text;
  for (const auto& label : object_of(job, "labels"))
    text += (text.empty() ? "" : " ") + std::string(label.key()) + "=" + scalar_text(label.value());
  return text;
}

std::string dependencies_of(const json::object& spec) {
  std::string text;
  for (const auto& item : array_of(spec, "depends_on")) {
    const json::object& on = as_object(item);
    const std::string tasks = text_of(on, "tasks");
    const bool whole_array = !tasks.empty() && tasks != "1";
    text += (text.empty() ? "" : ", ") + std::string(whole_array ? "array " : "job ") + text_of(on, "job") +
            " (" + text_of(on, "when") + ")";
  }
  return text;
}

std::string array_place(const json::object& spec) {
  const json::object& array = object_of(spec, "array");
  if (array.empty()) return {};
  std::string text = "task " + text_of(array, "index") + " of " + text_of(array, "tasks");
  const std::string most = text_of(array, "max_parallel");
  return most.empty() || most == "0" ? text : text + ", " + most + " at a time";
}

std::string schedule_of(const json::object& spec) {
  const json::object& schedule = object_of(spec, "schedule");
  if (schedule.empty()) return {};
  return text_of(schedule, "cron") + " UTC, overlap " + text_of(schedule, "overlap");
}

// An age says more with the word behind it.
Cell ago(std::string_view instant, const Look& look) {
  Cell cell = time_cell(instant, look);
  if (!cell.text.empty() && !look.utc && !cell.text.starts_with("in ")) cell.text += " ago";
  return cell;
}

Fields fields_of(const json::object& job, const Look& look) {
  const std::string nodes = text_of(job, "nodes");
  const std::string gpus = text_of(job, "gpus_per_node");
  Cell state = state_cell(text_of(job, "state"));
  if (const std::string cause = text_of(job, "cause"); !cause.empty()) state.text += " (" + cause + ")";
  const json::object& spec = object_of(job, "spec");
  return {{"job", {text_of(job, "id") + "  " + text_of(job, "name")}},
          {"state", state},
          {"reason", {text_of(job, "reason")}},
          {"exit code", {text_of(job, "exit_code")}},
          {"progress", {progress_of(job)}},
          {"runs on", {allocation_of(job)}},
          {"attempts", {text_of(job, "attempt")}},
          {"project", {text_of(job, "project")}},
          {"queue", {text_of(job, "queue")}},
          {"owner", {text_of(job, "owner")}},
          {"priority", {text_of(job, "priority")}},
          {"needs", {nodes.empty() ? nodes : nodes + " x " + (gpus.empty() ? "0" : gpus) + " GPUs"}},
          {"labels", {labels_of(job)}},
          {"created", ago(text_of(job, "created_at"), look)},
          {"queued", ago(text_of(job, "queued_at"), look)},
          {"not before", ago(text_of(job, "not_before"), look)},
          {"ended", ago(text_of(job, "ended_at"), look)},
          {"array", {array_place(spec)}},
          {"depends on", {dependencies_of(spec)}},
          {"schedule", {schedule_of(spec)}},
          {"scheduled by", {text_of(spec, "scheduled_by")}},
          {"launcher", {text_of(spec, "launcher")}},
          {"run", {text_of(spec, "run")}}};
}

Table fields_table(const Fields& fields) {
  Table table{{}, {{}}};
  for (const auto& [name, cell] : fields) {
    table.columns.push_back({name});
    table.rows[0].push_back(cell);
  }
  return table;
}

Table attempts_table(const json::object& body, const Look& look) {
  Table table{{{"TRY", true},
               {"STATE"},
               {"RESULT"},
               {"CAUSE"},
               {"EXIT", true},
               {"NODES", false, true},
               {"PLACED", true},
               {"RAN", true},
               {"STEPS"},
               {"EPOCH", true, false, true},
               {"DETAIL", false, true}},
              {}};
  for (const auto& item : array_of(body, "attempts")) {
    const json::object& attempt = as_object(item);
    std::string nodes;
    for (const auto& part : array_of(attempt, "gang"))
      nodes += (nodes.empty() ? "" : ",") + text_of(as_object(part), "node");
    const std::string from = text_of(attempt, "resume_step"), to = text_of(attempt, "last_step");
    const std::string steps = from.empty() && to.empty() ? "" : (from.empty() ? "0" : from) + "-" + to;
    table.rows.push_back({{text_of(attempt, "number")},
                          state_cell(text_of(attempt, "state")),
                          state_cell(text_of(attempt, "result")),
                          {text_of(attempt, "cause")},
                          {text_of(attempt, "exit_code")},
                          {nodes},
                          time_cell(text_of(attempt, "placed_at"), look),
                          span_cell(text_of(attempt, "running_at"), text_of(attempt, "ended_at"), look),
                          {steps},
                          {text_of(attempt, "epoch")},
                          {text_of(attempt, "detail")}});
  }
  return table;
}

// "" for the present.
std::string past_head(const json::object& body, const Look& look) {
  const std::string at = text_of(body, "at"), recorded = text_of(body, "recorded_at");
  if (at.empty()) return "";
  const Cell state = state_cell(text_of(body, "state"));
  std::string head = "job " + text_of(body, "job_id") + " was " + paint(state.text, state.tone, look);
  if (!recorded.empty())
    return head + " (recorded " + time_cell(recorded, look).text + (look.utc ? ")" : " ago)");
  const bool unexplained = text_of(body, "state") == "queued";
  return unexplained ? head + "; why was not recorded (only of the first thousand in the queue)" : head;
}

}  // namespace

std::string explain_text(const json::object& body, const Look& look, const std::string& head) {
  const Cell state = state_cell(text_of(body, "state"));
  std::string text =
      head.empty() ? "job " + text_of(body, "job_id") + " is " + paint(state.text, state.tone, look) : head;
  if (const auto position = integer_of(body, "position"))
    text += *position == 0   ? ", first in the queue"
            : *position == 1 ? ", 1 job before it"
                             : ", " + std::to_string(*position) + " jobs before it";
  if (const auto* eta = body.if_contains("eta"); eta != nullptr && eta->is_object()) {
    const json::object& e = eta->get_object();
    text += "; starts " + time_cell(text_of(e, "at"), look).text + " (four of five times between " +
            time_cell(text_of(e, "from"), look).text + " and " + time_cell(text_of(e, "to"), look).text + ")";
  }
  text += "\n";
  const auto* never = body.if_contains("never");
  if (never != nullptr && (never->is_string() || flag_of(body, "never"))) {
    text += paint("it can never start as it is", Tone::bad, look);
    text += never->is_string() ? ": " + clean(scalar_text(*never)) + "\n" : "\n";
  }
  for (const auto& item : array_of(body, "reasons")) {
    const json::object& reason = as_object(item);
    text +=
        "  - " + clean(text_of(reason, "text").empty() ? text_of(reason, "code") : text_of(reason, "text"));
    text += "\n";
  }
  const json::array& blockers = array_of(body, "blockers");
  if (!blockers.empty()) text += "in its way (all of it, and nothing else):\n";
  constexpr std::size_t kShown = 12;
  for (std::size_t i = 0; i < std::min(blockers.size(), kShown); ++i)
    text += "  - " + clean(text_of(as_object(blockers[i]), "text")) + "\n";
  if (blockers.size() > kShown) text += "  … and " + std::to_string(blockers.size() - kShown) + " more\n";
  for (const auto& item : array_of(body, "would_help")) {
    const json::object& change = as_object(item);
    text += "it would start now with " + clean(text_of(change, "field")) + ": " +
            clean(text_of(change, "to")) + "\n";
  }
  return text;
}

Table reasons_table(const json::object& body) {
  Table table{{{"CODE"}, {"TEXT"}, {"NEED"}, {"HAVE"}}, {}};
  for (const auto& item : array_of(body, "reasons")) {
    const json::object& reason = as_object(item);
    table.rows.push_back({{text_of(reason, "code")},
                          {text_of(reason, "text")},
                          {text_of(reason, "need")},
                          {text_of(reason, "have")}});
  }
  return table;
}

int run_show(Session& session, const std::string& id, bool watching) {
  bool said = false;
  return draw_or_watch(session, watching, [&] {
    const Document document = session.client.get("/v1/jobs/" + percent_encode(id));
    if (const auto several = document.head.header("Tutti-Ambiguous"); !several.empty() && !said) {
      session.err << "tutti: " << clean(several) << " jobs have this name; this is the newest\n";
      said = true;
    }
    const Fields fields = fields_of(as_object(document.tree), session.look);
    session.print(
        document, [&] { return render_fields(fields, session.look); }, [&] { return fields_table(fields); });
  });
}

int run_explain(Session& session, const std::string& id, const std::string& at, bool watching) {
  const std::string job = resolve_job(session, id);
  std::string path = "/v1/jobs/" + job + "/explain";
  if (!at.empty() && watching)
    throw Failure(Exit::usage, "explain: --at is of the past, which does not change; it does not go with -w");
  if (!at.empty()) path += "?at=" + percent_encode(instant_of(at, session.look.now, "--at"));
  return draw_or_watch(session, watching, [&] {
    const Document document = session.client.get(path);
    const json::object& body = as_object(document.tree);
    // A server that does not know `at` answers of now.
    if (!at.empty() && body.if_contains("at") == nullptr)
      throw Failure(Exit::failed, "this server is too old to say why job " + job + " did not run then",
                    "tutti events " + job + " shows what happened");
    session.print(
        document, [&] { return explain_text(body, session.look, past_head(body, session.look)); },
        [&] { return reasons_table(body); });
  });
}

int run_attempts(Session& session, const std::string& id, bool watching) {
  const std::string job = resolve_job(session, id);
  return draw_or_watch(session, watching, [&] {
    const Document document = get_pages(session.client, "/v1/jobs/" + job + "/attempts", "attempts");
    session.print(document, [&] { return attempts_table(as_object(document.tree), session.look); });
  });
}

}  // namespace tutti::cli
