// PgReader: jobs by id, by name, in lists and in groups. Those of an array that have no rows of their own
// stand among the others (docs/design/0021-arrays.md).
#include <algorithm>
#include <utility>

#include "db/pg/pg_reader.h"
#include "db/pg/reader_parts.h"
#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

JobView read_view(RowReader& r) {
  JobView v;
  v.name = r.text();
  v.spec_json = r.text();
  v.submitted_json = r.text();
  v.initial_state = static_cast<JobState>(r.smallint());
  v.ended_at = r.timestamptz_or_null();
  v.exit_code = r.integer();
  v.row = read_job(r);
  return v;
}

// As it holds, and as it was submitted if that is something else.
constexpr const char* kSpecColumns =
    "p.name, coalesce(p.changed_json, p.spec_json), "
    "CASE WHEN p.changed_json IS NULL THEN '' ELSE p.spec_json END, p.initial_state";

// A part of a list: the newest rows of `table` that pass. Parts that are not asked for do not appear, so
// that the planner sees which index fits.
std::string half(const std::string& table, const std::string& ended, const std::string& conditions) {
  return "(SELECT p.name, '' AS spec_json, '' AS submitted_json, p.initial_state, " + ended + ", " +
         kJobColumns + " FROM " + table + " j JOIN job_spec p USING (id) WHERE " + conditions +
         " ORDER BY j.id DESC LIMIT $2)";
}

// What a filter asks of a job `j` and its spec `p`, each part behind an AND: of its columns, and of its id.
// Of an array the ids are cut out of those of its tasks. Parts that are not asked for do not appear.
struct Conditions {
  std::string columns, ids, tasks;
};

Conditions conditions_of(const JobFilter& filter, Params& params, std::string tasks) {
  std::string conditions, ids;
  const auto is = [&](const char* column, const std::string& value) {
    if (value.empty()) return;
    params.text(value);
    conditions += std::string(" AND ") + column + " = $" + std::to_string(params.size()) + "::text";
  };
  is("j.project", filter.project);
  is("j.queue", filter.queue);
  is("j.owner", filter.owner);
  is("p.name", filter.name);
  // The index holds the first 200 characters (0003_job.sql).
  if (!filter.name.empty())
    conditions += " AND left(p.name, 200) = left($" + std::to_string(params.size()) + "::text, 200)";
  if (!filter.name_part.empty()) {
    params.text(filter.name_part);
    conditions += " AND strpos(lower(p.name COLLATE \"C\"), lower($" + std::to_string(params.size()) +
                  "::text COLLATE \"C\")) > 0";
  }
  if (filter.since) {
    params.timestamptz(*filter.since);
    conditions += " AND j.created_at >= $" + std::to_string(params.size()) + "::timestamptz";
  }
  if (filter.until) {
    params.timestamptz(*filter.until);
    conditions += " AND j.created_at < $" + std::to_string(params.size()) + "::timestamptz";
  }
  if (filter.first) {
    params.bigint(filter.first.value);
    ids += " AND j.id >= $" + std::to_string(params.size()) + "::bigint";
    tasks += " * int8multirange(int8range($" + std::to_string(params.size()) + "::bigint, NULL))";
  }
  if (filter.last) {  // a range has no number behind the highest one
    params.bigint(std::min(filter.last.value, INT64_MAX - 1));
    ids += " AND j.id <= $" + std::to_string(params.size()) + "::bigint";
    tasks += " * int8multirange(int8range(NULL, $" + std::to_string(params.size()) + "::bigint, '[]'))";
  }
  if (!filter.ids.empty()) {
    params.column(filter.ids, [](JobId id) { return JobId(std::min(id.value, INT64_MAX - 1)); });
    ids += " AND j.id = ANY($" + std::to_string(params.size()) + "::bigint[])";
    tasks += " * (SELECT range_agg(int8range(i, i, '[]')) FROM unnest($" + std::to_string(params.size()) +
             "::bigint[]) i)";
  }
  if (filter.visible) conditions += " AND " + visible_in(*filter.visible, "j", params);
  const auto one_of = [&](const char* column, const auto& values) {
    std::string numbers;
    for (const auto value : values)
      numbers += (numbers.empty() ? "" : ",") + std::to_string(static_cast<int>(value));
    if (!numbers.empty()) conditions += std::string(" AND ") + column + " IN (" + numbers + ")";
  };
  one_of("j.state", filter.states);
  one_of("j.cause", filter.causes);
  return {std::move(conditions), std::move(ids), std::move(tasks)};
}

