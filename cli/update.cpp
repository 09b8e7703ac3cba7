// update: changes of a job that waits or runs, against the version that was looked at (If-Match).
//
// A job changes its version whenever anything happens to it, so a refusal (412) mostly has nothing to do with
// what is asked for. Then we look again: if nobody has changed the same fields, the change is sent once more.
#include <boost/json/serialize.hpp>
#include <charconv>
#include <ostream>

#include "cli/bulk.h"
#include "cli/documents.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

json::value or_none(const std::string& text) {
  return text == "none" ? json::value(nullptr) : json::value(text);
}

json::object change_body(const UpdateOptions& options) {
  json::object change;
  if (options.priority >= 0) change["priority"] = options.priority;
  for (const auto& [field, value] :
       {std::pair{"time_limit", &options.time_limit},
        std::pair{"total_time_limit", &options.total_time_limit},
        std::pair{"begin_time", &options.begin_time}, std::pair{"deadline", &options.deadline}})
    if (!value->empty()) change[field] = or_none(*value);
  for (const auto& label : options.labels) {
    const auto equals = label.find('=');
    if (equals == 0 || equals == std::string::npos)
      throw Failure(Exit::usage, "--set-label " + label + ": expected NAME=VALUE, or NAME= to remove it");
    if (!change.contains("labels")) change["labels"] = json::object();
    const std::string value = label.substr(equals + 1);
    change["labels"].get_object()[label.substr(0, equals)] =
        value.empty() ? json::value(nullptr) : json::value(value);
  }
  if (change.empty())
    throw Failure(Exit::usage, "update: nothing is to be changed",
                  "--priority, --time-limit, --total-time-limit, --begin-time, --deadline or --set-label");
  return change;
}

// What the job has in a field that an update may change; it is in the job or in its spec.
json::value field_of(const json::object& job, std::string_view field) {
  for (const json::object* from : {&job, &object_of(job, "spec")})
    if (const auto* value = from->if_contains(field); value != nullptr) return *value;
  return nullptr;
}

std::string shown(const json::value& value) {
  if (value.is_null()) return "none";
  return value.is_structured() ? json::serialize(value) : scalar_text(value);
}

std::string version_of(const Document& job) {
  if (const auto tag = job.head.header("ETag"); !tag.empty()) return std::string(tag);
  return "\"" + text_of(as_object(job.tree), "version") + "\"";
}

void check_unchanged(const std::string& id, const json::object& change, const json::object& before,
                     const json::object& after) {
  for (const auto& member : change) {
    const json::value was = field_of(before, member.key()), is = field_of(after, member.key());
    if (was != is)
      throw Failure(Exit::failed,
                    "job " + id + ": " + std::string(member.key()) + " was changed meanwhile from " +
                        shown(was) + " to " + shown(is),
                    "run it again if it is still wanted");
  }
}

Document send(Session& session, const std::string& id, const json::object& change,
              const std::string& reason) {
  const std::string path = "/v1/jobs/" + id;
  json::object body = change;
  if (!reason.empty()) body["reason"] = reason;
  const Document before = session.client.get(path);
  try {
    return session.client.patch(path, body, {{"If-Match", version_of(before)}});
  } catch (const Failure& failure) {
    if (integer_of(failure.problem, "status") != 412) throw;
  }
  const Document after = session.client.get(path);
  check_unchanged(id, change, as_object(before.tree), as_object(after.tree));
  return session.client.patch(path, body, {{"If-Match", version_of(after)}});
}

std::string changes_text(const json::object& change, const json::object& job) {
  std::string text;
  for (const auto& member : change)
    text += (text.empty() ? "" : ", ") + std::string(member.key()) + " " +
            shown(field_of(job, member.key())) + " → " + shown(member.value());
  return text;
}

void update_one(Session& session, const UpdateOptions& options, const json::object& change,
                const std::string& id) {
  if (options.dry_run) {
    const Document job = session.client.get("/v1/jobs/" + id);
    session.print_one(
        job, "job " + id + ": would change " + clean(changes_text(change, as_object(job.tree))) + "\n");
    return;
  }
  const Document job = send(session, id, change, options.reason);
  std::string fields;
  for (const auto& member : change)
    fields += (fields.empty() ? "" : ", ") + std::string(member.key()) + " " +
              shown(field_of(as_object(job.tree), member.key()));
  session.print_one(job, "job " + id + " is changed: " + clean(fields) + "\n");
}

}  // namespace

int run_update(Session& session, const UpdateOptions& options) {
  check_targets("update", options.ids, options.filter);
  const json::object change = change_body(options);
  if (options.ids.empty()) {
    json::object filter = filter_body(options.filter, session.look.now);
    if (options.filter.states.empty()) filter["state"] = json::array{"pending", "active"};
    json::object body{{"action", "update"}, {"filter", std::move(filter)}, {"change", change}};
    if (!options.reason.empty()) body["reason"] = options.reason;
    return run_bulk(session, std::move(body), {"update", options.yes, options.dry_run, options.limit});
  }
  const std::vector<std::string> ids = expand_ids(session, options.ids);
  if (ids.size() > 1 && !options.yes && !options.dry_run)
    ask_yes(session, "update " + std::to_string(ids.size()) + " jobs");
  return each_job(session, ids, [&](const std::string& id) { update_one(session, options, change, id); });
}

}  // namespace tutti::cli
