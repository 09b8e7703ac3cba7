#include "api/wire/spec_time.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "api/wire/text_values.h"

namespace tutti::wire {
namespace {

namespace json = boost::json;

// An instant, or "+2h" from now.
std::optional<Instant> read_instant(SpecReader& r, const Path& at, const json::value& v) {
  const auto s = r.string(at, v, 64);
  if (!s) return std::nullopt;
  std::optional<Instant> out;
  if (s->starts_with('+')) {
    if (const auto d = parse_duration(s->substr(1))) out = r.now.wall + *d;
  } else {
    out = parse_instant(*s);
  }
  if (out && *out >= Instant{}) return out;
  r.problem(at, "must be a time, not " + shown(v), "like \"2026-10-01T02:00:00Z\" or \"+2h\"");
  return std::nullopt;
}

std::optional<std::int64_t> id_of(std::string_view text) {
  std::int64_t n = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (code != std::errc{} || end != text.data() + text.size() || n < 1) return std::nullopt;
  return n;
}

// An id, or a name: that of the newest job that has it, or of another one of the same request.
void read_job_id(SpecReader& r, const Path& at, const json::value& v, Dependency& into) {
  if (const auto* s = v.if_string()) {
    if (const auto id = id_of(*s))
      into.job = JobId(*id);
    else if (const auto name = r.label(at, v, 128))
      into.name = *name;
  } else if (const auto n = r.integer(at, v, 1, std::int64_t{1} << 62)) {
    into.job = JobId(*n);
  }
}

constexpr auto kDependencyFields = std::to_array<Field<Dependency>>({
    {"job", read_job_id},
    {"when",
     [](SpecReader& r, const Path& at, const json::value& v, Dependency& into) {
       const auto s = r.string(at, v, 16);
       if (!s) return;
       if (const auto when = parse_when(*s))
         into.when = *when;
       else
         r.problem(at, "unknown condition " + shown(v), "ok, any, failed or started");
     }},
    {"tasks",  // as the server writes it
     [](SpecReader& r, const Path& at, const json::value& v, Dependency& into) {
       if (const auto n = r.integer(at, v, 1, kMaxArrayTasks)) into.tasks = static_cast<int>(*n);
     }},
});

void read_cron(SpecReader& r, const Path& at, const json::value& v, Schedule& into) {
  const auto s = r.string(at, v, 256);
  if (!s) return;
  std::string why;
  const auto times = parse_cron(*s, &why);
  if (!times)
    return r.problem(at, "not a schedule: " + why,
                     "minute hour day month weekday in UTC, like \"0 2 * * *\", or @daily");
  if (!next_time(*times, r.now.wall)) return r.problem(at, "'" + std::string(*s) + "' never comes");
  into.cron = *s;
  into.times = *times;
}

constexpr auto kScheduleFields = std::to_array<Field<Schedule>>({
    {"cron", read_cron},
    {"overlap",
     [](SpecReader& r, const Path& at, const json::value& v, Schedule& into) {
       const auto s = r.string(at, v, 16);
       if (!s) return;
       if (const auto overlap = parse_overlap(*s))
         into.overlap = *overlap;
       else
         r.problem(at, "unknown rule " + shown(v), "skip or queue");
     }},
});

// "0-31", "0,3,7-9", "0-30:2"
std::optional<std::vector<int>> parse_range(std::string_view text) {
  std::vector<int> out;
  while (!text.empty()) {
    const auto comma = text.find(',');
    auto part = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    int step = 1;
    if (const auto colon = part.find(':'); colon != std::string_view::npos) {
      const auto s = id_of(part.substr(colon + 1));
      if (!s || *s > 1'000'000) return std::nullopt;
      step = static_cast<int>(*s);
      part = part.substr(0, colon);
    }
    const auto dash = part.find('-');
    const auto number = [](std::string_view s) -> std::optional<int> {
      int n = -1;
      const auto [end, code] = std::from_chars(s.data(), s.data() + s.size(), n);
      if (code != std::errc{} || end != s.data() + s.size() || n < 0) return std::nullopt;
      return n;
    };
    const auto first = number(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *last < *first) return std::nullopt;
    for (std::int64_t i = *first; i <= *last; i += step) {
      out.push_back(static_cast<int>(i));
      if (out.size() > static_cast<std::size_t>(kMaxArrayTasks)) return out;  // more than there may be
    }
  }
  return out.empty() ? std::nullopt : std::optional(out);
}

void too_many(SpecReader& r, const Path& at) {
  r.problem(at, "an array has at most " + std::to_string(kMaxArrayTasks) + " tasks",
            "split it, or let each task do several of them");
}

void set_range(SpecReader& r, const Path& at, const json::value& v, ArrayPlan& into) {
  std::vector<int> indices;
  if (const auto n = v.if_int64()) {
    if (*n < 1) return r.problem(at, "must be a range like \"0-31\", not " + shown(v));
    if (*n > kMaxArrayTasks) return too_many(r, at);
    for (int i = 0; i < *n; ++i) indices.push_back(i);
  } else {
    const auto s = r.string(at, v, 64 << 10);
    if (!s) return;
    const auto parsed = parse_range(*s);
    if (!parsed)
      return r.problem(at, "must be a range, not " + shown(v), "like \"0-31\", \"0,3,7-9\" or \"0-30:2\"");
    indices = *parsed;
  }
  if (indices.size() > static_cast<std::size_t>(kMaxArrayTasks)) return too_many(r, at);
  if (std::set<int>(indices.begin(), indices.end()).size() != indices.size())
    return r.problem(at, "names an index twice");
  for (const int i : indices) into.tasks.push_back({.index = i, .variables = {}});
}

// Every combination, the last key fastest. Keys become variables.
void set_matrix(SpecReader& r, const Path& at, const json::value& v, ArrayPlan& into) {
  const auto* object = r.object(at, v, 16);
  if (object == nullptr) return;
  std::vector<ArrayPlan::Task> tasks(1);
  for (const auto& m : *object) {
    const Path here{&at, m.key()};
    const auto* values = m.value().if_array();
    if (values == nullptr || values->empty()) {
      r.problem(here, "must be a list of values");
      continue;
    }
    std::string variable(m.key());
    for (char& c : variable)
      c = c == '-' || c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    if (tasks.size() * values->size() > static_cast<std::size_t>(kMaxArrayTasks)) return too_many(r, at);
    std::vector<ArrayPlan::Task> more;
    for (const auto& task : tasks)
      for (std::size_t i = 0; i < values->size(); ++i) {
        const auto text = r.scalar_text({&here, {}, static_cast<std::int64_t>(i)}, (*values)[i], 1024);
        if (!text) return;
        more.push_back(task);
        more.back().variables[variable] = *text;
      }
    tasks = std::move(more);
  }
  for (std::size_t i = 0; i < tasks.size(); ++i) tasks[i].index = static_cast<int>(i);
  into.tasks = std::move(tasks);
}

struct ArrayFields {
  ArrayPlan plan;
  ArrayTask task;
  bool stored = false;  // as the server writes it: one task of an array
};
template <int ArrayTask::* Member>
void read_stored(SpecReader& r, const Path& at, const json::value& v, ArrayFields& into) {
  if (const auto n = r.integer(at, v, 0, 1 << 30))
    into.task.*Member = static_cast<int>(*n), into.stored = true;
}
constexpr auto kArrayFields = std::to_array<Field<ArrayFields>>({
    {"range", [](SpecReader& r, const Path& at, const json::value& v,
                 ArrayFields& into) { set_range(r, at, v, into.plan); }},
    {"matrix", [](SpecReader& r, const Path& at, const json::value& v,
                  ArrayFields& into) { set_matrix(r, at, v, into.plan); }},
    {"max_parallel",
     [](SpecReader& r, const Path& at, const json::value& v, ArrayFields& into) {
       if (const auto n = r.integer(at, v, 0, 1'000'000))
         into.plan.max_parallel = into.task.max_parallel = static_cast<int>(*n);
     }},
    {"index", read_stored<&ArrayTask::index>},
    {"position", read_stored<&ArrayTask::position>},
    {"tasks", read_stored<&ArrayTask::tasks>},
});

}  // namespace

void read_begin_time(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  into.begin_time = read_instant(r, at, v);
}

void read_deadline(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  into.deadline = read_instant(r, at, v);
}

void read_depends_on(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list like [{job: 12, when: ok}]");
  if (list->size() > 1000) return r.problem(at, "must have at most 1000 entries");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Path here{&at, {}, static_cast<std::int64_t>(i)};
    const json::value& item = (*list)[i];
    Dependency d;
    const auto before = r.problems.size();
    if (item.is_object())
      read_fields(r, here, item, d, kDependencyFields);
    else
      read_job_id(r, here, item, d);
    if (d.job || !d.name.empty())
      into.depends_on.push_back(std::move(d));
    else if (r.problems.size() == before)
      r.problem({&here, "job"}, "is required");
  }
}

