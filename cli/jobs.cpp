// ls and queue: many jobs, one line each.
#include <boost/json/serialize.hpp>
#include <ostream>

#include "cli/documents.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr int kPage = 500;

std::string list_query(const Session& session, const ListOptions& options) {
  std::string query;
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) query += std::string("&") + key + "=" + percent_encode(value);
  };
  if (options.states.empty() && !options.all) {
    add("state", "pending");
    add("state", "active");
  }
  for (const auto& state : options.states) add("state", state);
  add("user", options.user);
  add("project", options.project);
  add("queue", options.queue);
  if (!options.array.empty()) add("array", options.array);
  if (!options.since.empty()) add("since", instant_of(options.since, session.look.now, "--since"));
  return query;
}

// As many pages as the limit asks for, as one document.
Document fetch_jobs(const Session& session, const ListOptions& options) {
  const std::string query = list_query(session, options);
  Document all;
  json::array jobs;
  std::string token;
  for (int pages = 0;; ++pages) {
    const int left = options.limit - static_cast<int>(jobs.size());
    Document page = session.client.get("/v1/jobs?page_size=" + std::to_string(std::min(kPage, left)) + query +
                                       (token.empty() ? "" : "&page_token=" + percent_encode(token)));
    const json::object& body = as_object(page.tree);
    token = text_of(body, "next_page_token");
    const json::array& items = array_of(body, "jobs");
    if (pages == 0 && (token.empty() || static_cast<int>(items.size()) >= left)) return page;
    if (items.empty()) token.clear();
    for (const auto& item : items) jobs.push_back(item);
    if (token.empty() || static_cast<int>(jobs.size()) >= options.limit) break;
  }
  all.tree = json::object{{"jobs", std::move(jobs)}, {"next_page_token", token}};
  all.text = json::serialize(all.tree);
  return all;
}

Table jobs_table(const Session& session, const Document& document) {
  Table table{{{"ID", true},
               {"NAME", false, true},
               {"STATE"},
               {"PROJECT", false, true},
               {"QUEUE", false, true},
               {"OWNER", false, true},
               {"PRIO", true, false, true},
               {"GPUS", true},
               {"TRY", true},
               {"AGE", true},
               {"EXIT", true, false, true},
               {"CAUSE", false, true},
               {"PROGRESS", true, false, true},
               {"REASON", false, true}},
              {}};
  for (const auto& item : array_of(as_object(document.tree), "jobs")) {
    const json::object& job = as_object(item);
    const auto nodes = integer_of(job, "nodes").value_or(1);
    const auto gpus = integer_of(job, "gpus_per_node").value_or(0);
    const json::object& progress = object_of(job, "progress");
    std::string done = text_of(progress, "step");
    if (const std::string total = text_of(progress, "total"); !done.empty() && !total.empty() && total != "0")
      done += "/" + total;
    table.rows.push_back(
        {{text_of(job, "id")},
         {text_of(job, "name")},
         state_cell(text_of(job, "state")),
         {text_of(job, "project")},
         {text_of(job, "queue")},
         {text_of(job, "owner")},
         {text_of(job, "priority")},
         {nodes > 1 ? std::to_string(nodes) + "x" + std::to_string(gpus) : std::to_string(gpus)},
         {text_of(job, "attempt")},
         time_cell(text_of(job, "created_at"), session.look),
         {text_of(job, "exit_code")},
         {text_of(job, "cause")},
         {done},
         {text_of(job, "reason")}});
  }
  return table;
}

std::string reasons_of(const json::object& job) {
  std::string text;
  for (const auto& item : array_of(job, "reasons")) {
    std::string one = scalar_text(item);
    if (one.empty()) one = text_of(as_object(item), "text");
    if (!one.empty()) text += (text.empty() ? "" : "; ") + one;
  }
  return text;
}

Table queue_table(const Session& session, const Document& document) {
  Table table{{{"ID", true},
               {"NAME", false, true},
               {"STATE"},
               {"PRIO", true},
               {"POS", true},
               {"NOT BEFORE", true},
               {"ETA", true},
               {"REASONS", false, true}},
              {}};
  for (const auto& item : array_of(as_object(document.tree), "jobs")) {
    const json::object& job = as_object(item);
    table.rows.push_back({{text_of(job, "id")},
                          {text_of(job, "name")},
                          state_cell(text_of(job, "state")),
                          {text_of(job, "priority")},
                          {number_or_dash(job, "position")},
                          time_cell(text_of(job, "not_before"), session.look),
                          time_cell(text_of(object_of(job, "eta"), "at"), session.look),
                          {reasons_of(job)}});
  }
  return table;
}

}  // namespace

int run_ls(Session& session, const ListOptions& options) {
  const auto draw = [&] {
    const Document document = fetch_jobs(session, options);
    session.print(document, [&] { return jobs_table(session, document); });
    if (session.human() && !text_of(as_object(document.tree), "next_page_token").empty())
      session.err << "tutti: there are more; -n N shows more than " << options.limit << "\n";
  };
  return draw_or_watch(session, options.watch, draw);
}

int run_queue(Session& session, bool watching) {
  const auto draw = [&] {
    const Document document = session.client.get("/v1/queue");
    session.print(document, [&] { return queue_table(session, document); });
  };
  return draw_or_watch(session, watching, draw);
}

}  // namespace tutti::cli