// Arrays as rows of jobs, for conditions. `tasks` is what of each is asked for.
std::string folded(const std::string& tasks, const std::string& conditions) {
  return " FROM (SELECT x.*, 0::smallint AS cause, x.waiting * (" + tasks +
         ") AS tasks FROM job_array x) j CROSS JOIN LATERAL (SELECT j.name) p WHERE NOT isempty(j.tasks)" +
         conditions;
}

// The newest tasks that have no rows of their own. Of each array that is looked at one at least belongs to
// the page, so there are no more arrays than it has lines; and arrays are counted before their tasks are
// looked at: those behind the end of the page are not gone through.
std::string folded_page(const Conditions& asked) {
  return "(SELECT j.name, '' AS spec_json, '' AS submitted_json, j.initial_state, NULL::timestamptz AS "
         "ended_at, 0 AS exit_code, " +
         std::string(kJobColumns) +
         " FROM (SELECT j.id AS array_id, j.tasks, sum(tutti_tasks_in(j.tasks)) OVER (ORDER BY j.id DESC "
         "ROWS "
         "BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer FROM (SELECT j.id, j.tasks" +
         folded(asked.tasks, asked.columns) +
         " ORDER BY j.id DESC LIMIT $2::bigint) j) n JOIN job_array a ON a.id = n.array_id"
         " CROSS JOIN LATERAL tutti_last_tasks(n.tasks, $2::bigint) t(task)"
         " CROSS JOIN LATERAL tutti_task(a, t.task) j"
         " WHERE coalesce(n.newer, 0) < $2::bigint ORDER BY j.id DESC LIMIT $2::bigint)";
}

struct Halves {
  bool live = false, finished = false;
};
Halves halves_of(const JobFilter& filter) {
  Halves halves{.live = filter.states.empty(), .finished = filter.states.empty()};
  for (const JobState s : filter.states) (is_terminal(s) ? halves.finished : halves.live) = true;
  return halves;
}

std::string column_of(JobKey by) {
  switch (by) {
    case JobKey::state: return "j.state::text";
    case JobKey::project: return "j.project";
    case JobKey::queue: return "j.queue";
    case JobKey::user: return "j.owner";
    case JobKey::cause: return "j.cause::text";
    case JobKey::name: return "p.name";
  }
  return "''";
}

std::string named(JobKey by, std::string key) {
  if (by == JobKey::state) return std::string(name(static_cast<JobState>(std::stoi(key))));
  if (by == JobKey::cause) return std::string(name(static_cast<Cause>(std::stoi(key))));
  return key;
}

}  // namespace

std::optional<JobView> PgReader::find_job(JobId id) {
  static const std::string text =
      std::string("SELECT ") + kSpecColumns + ", NULL::timestamptz, 0, " + kJobColumns +
      " FROM job j JOIN job_text p USING (id) WHERE j.id = $1::bigint UNION ALL SELECT " + kSpecColumns +
      ", j.ended_at, j.exit_code, " + kJobColumns +
      " FROM job_done j JOIN job_text p USING (id) WHERE j.id = $1::bigint"
      " UNION ALL SELECT j.name, j.spec_json, '', j.initial_state, NULL::timestamptz, 0, " +
      kJobColumns + " FROM tutti_array_of($1::bigint) a CROSS JOIN LATERAL tutti_task(a, $1::bigint) j";
  Params params;
  params.bigint(id.value);
  const Result r = run({"find_job", text.c_str()}, std::move(params));
  if (r.rows() == 0) return std::nullopt;
  RowReader row(r, 0);
  return read_view(row);
}

