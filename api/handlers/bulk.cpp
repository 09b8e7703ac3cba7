// POST /v1/jobs:bulk: one act on many jobs, by id or by filter. Decided together, in one transaction of at
// most kMaxJobs jobs; a larger selection goes page by page. Jobs that the caller may not change are not part
// of it.
//
// A filter looks at memory: what is over cannot be changed, and everything else is there.
//
// What waits is cancelled before what runs. Else jobs of the next page would begin on the GPUs that those of
// this page have left.
#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "api/handlers/answer.h"
#include "api/handlers/change_body.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/job_lookup.h"
#include "api/wire/spec_reader.h"
#include "api/wire/strict_json.h"

namespace tutti::api {
namespace {

namespace json = boost::json;
using wire::Path;
using wire::SpecReader;

constexpr std::int64_t kMaxJobs = 1000;
constexpr std::size_t kMaxReason = 1000;
constexpr char kBehindWaiting = 'r';  // before the id in a page token
constexpr auto kActs = std::to_array<std::pair<std::string_view, JobAct>>({{"cancel", JobAct::cancel},
                                                                           {"hold", JobAct::hold},
                                                                           {"release", JobAct::release},
                                                                           {"requeue", JobAct::requeue},
                                                                           {"update", JobAct::update}});

// ---------------------------------------------------------------- what is asked for

struct Selection {
  std::vector<JobState> states;  // empty: any
  std::string project, queue, user, name;
  std::map<std::string, std::string> labels;
  std::optional<Instant> since;
  JobId array;  // any of its tasks; 0 = any job
  bool all = false;