void read_schedule(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  Schedule schedule;
  const auto before = r.problems.size();
  if (v.is_object())
    read_fields(r, at, v, schedule, kScheduleFields);
  else
    read_cron(r, at, v, schedule);
  if (!schedule.cron.empty())
    into.schedule = std::move(schedule);
  else if (r.problems.size() == before)
    r.problem({&at, "cron"}, "is required");
}

void read_scheduled_by(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  if (const auto n = r.integer(at, v, 1, std::int64_t{1} << 62)) into.scheduled_by = JobId(*n);
}

void read_array(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  ArrayFields fields;
  if (v.is_object())
    read_fields(r, at, v, fields, kArrayFields);
  else
    set_range(r, at, v, fields.plan);
  if (fields.stored) {
    into.array_task = fields.task;
  } else if (!fields.plan.tasks.empty()) {
    if (into.array && !into.array->tasks.empty()) r.problem(at, "an array has a range or a matrix, not both");
    into.array = std::move(fields.plan);
  } else if (v.is_object() && r.problems.empty()) {
    r.problem(at, "has no tasks", "give range or matrix");
  }
}

void read_matrix(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  if (into.array && !into.array->tasks.empty())
    return r.problem(at, "an array has a range or a matrix, not both");
  if (!into.array) into.array.emplace();
  set_matrix(r, at, v, *into.array);
}