std::vector<JobId> PgReader::resolve_name(std::string_view name, int limit) {
  Params params;
  params.text(name).bigint(page(limit));
  const Result r =
      run({"resolve_name",
           "SELECT id FROM ("
           "(SELECT id FROM job_spec WHERE left(name, 200) = left($1::text, 200) AND name = $1::text "
           "ORDER BY id DESC LIMIT $2::bigint) UNION ALL "
           "(SELECT t.id FROM (SELECT * FROM job_array WHERE left(name, 200) = left($1::text, 200) AND "
           "name = $1::text ORDER BY id DESC LIMIT $2::bigint) a "
           "CROSS JOIN LATERAL tutti_last_tasks(a.waiting, $2::bigint) t(id))) u "
           "ORDER BY id DESC LIMIT $2::bigint"},
          std::move(params));
  return rows_of<JobId>(r, [](RowReader& row) { return JobId(row.bigint()); });
}

std::vector<JobView> PgReader::list_jobs(const JobFilter& filter, int page_size, JobId after) {
  Params params;
  params.bigint(after ? after.value : INT64_MAX).bigint(page(page_size));
  const Conditions asked = conditions_of(filter, params, "int8multirange(int8range(NULL, $1::bigint))");
  const std::string conditions = "j.id < $1::bigint" + asked.columns + asked.ids;
  const auto [live, finished] = halves_of(filter);
  std::string text;
  if (live) {
    text = half("job", "NULL::timestamptz AS ended_at, 0 AS exit_code", conditions);
    text += " UNION ALL ";
    text += folded_page(asked);
  }
  if (finished) text += (live ? " UNION ALL " : "") + half("job_done", "j.ended_at, j.exit_code", conditions);
  text = "SELECT * FROM (" + text + ") both_halves ORDER BY id DESC LIMIT $2::bigint";
  const Reads reads = filter.name_part.empty() ? Reads::some : Reads::all;
  return rows_of<JobView>(run({"", text.c_str()}, std::move(params), reads), read_view);
}

std::vector<JobGroup> PgReader::count_jobs(const JobFilter& filter, JobKey by, int limit) {
  Params params;
  params.bigint(limit);
  const Conditions asked = conditions_of(filter, params, "'{(,)}'::int8multirange");
  const std::string conditions = asked.columns + asked.ids;
  const auto [live, finished] = halves_of(filter);
  const bool by_name = by == JobKey::name || !filter.name.empty() || !filter.name_part.empty();
  const std::string specs = by_name ? " j JOIN job_spec p USING (id)" : " j";
  const auto part_of = [&](const std::string& jobs, const std::string& from) {
    return "SELECT " + column_of(by) + " AS key, sum(" + jobs + ") AS jobs, sum(" + jobs +
           " * j.nodes * j.gpus_per_node) AS gpus" + from + " GROUP BY 1";
  };
  const auto half_of = [&](const std::string& table) {
    return part_of("1::bigint", " FROM " + table + specs + " WHERE true" + conditions);
  };
  std::string text;
  if (live) {
    text = half_of("job");
    text += " UNION ALL ";
    text += part_of("tutti_tasks_in(j.tasks)", folded(asked.tasks, asked.columns));
  }
  if (finished) text += (live ? " UNION ALL " : "") + half_of("job_done");
  text = "SELECT key, sum(jobs)::bigint, sum(gpus)::bigint FROM (" + text +
         ") parts GROUP BY key ORDER BY sum(jobs) DESC, key COLLATE \"C\" LIMIT $1::bigint";
  const Result result = run({"", text.c_str()}, std::move(params), Reads::all);
  return rows_of<JobGroup>(result, [by](RowReader& row) {
    JobGroup group;
    group.key = named(by, row.text());
    group.jobs = row.bigint();
    group.gpus = row.bigint();
    return group;
  });
}

StateCounts PgReader::count_by_state() {
  StateCounts counts{};
  const Result r = run({"count_by_state",
                        "SELECT state, count(*) FROM job GROUP BY state UNION ALL "
                        "SELECT state, count(*) FROM job_done GROUP BY state UNION ALL "
                        "SELECT state, sum(tutti_tasks_in(waiting))::bigint FROM job_array GROUP BY state"},
                       {});
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    const auto state = static_cast<std::size_t>(row.smallint());
    if (state < counts.size()) counts[state] += row.bigint();
  }
  return counts;
}

}  // namespace tutti::db