  bool empty() const {
    return states.empty() && project.empty() && queue.empty() && user.empty() && name.empty() &&
           labels.empty() && !since && !array && !all;
  }
};

struct Bulk {
  std::optional<JobAct> act;
  std::optional<std::vector<JobId>> ids;
  std::optional<Selection> filter;
  std::optional<JobChange> change;
  std::string reason;
  bool dry_run = false;
  std::size_t limit = kMaxJobs;
  bool paged = false;  // limit or page_token is given
  JobId after;
  bool behind_waiting = false;  // of a cancellation: what waits has been gone through
};

// ---------------------------------------------------------------- reading

void read_states(SpecReader& r, const Path& at, const json::value& v, Selection& into) {
  const auto add = [&](const Path& here, const json::value& one) {
    const auto text = r.string(here, one, 256);
    if (!text) return;
    const auto states = parse_states(*text);
    if (!states) return r.problem(here, states.error().message, states.error().hint);
    for (const JobState state : *states) {
      if (!is_terminal(state))
        into.states.push_back(state);
      else
        return r.problem(here, "jobs that are over cannot be changed", "leave terminal states out");
    }
  };
  if (const auto* list = v.if_array())
    for (std::size_t i = 0; i < list->size(); ++i) add({&at, {}, static_cast<std::int64_t>(i)}, (*list)[i]);
  else
    add(at, v);
}

template <auto Member>
void read_word(SpecReader& r, const Path& at, const json::value& v, Selection& into) {
  if (const auto s = r.label(at, v, 128)) into.*Member = std::string(*s);
}

void read_labels(SpecReader& r, const Path& at, const json::value& v, Selection& into) {
  const auto* object = r.object(at, v, 64);
  if (object == nullptr) return;
  for (const auto& m : *object)
    if (auto text = r.scalar_text({&at, m.key()}, m.value(), 1024)) into.labels[m.key()] = std::move(*text);
}

void read_since(SpecReader& r, const Path& at, const json::value& v, Selection& into) {
  const auto s = r.string(at, v, 64);
  if (!s) return;
  into.since = parse_since(*s, r.now);
  if (!into.since)
    r.problem(at, "not a time: " + wire::shown(v), "like 2026-10-01T02:00:00Z, or 7d for so long ago");
}

std::optional<JobId> read_id(SpecReader& r, const Path& at, const json::value& v) {
  if (const auto* text = v.if_string())
    if (const auto id = parse_id(*text)) return JobId(*id);
  if (const auto* n = v.if_int64(); n != nullptr && *n >= 1) return JobId(*n);
  r.problem(at, "must be the id of a job, not " + wire::shown(v), "ids are numbers from 1");
  return std::nullopt;
}

constexpr auto kFilterFields = std::to_array<wire::Field<Selection>>({
    {"state", read_states},
    {"project", read_word<&Selection::project>},
    {"queue", read_word<&Selection::queue>},
    {"user", read_word<&Selection::user>},
    {"name", read_word<&Selection::name>},
    {"labels", read_labels},
    {"since", read_since},
    {"array",
     [](SpecReader& r, const Path& at, const json::value& v, Selection& into) {
       if (const auto id = read_id(r, at, v)) into.array = *id;
     }},
    {"all",
     [](SpecReader& r, const Path& at, const json::value& v, Selection& into) {
       if (const auto all = r.boolean(at, v)) into.all = *all;
     }},
});

void read_action(SpecReader& r, const Path& at, const json::value& v, Bulk& into) {
  const auto s = r.string(at, v, 32);
  if (!s) return;
  std::vector<std::string_view> known;
  for (const auto& [word, act] : kActs) {
    known.push_back(word);
    if (word == *s) into.act = act;
  }
  if (into.act) return;
  auto hint = wire::did_you_mean(*s, known);
  r.problem(at, "unknown action " + wire::shown(v),
            hint.empty() ? "cancel, hold, release, requeue or update" : std::move(hint));
}

void read_ids(SpecReader& r, const Path& at, const json::value& v, Bulk& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list of ids, not " + wire::describe_kind(v));
  if (list->size() > static_cast<std::size_t>(kMaxJobs))
    return r.problem(
        at, "must have at most " + std::to_string(kMaxJobs) + " ids, not " + std::to_string(list->size()),
        "send several requests, or a filter");
  into.ids.emplace();
  std::set<JobId> seen;
  for (std::size_t i = 0; i < list->size(); ++i)
    if (const auto id = read_id(r, {&at, {}, static_cast<std::int64_t>(i)}, (*list)[i]))
      if (seen.insert(*id).second) into.ids->push_back(*id);
}

constexpr auto kBulkFields = std::to_array<wire::Field<Bulk>>({
    {"action", read_action},
    {"ids", read_ids},
    {"filter", [](SpecReader& r, const Path& at, const json::value& v,
                  Bulk& into) { wire::read_fields(r, at, v, into.filter.emplace(), kFilterFields); }},
    {"change",
     [](SpecReader& r, const Path& at, const json::value& v, Bulk& into) {
       auto change = read_change(v, r.now, false, at.key);
       if (change)
         into.change = *std::move(change);
       else if (!r.full())
         r.problems.push_back({change.error().field, change.error().message, change.error().hint});
     }},
    {"reason",
     [](SpecReader& r, const Path& at, const json::value& v, Bulk& into) {
       if (const auto s = r.string(at, v, kMaxReason)) into.reason = std::string(*s);
     }},
    {"dry_run",
     [](SpecReader& r, const Path& at, const json::value& v, Bulk& into) {
       if (const auto b = r.boolean(at, v)) into.dry_run = *b;
     }},
    {"limit",
     [](SpecReader& r, const Path& at, const json::value& v, Bulk& into) {
       into.paged = true;
       if (const auto n = r.integer(at, v, 1, kMaxJobs)) into.limit = static_cast<std::size_t>(*n);
     }},
    {"page_token",
     [](SpecReader& r, const Path& at, const json::value& v, Bulk& into) {
       const auto s = r.string(at, v, 32);
       if (!s || s->empty()) return;
       into.paged = true;
       into.behind_waiting = s->front() == kBehindWaiting;
       if (const auto id = parse_id(s->substr(into.behind_waiting ? 1 : 0)))
         into.after = JobId(*id);
       else
         r.problem(at, "not a page token of this selection", "take next_page_token as it came");
     }},
});

/// What no field can say alone.
void check_together(SpecReader& r, const Bulk& bulk) {
  const Path root;
  const auto problem = [&](std::string_view field, std::string message, std::string hint) {
    if (r.problems.empty()) r.problem({&root, field}, std::move(message), std::move(hint));
  };
  if (!bulk.act) problem("action", "is required", "cancel, hold, release, requeue or update");
  if (bulk.ids && bulk.filter) problem("ids", "do not go with a filter", "give one of them");
  if (!bulk.ids && !bulk.filter) problem("ids", "which jobs?", "give ids, or a filter");
  if (bulk.ids && bulk.paged)
    problem("ids", "are one page by themselves", "leave limit and page_token out: they go with a filter");
  if (bulk.ids && bulk.ids->empty()) problem("ids", "is an empty list", "name at least one job");
  if (bulk.filter && bulk.filter->empty())
    problem("filter", "an empty filter means every job you may change", "say so with \"all\": true");
  if (bulk.behind_waiting && bulk.act != JobAct::cancel)
    problem("page_token", "is that of a cancellation", "take next_page_token as it came");
  if (bulk.act == JobAct::update && !bulk.change)
    problem("change", "is required by action update", "like {\"priority\": 80}");
  if (bulk.act != JobAct::update && bulk.change)
    problem("change", "goes with action update only", "leave it out");
}

// ---------------------------------------------------------------- doing it

bool matches(const Selection& wanted, const Job& job, JobId array) {
  const auto is = [](const std::string& word, const std::string& value) {
    return word.empty() || word == value;
  };
  const auto& task = job.spec->array_task;
  const JobId own_array = task ? JobId(job.row.id.value - task->position) : JobId();
  return (wanted.states.empty() || std::ranges::find(wanted.states, job.row.state) != wanted.states.end()) &&
         is(wanted.project, job.row.project) && is(wanted.queue, job.row.queue) &&
         is(wanted.user, job.row.owner) && is(wanted.name, job.spec->name) &&
         std::ranges::all_of(wanted.labels,
                             [&](const auto& label) {
                               const auto found = job.spec->labels.find(label.first);
                               return found != job.spec->labels.end() && found->second == label.second;
                             }) &&
         (!wanted.since || job.row.created_at >= *wanted.since) && (!array || own_array == array);
}

/// The array that a job is of, or would be the first task of.
JobId array_named(const ControlPlane& plane, JobId task) {
  const Job* job = task ? plane.find_job(task) : nullptr;
  if (job == nullptr || !job->spec->array_task) return task;
  return JobId(task.value - job->spec->array_task->position);
}

struct Outcome {
  JobId id;
  std::string_view what;  // "changed", "refused", "would_change", "skipped"
  std::string detail;
};
struct Outcomes {
  std::size_t matched = 0;
  std::vector<Outcome> jobs;
  std::string next;  // page; "": these were all
};

class Deed {
 public:
  /// `over`: of the ids those that ended before this and that the caller may see.
  Deed(Bulk bulk, Identity who, std::set<JobId> over)
      : bulk_(std::move(bulk)), who_(std::move(who)), over_(std::move(over)) {}

