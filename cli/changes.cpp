// cancel, hold, release, requeue: of named jobs, one request each, all of them tried, the first failure
// decides the status. Of a filter, one request that the server carries out, after a count and a question.
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <istream>
#include <ostream>

#include "cli/bulk.h"
#include "cli/documents.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr int kMostTasks = 10'000;       // of one array
constexpr std::size_t kBulkPage = 1000;  // jobs of one request, as the server's bound

// {"array": 12, "changed": 30, "refused": 2}
void report_array(const Session& session, const Document& document, const std::string& verb) {
  const json::object& done = as_object(document.tree);
  std::string text =
      "array " + text_of(done, "array") + ": " + verb + " done to " + text_of(done, "changed") + " tasks";
  if (text_of(done, "refused") != "0") text += ", not possible for " + text_of(done, "refused");
  session.print_one(document, text + "\n");
}

std::string plural(std::size_t n) { return std::to_string(n) + (n == 1 ? " job" : " jobs"); }

void report(const Session& session, const Document& document, const std::string& done) {
  const json::object& job = as_object(document.tree);
  const std::string name = text_of(job, "name");
  session.print_one(document, "job " + text_of(job, "id") + (name.empty() ? "" : " (" + clean(name) + ")") +
                                  done + text_of(job, "state") + "\n");
}

void would_change_array(Session& session, const std::string& id, const std::string& verb) {
  if (session.human()) session.out << "would " << verb << " these tasks:\n";
  ListOptions tasks;
  tasks.array = id;
  tasks.limit = kMostTasks;
  run_ls(session, tasks);
}

void change_one(Session& session, const ChangeOptions& options, const std::string& id) {
  const std::string path = "/v1/jobs/" + id;
  json::object body;
  if (!options.signal.empty()) body["signal"] = options.signal;
  if (!options.reason.empty()) body["reason"] = options.reason;
  if (options.dry_run && options.array)
    would_change_array(session, id, options.verb);
  else if (options.dry_run)
    report(session, session.client.get(path), ": would " + options.verb + " it; now ");
  else if (options.array)
    report_array(session, session.client.post(path + ":" + options.verb + "?array=1", body), options.verb);
  else if (!options.signal.empty())
    report(session, session.client.post(path + ":" + options.verb, body),
           " was sent " + options.signal + "; it is ");
  else
    report(session, session.client.post(path + ":" + options.verb, body), " is ");
}

// Jobs that a verb can do something to, when nobody says which.
json::array usual_states(const std::string& verb) {
  if (verb == "release") return {"held"};
  if (verb == "hold") return {"queued", "delayed", "blocked"};
  if (verb == "requeue") return {"active"};
  return {"pending", "active"};
}

}  // namespace

int each_job(Session& session, const std::vector<std::string>& words,
             const std::function<void(const std::string&)>& act) {
  int status = 0;
  for (const auto& word : words) {
    try {
      act(resolve_job(session, word));
    } catch (const Failure& failure) {
      if (words.size() == 1 || failure.exit == Exit::unreachable) throw;
      // The others must not stay unchanged because of this one.
      session.err << "tutti: " << clean(word) << ": " << failure.what() << "\n";
      if (status == 0) status = static_cast<int>(failure.exit);
    }
  }
  return status;
}

json::object filter_body(const JobFilter& filter, Instant now) {
  json::object body;
  const auto put = [&](const char* key, const std::string& value) {
    if (!value.empty()) body[key] = value;
  };
  if (filter.all) body["all"] = true;
  if (!filter.states.empty()) body["state"] = json::value_from(filter.states);
  put("project", filter.project);
  put("queue", filter.queue);
  put("user", filter.user);
  put("name", filter.name);
  if (!filter.since.empty()) body["since"] = instant_of(filter.since, now, "--since");
  if (!filter.labels.empty()) {
    json::object& labels = (body["labels"] = json::object()).get_object();
    for (const auto& label : filter.labels) {
      const auto equals = label.find('=');
      if (equals == 0 || equals == std::string::npos)
        throw Failure(Exit::usage, "--label " + label + ": expected NAME=VALUE");
      labels[label.substr(0, equals)] = label.substr(equals + 1);
    }
  }
  return body;
}