void check_together(SpecReader& r, const Path& root, const JobSpec& spec) {
  if (spec.deadline && spec.begin_time && *spec.begin_time >= *spec.deadline)
    r.problem({&root, "deadline"}, "is not after begin_time");
  if (spec.total_time_limit && spec.time_limit && *spec.total_time_limit < *spec.time_limit)
    r.problem({&root, "total_time_limit"}, "is less than time_limit", "it counts all attempts together");
  if (spec.schedule) {
    const auto alone = [&](bool given, std::string_view field, std::string_view hint) {
      if (given) r.problem({&root, field}, "does not go with a schedule", std::string(hint));
    };
    alone(spec.array || spec.array_task, "array", "let each run be one job");
    alone(!spec.depends_on.empty(), "depends_on", "overlap: queue orders the runs");
    alone(spec.deadline.has_value(), "deadline", "total_time_limit bounds a run");
  }
  if (spec.preflight == Preflight::full && spec.launcher != Launcher::mpirun)
    r.problem({&root, "preflight"}, "full needs launcher mpirun, which starts the check",
              "use quick, or launcher: mpirun");
  if (spec.min_nodes > 0 && spec.launcher == Launcher::script)
    r.problem({&root, "nodes"}, "an elastic number of nodes needs torchrun, direct or mpirun");
}

}  // namespace tutti::wire