  bool is_dry() const { return bulk_.dry_run; }
  Outcomes run(const ControlPlane& plane, Now now) const { return run_on(plane, nullptr, now); }
  Outcomes run(ControlPlane& plane, Now now) const { return run_on(plane, &plane, now); }

 private:
  /// `writer` nullptr: only looks what would happen.
  Outcomes run_on(const ControlPlane& plane, ControlPlane* writer, Now now) const {
    Outcomes out;
    const auto ids = select(plane, out);
    std::set<JobId> lived;
    for (const JobId id : ids)
      if (plane.find_job(id) != nullptr) lived.insert(id);
    for (const JobId id : ids) out.jobs.push_back(one(plane, writer, id, lived.contains(id), now));
    return out;
  }

  std::vector<JobId> select(const ControlPlane& plane, Outcomes& out) const {
    std::vector<JobId> ids;
    if (bulk_.ids) {
      out.matched = bulk_.ids->size();
      return *bulk_.ids;
    }
    const bool waiting_first = bulk_.act == JobAct::cancel;
    if (!waiting_first) {
      pick(plane, bulk_.after, Which::all, ids, out);
      return ids;
    }
    // What has come back to wait since, such as a preempted job, must not get away.
    bool behind = bulk_.behind_waiting;
    if (behind) {
      pick(plane, bulk_.after, bulk_.dry_run ? Which::active : Which::all, ids, out);
    } else {
      pick(plane, bulk_.after, Which::waiting, ids, out);
      const std::size_t waiting = ids.size();
      pick(plane, JobId(), bulk_.dry_run ? Which::active : Which::active_or_back, ids, out);
      behind = ids.size() > waiting;
    }
    if (behind && !out.next.empty()) out.next.insert(out.next.begin(), kBehindWaiting);
    return ids;
  }

  enum class Which : std::uint8_t {
    all,
    waiting,
    active,
    active_or_back  // to wait, where the pages before have gone by
  };
  bool takes(Which which, JobId id, const Job& job) const {
    const bool active = is_active(job.row.state);
    switch (which) {
      case Which::all: return true;
      case Which::waiting: return !active;
      case Which::active: return active;
      case Which::active_or_back: return active || id <= bulk_.after;
    }
    return false;
  }
  /// Those that match, up to the limit.
  void pick(const ControlPlane& plane, JobId after, Which which, std::vector<JobId>& ids,
            Outcomes& out) const {
    const JobId array = array_named(plane, bulk_.filter->array);
    for (auto at = plane.jobs().upper_bound(after); at != plane.jobs().end(); ++at) {
      const auto& [id, job] = *at;
      if (!takes(which, id, job)) continue;
      if (!matches(*bulk_.filter, job, array) || !may_change(who_, job.row.project, job.row.owner)) continue;
      ++out.matched;
      if (ids.size() < bulk_.limit) ids.push_back(id);
    }
    if (out.matched > ids.size()) out.next = to_string(ids.back());
  }