namespace {

Table bulk_table(const json::object& result) {
  Table table{{{"ID", true}, {"OUTCOME"}, {"DETAIL", false, true}}, {}};
  for (const auto& item : array_of(result, "jobs")) {
    const json::object& job = as_object(item);
    const std::string outcome = text_of(job, "outcome");
    table.rows.push_back({{text_of(job, "id")},
                          {.text = outcome, .tone = outcome == "refused" ? Tone::warn : Tone::plain},
                          {text_of(job, "detail")}});
  }
  return table;
}

std::int64_t count_of(const json::object& result, const char* key) {
  return integer_of(result, key).value_or(0);
}

// What was refused, and why; the rest is a number.
std::string bulk_text(const json::object& result, const std::string& verb, bool dry_run) {
  if (count_of(result, "matched") == 0) return "no job matches\n";
  const auto changes = static_cast<std::size_t>(count_of(result, dry_run ? "would_change" : "changed"));
  std::string text = dry_run ? "would " + verb + " " + plural(changes) : verb + ": " + plural(changes);
  if (const auto skipped = count_of(result, "skipped"); skipped > 0)
    text += ", " + std::to_string(skipped) + " are so already";
  if (const auto refused = count_of(result, "refused"); refused > 0)
    text += ", not possible for " + std::to_string(refused);
  text += "\n";
  const auto rest = count_of(result, "matched") - std::ssize(array_of(result, "jobs"));
  if (rest > 0 && !text_of(result, "next_page_token").empty())  // without: they have ended meanwhile
    text += "  " + std::to_string(rest) + " more match: --limit says how many are taken\n";
  constexpr int kShown = 20;
  int shown = 0;
  for (const auto& item : array_of(result, "jobs")) {
    const json::object& job = as_object(item);
    if (text_of(job, "outcome") != "refused" || ++shown > kShown) continue;
    text += "  job " + text_of(job, "id") + ": " + clean(text_of(job, "detail")) + "\n";
  }
  if (shown > kShown) text += "  … and " + std::to_string(shown - kShown) + " more\n";
  return text;
}

json::array ids_to_change(const json::object& result) {
  json::array ids;
  for (const auto& item : array_of(result, "jobs"))
    if (const auto* id = as_object(item).if_contains("id");
        text_of(as_object(item), "outcome") == "would_change" && id != nullptr)
      ids.push_back(*id);
  return ids;
}

// Adds what one page says to the whole.
void add_page(json::object& all, const json::object& page) {
  if (all.empty()) {
    all = page;
    return;
  }
  for (const char* key : {"changed", "refused", "skipped", "would_change"})
    all[key] = count_of(all, key) + count_of(page, key);
  json::array& jobs = all["jobs"].is_array() ? all["jobs"].get_array() : all["jobs"].emplace_array();
  for (const auto& job : array_of(page, "jobs")) jobs.push_back(job);
  all["next_page_token"] = text_of(page, "next_page_token");
}

Document as_document(json::object all) {
  Document document;
  document.tree = std::move(all);
  document.text = json::serialize(document.tree);
  return document;
}

// As many pages as `limit` jobs need.
Document bulk_pages(Session& session, json::object body, std::int64_t limit) {
  json::object all;
  while (true) {
    const auto seen = static_cast<std::int64_t>(array_of(all, "jobs").size());
    body["limit"] = std::min<std::int64_t>(kBulkPage, limit - seen);
    Document page = session.client.post("/v1/jobs:bulk", body);
    const json::object& result = as_object(page.tree);
    const std::string token = text_of(result, "next_page_token");
    const bool last = token.empty() || array_of(result, "jobs").empty();
    if (last && all.empty()) return page;
    add_page(all, result);
    if (last || static_cast<std::int64_t>(array_of(all, "jobs").size()) >= limit)
      return as_document(std::move(all));
    body["page_token"] = token;
  }
}

// Those that were counted, and not what has come to match since.
Document bulk_ids(Session& session, json::object body, const json::array& ids) {
  body.erase("filter");
  json::object all;
  for (std::size_t from = 0; from < ids.size(); from += kBulkPage) {
    const auto to = std::min<std::size_t>(from + kBulkPage, ids.size());
    body["ids"] = json::array(ids.begin() + from, ids.begin() + to);
    add_page(all, as_object(session.client.post("/v1/jobs:bulk", body).tree));
  }
  all["matched"] = ids.size();
  return as_document(std::move(all));
}

}  // namespace

int run_bulk(Session& session, json::object body, const BulkOptions& options) {
  json::array ids;
  if (options.dry_run || !options.yes) {
    body["dry_run"] = true;
    const Document trial = bulk_pages(session, body, options.limit);
    const json::object& found = as_object(trial.tree);
    ids = ids_to_change(found);
    if (options.dry_run || ids.empty()) {
      session.print(
          trial, [&] { return bulk_text(found, options.verb, true); }, [&] { return bulk_table(found); });
      return 0;
    }
    if (session.human()) session.err << bulk_text(found, options.verb, true);
    ask_yes(session, options.verb + " " + plural(ids.size()));
  }
  body["dry_run"] = false;
  const Document document =
      ids.empty() ? bulk_pages(session, body, options.limit) : bulk_ids(session, body, ids);
  const json::object& done = as_object(document.tree);
  session.print(
      document, [&] { return bulk_text(done, options.verb, false); }, [&] { return bulk_table(done); });
  return count_of(done, "refused") > 0 ? static_cast<int>(Exit::failed) : 0;
}

void check_targets(const std::string& verb, const std::vector<std::string>& ids, const JobFilter& filter) {
  if (ids.empty() && filter.empty())
    throw Failure(
        Exit::usage, verb + ": no job is named",
        "name jobs, or say which with --state, --project, --queue, --user, --label, --since or --all");
  if (!ids.empty() && !filter.empty())
    throw Failure(Exit::usage, verb + ": name jobs, or say which by --state, --user, …, not both");
}

int run_change(Session& session, const ChangeOptions& given) {
  check_targets(given.verb, given.ids, given.filter);
  ChangeOptions options = given;
  if (!options.signal.empty()) {
    options.verb = "signal";
    if (options.ids.empty())
      throw Failure(Exit::usage, "--signal needs named jobs", "tutti cancel --signal USR1 12 13");
  }
  if (options.ids.empty()) {
    json::object filter = filter_body(options.filter, session.look.now);
    if (options.filter.states.empty()) filter["state"] = usual_states(options.verb);
    json::object body{{"action", options.verb}, {"filter", std::move(filter)}};
    if (!options.reason.empty()) body["reason"] = options.reason;
    return run_bulk(session, std::move(body), {options.verb, options.yes, options.dry_run, options.limit});
  }
  const std::vector<std::string> ids = expand_ids(session, options.ids);
  if ((ids.size() > 1 || options.array) && !options.yes && !options.dry_run && options.verb != "release")
    ask_yes(session,
            options.verb + " " +
                (options.array ? "every task of " + std::string(ids.size() == 1 ? "an array" : "arrays")
                               : plural(ids.size())));
  return each_job(session, ids, [&](const std::string& id) { change_one(session, options, id); });
}

}  // namespace tutti::cli