  Outcome one(const ControlPlane& plane, ControlPlane* writer, JobId id, bool lived, Now now) const {
    const Job* job = plane.find_job(id);
    if (job == nullptr && lived) return {id, "skipped", "ended together with a job before it"};
    if (job == nullptr)
      return {id, "refused",
              over_.contains(id) ? "job " + to_string(id) + " is already over" : "no job " + to_string(id)};
    if (!may_read(who_, job->row.project, job->row.owner) &&
        !may_change(who_, job->row.project, job->row.owner))
      return {id, "refused", "no job " + to_string(id)};
    if (!may_change(who_, job->row.project, job->row.owner))
      return {id, "refused",
              "belongs to " + job->row.owner + " in project " + job->row.project + "; " + who_.name +
                  " may not change it"};
    const JobChange change = bulk_.change.value_or(JobChange{});
    if (change.priority)
      if (const auto error = refuses_priority(who_, job->row.project, *change.priority))
        return {id, "refused", error->message};
    if (plane.is_so_already(id, *bulk_.act, change)) return {id, "skipped", "it is so already"};
    if (const auto error = plane.would_refuse(id, *bulk_.act, change, now))
      return {id, "refused", error->message};
    if (writer == nullptr) return {id, "would_change", ""};
    const auto done = act(*writer, id, change, now);
    return done ? Outcome{id, "changed", ""} : Outcome{id, "refused", done.error().message};
  }

  Result<JobId> act(ControlPlane& plane, JobId id, const JobChange& change, Now now) const {
    const std::string why = who_and_why(who_.owner, bulk_.reason);
    switch (*bulk_.act) {
      case JobAct::cancel: return plane.on_cancel(now, id, why);
      case JobAct::hold: return plane.on_hold(now, id, bulk_.reason, who_.owner);
      case JobAct::release: return plane.on_release(now, id, why);
      case JobAct::requeue: return plane.on_requeue(now, id, why);
      case JobAct::update: return plane.on_update(now, id, change, why);
    }
    return id;
  }

  Bulk bulk_;
  Identity who_;
  std::set<JobId> over_;
};

json::object view(const Outcomes& outcomes, bool dry_run) {
  std::map<std::string_view, std::int64_t> count;
  json::array jobs;
  jobs.reserve(outcomes.jobs.size());
  for (const auto& o : outcomes.jobs) {
    ++count[o.what];
    jobs.push_back(json::object{{"id", o.id.value}, {"outcome", o.what}, {"detail", o.detail}});
  }
  return {
      {"matched", outcomes.matched}, {"changed", count["changed"]},           {"refused", count["refused"]},
      {"skipped", count["skipped"]}, {"would_change", count["would_change"]}, {"dry_run", dry_run},
      {"jobs", std::move(jobs)},     {"next_page_token", outcomes.next}};
}

void run(const ApiPtr& api, const Answer& answer, Deed deed) {
  if (deed.is_dry()) {
    const ControlPlane* plane = api->backend.plane();
    if (plane == nullptr) return answer.fail(not_ready(api->backend));
    return answer.json(200, view(deed.run(*plane, api->backend.now()), true));
  }
  auto outcomes = std::make_shared<Outcomes>();
  api->backend.change_jobs(
      [deed = std::move(deed), outcomes](ControlPlane& plane, Now now) -> Result<JobId> {
        *outcomes = deed.run(plane, now);
        return JobId();
      },
      [answer, outcomes](const Result<JobId>& done) {
        if (!done) return answer.fail(done.error());
        answer.json(200, view(*outcomes, false));
      });
}

void bulk_jobs(const ApiPtr& api, const http::Request& request, Answer answer) {
  json::value body;
  if (auto error = wire::parse_strict_json(request.body, body))
    return answer.send(malformed("JSON", std::move(error->message), error->line, error->column));
  std::vector<wire::SpecProblem> problems;
  SpecReader reader{problems, api->backend.now()};
  Bulk bulk;
  wire::read_fields(reader, {}, body, bulk, kBulkFields);
  check_together(reader, bulk);
  if (!problems.empty())
    return answer.fail(bad_field(problems.front().field.empty() ? "body" : problems.front().field,
                                 problems.front().message, problems.front().hint));
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const Identity& who = identity_of(request);
  JobFilter gone;
  if (bulk.ids)
    for (const JobId id : *bulk.ids)
      if (plane->find_job(id) == nullptr) gone.ids.push_back(id);
  if (gone.ids.empty()) return run(api, answer, Deed(std::move(bulk), who, {}));
  gone.visible = visible_to(who);
  read_rows(
      api, answer, [gone](Reader& rows) { return rows.list_jobs(gone, kMaxPage, JobId()); },
      [api, answer, bulk = std::move(bulk), who](const std::vector<JobView>& rows) {
        std::set<JobId> over;
        for (const auto& row : rows) over.insert(row.row.id);
        run(api, answer, Deed(bulk, who, std::move(over)));
      });
}

}  // namespace

void add_bulk_routes(const Routes& routes) {
  routes.post("/v1/jobs:bulk", "jobs.bulk", Need::submit, bulk_jobs);
}

}  // namespace tutti::api
