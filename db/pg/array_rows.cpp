#include "db/pg/array_rows.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <new>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "db/pg/connection.h"
#include "db/pg/row_codec.h"
#include "scheduler/model/states.h"

namespace tutti::db {
namespace {

// As job_spec_encode.cpp writes them. Within a text of somebody's the quotes would have a backslash.
constexpr std::string_view kIndex = R"("array":{"index":)", kPosition = R"(,"position":)";
constexpr std::string_view kVariables[] = {R"("ARRAY_INDEX":")", R"("TUTTI_ARRAY_INDEX":")"};

struct Number {
  std::int64_t value = 0;
  std::size_t at = 0, end = 0;
};

std::optional<Number> number_at(std::string_view text, std::size_t at) {
  Number out{.at = at};
  const auto [end, code] = std::from_chars(text.data() + at, text.data() + text.size(), out.value);
  if (code != std::errc()) return std::nullopt;
  out.end = static_cast<std::size_t>(end - text.data());
  return out;
}

struct Found {
  Number index, position;
};

std::optional<Found> find_numbers(std::string_view text) {
  // Each text of a batch comes by here: memmem is several times as fast as find().
  const void* found = ::memmem(text.data(), text.size(), kIndex.data(), kIndex.size());
  if (found == nullptr) return std::nullopt;
  const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
  const auto index = number_at(text, at + kIndex.size());
  if (!index || !text.substr(index->end).starts_with(kPosition)) return std::nullopt;
  const auto position = number_at(text, index->end + kPosition.size());
  if (!position) return std::nullopt;
  return Found{*index, *position};
}

bool alike(const SpecRow& a, const SpecRow& b) {
  return a.owner == b.owner && a.name == b.name && a.created_at == b.created_at &&
         a.initial_state == b.initial_state;
}

bool alike(const JobRow& a, const JobRow& b) {
  return a.state == b.state && a.priority == b.priority && a.queue == b.queue && a.project == b.project &&
         a.owner == b.owner && a.nodes == b.nodes && a.gpus_per_node == b.gpus_per_node &&
         a.created_at == b.created_at && a.queued_at == b.queued_at && a.not_before == b.not_before &&
         a.reason == b.reason;
}

bool alike(const EventRow& a, const EventRow& b) {
  return a.at == b.at && a.to == b.to && a.cause == b.cause && a.detail == b.detail;
}

// Columns that the table has not are as they are at the beginning of a job, and it is in the state in which
// it was submitted.
bool waits_since_submission(const SpecRow& s, const JobRow& j, const EventRow& e) {
  return never_ran(j) && j.version == 1 && edges::contains(kJobInitial, j.state) &&
         j.state == s.initial_state && j.owner == s.owner && j.created_at == s.created_at &&
         e.kind == "state" && e.from.empty() && e.to == name(j.state) && !e.node && !e.epoch;
}

// Looks for runs in one batch. What is known of jobs and events is gathered once, when the specs say that
// there may be one.
class Search {
 public:
  explicit Search(const Batch& batch) : batch_(batch) {}

  std::vector<ArrayRun> run() {
    std::vector<ArrayRun> out;
    const auto& specs = batch_.new_specs;
    for (std::size_t i = 0; i + Folding::kFewest <= specs.size();) {
      auto found = run_at(i);
      if (found) {
        i += static_cast<std::size_t>(found->size);
        out.push_back(std::move(*found));
      } else {
        ++i;
      }
    }
    std::ranges::sort(out, {}, [](const ArrayRun& r) { return r.job->id; });
    return out;
  }

 private:
  std::optional<ArrayRun> run_at(std::size_t at) {
    const SpecRow& first = batch_.new_specs[at];
    const SpecRow& second = batch_.new_specs[at + 1];
    if (second.id.value != first.id.value + 1 || !alike(first, second)) return std::nullopt;
    if (first.spec_json == second.spec_json) return std::nullopt;  // tasks have positions of their own
    const auto numbers = task_numbers(first.spec_json);
    const auto next = numbers ? task_numbers(second.spec_json) : std::nullopt;
    if (!next) return std::nullopt;
    gather();
    ArrayRun run{.spec = &first, .numbers = *numbers, .index_step = next->index - numbers->index};
    if (!rows_of(first, run.job, run.event)) return std::nullopt;
    run.text = *TaskText::of(first.spec_json);
    for (run.size = 0; at + static_cast<std::size_t>(run.size) < batch_.new_specs.size(); ++run.size)
      if (!belongs(run, batch_.new_specs[at + static_cast<std::size_t>(run.size)])) break;
    return run.size >= Folding::kFewest ? std::optional(std::move(run)) : std::nullopt;
  }

  // As the next one.
  bool belongs(const ArrayRun& run, const SpecRow& spec) const {
    const JobRow* job = nullptr;
    const EventRow* event = nullptr;
    return spec.id.value == run.spec->id.value + run.size && alike(*run.spec, spec) &&
           rows_of(spec, job, event) && alike(*run.job, *job) && alike(*run.event, *event) &&
           event->id.value == run.event->id.value + run.size &&
           spec.spec_json == run.text.text(run.numbers_of(run.size));
  }

  bool rows_of(const SpecRow& spec, const JobRow*& job, const EventRow*& event) const {
    const auto known = jobs_.find(spec.id);
    if (known == jobs_.end() || known->second.rows != 1 || known->second.events != 1) return false;
    job = known->second.row;
    event = known->second.event;
    return waits_since_submission(spec, *job, *event);
  }

  void gather() {
    if (!jobs_.empty()) return;
    jobs_.reserve(batch_.new_specs.size());
    for (const auto& j : batch_.new_jobs) {
      auto& known = jobs_[j.id];
      known.row = &j;
      ++known.rows;
    }
    // What is written of it beside its beginning: then it gets its own rows at once.
    for (const auto& u : batch_.jobs) ++jobs_[u.row.id].rows;
    for (const auto& d : batch_.done) ++jobs_[d.row.job.id].rows;
    for (const auto& changed : batch_.changed_specs) ++jobs_[changed.first].rows;
    for (const auto& e : batch_.events) {
      if (!e.job) continue;
      auto& known = jobs_[e.job];
      known.event = &e;
      ++known.events;
    }
  }

  struct Known {
    const JobRow* row = nullptr;
    const EventRow* event = nullptr;
    int rows = 0, events = 0;
  };
  const Batch& batch_;
  std::unordered_map<JobId, Known> jobs_;
};

constexpr Statement kInsertArrays{"insert_arrays", R"(
INSERT INTO job_array (id, last, waiting, state, priority, queue, project, owner, nodes, gpus_per_node, created_at,
                       queued_at, not_before, reason, name, text_format, first_index, index_step, first_position,
                       first_event, last_event, event_at, event_to, event_cause, event_detail)
SELECT u.id, u.last, int8multirange(int8range(u.id, u.last, '[]')), u.state, u.priority, u.queue, u.project, u.owner,
       u.nodes, u.gpus_per_node, u.created_at, u.queued_at, u.not_before, u.reason, u.name, u.text_format,
       u.first_index, u.index_step, u.first_position, u.first_event, u.last_event, u.event_at, u.event_to,
       u.event_cause, u.event_detail
FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::smallint[], $5::text[], $6::text[], $7::text[],
            $8::integer[], $9::integer[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::text[],
            $14::text[], $15::text[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[],
            $21::timestamptz[], $22::text[], $23::smallint[], $24::text[])
     AS u(id, last, state, priority, queue, project, owner, nodes, gpus_per_node, created_at, queued_at, not_before,
          reason, name, text_format, first_index, index_step, first_position, first_event, last_event, event_at,
          event_to, event_cause, event_detail))"};

// The constraints of job_array keep arrays apart; this keeps them apart from jobs with rows of their own.
constexpr Statement kExpectNewIds{"expect_new_ids", R"(
SELECT tutti_expect((SELECT count(*) FROM unnest($1::bigint[], $2::bigint[]) AS u(first, last)
                     WHERE EXISTS (SELECT FROM job_spec p WHERE p.id BETWEEN u.first AND u.last)), 0, 'new arrays'))"};

constexpr Statement kUnfold{"unfold", "SELECT tutti_unfold($1::bigint[], $2::bigint[])"};

constexpr Statement kLoadArrays{"", R"(
SELECT id, state, priority, queue, project, owner, nodes, gpus_per_node, created_at, queued_at, not_before, epoch, reason,
       text_format, first_index, index_step, first_position
FROM job_array ORDER BY id)"};

constexpr Statement kLoadRanges{"", R"(
SELECT a.id, lower(r), upper(r) - 1 FROM job_array a CROSS JOIN LATERAL unnest(a.waiting) r ORDER BY 2)"};

}  // namespace

// ---------------------------------------------------------------- texts

std::optional<TaskNumbers> task_numbers(std::string_view spec_json) {
  const auto found = find_numbers(spec_json);
  return found ? std::optional(TaskNumbers{found->index.value, found->position.value}) : std::nullopt;
}

std::optional<TaskText> TaskText::of(std::string_view spec_json) {
  const auto found = find_numbers(spec_json);
  if (!found) return std::nullopt;
  struct At {
    std::size_t begin, end;
    Place place;
  };
  std::vector<At> places{{found->index.at, found->index.end, Place::index},
                         {found->position.at, found->position.end, Place::position}};
  for (const auto variable : kVariables)
    for (auto at = spec_json.find(variable); at != spec_json.npos; at = spec_json.find(variable, at + 1))
      if (const auto value = number_at(spec_json, at + variable.size());
          value && value->value == found->index.value && spec_json.substr(value->end).starts_with('"'))
        places.push_back({value->at, value->end, Place::index});
  std::ranges::sort(places, {}, &At::begin);
  TaskText out;
  std::size_t from = 0;
  for (const auto& at : places) {
    out.pieces_.push_back({std::string(spec_json.substr(from, at.begin - from)), at.place});
    from = at.end;
  }
  out.pieces_.push_back({std::string(spec_json.substr(from)), std::nullopt});
  return out;
}

TaskText TaskText::from_format(std::string_view format) {
  TaskText out;
  out.pieces_.emplace_back();
  for (std::size_t at = 0; at < format.size(); ++at) {
    const auto rest = format.substr(at);
    Piece& piece = out.pieces_.back();
    if (rest.starts_with("%1$s") || rest.starts_with("%2$s")) {
      piece.place = rest[1] == '1' ? Place::index : Place::position;
      out.pieces_.emplace_back();
      at += 3;
    } else {
      if (rest.starts_with("%%")) ++at;
      piece.before += format[at];
    }
  }
  return out;
}

std::string TaskText::format() const {
  std::string out;
  for (const auto& piece : pieces_) {
    for (const char c : piece.before) out.append(c == '%' ? 2 : 1, c);
    if (piece.place) out += *piece.place == Place::index ? "%1$s" : "%2$s";
  }
  return out;
}

std::string TaskText::text(TaskNumbers task) const {
  std::string out;
  for (const auto& piece : pieces_) {
    out += piece.before;
    if (piece.place) out += std::to_string(*piece.place == Place::index ? task.index : task.position);
  }
  return out;
}

// ---------------------------------------------------------------- folding

TaskNumbers ArrayRun::numbers_of(std::int64_t task) const {
  return {.index = numbers.index + index_step * task, .position = numbers.position + task};
}

Folding Folding::of(const Batch& batch) {
  Folding out;
  out.runs_ = Search(batch).run();
  return out;
}

bool Folding::has(JobId id) const {
  const auto after = std::ranges::upper_bound(runs_, id, {}, [](const ArrayRun& r) { return r.job->id; });
  return after != runs_.begin() && id <= std::prev(after)->last();
}

void add_arrays(Pipeline& p, const Folding& folding) {
  if (folding.empty()) return;
  const auto& runs = folding.runs();
  Params ids, rows;
  ids.column(runs, [](const ArrayRun& r) { return r.job->id; }).column(runs, [](const ArrayRun& r) {
    return r.last();
  });
  p.add(kExpectNewIds, std::move(ids));
  rows.column(runs, [](const ArrayRun& r) { return r.job->id; })
      .column(runs, [](const ArrayRun& r) { return r.last(); })
      .column(runs, [](const ArrayRun& r) { return static_cast<std::int16_t>(r.job->state); })
      .column(runs, [](const ArrayRun& r) { return r.job->priority; })
      .column(runs, [](const ArrayRun& r) -> std::string_view { return r.job->queue; })
      .column(runs, [](const ArrayRun& r) -> std::string_view { return r.job->project; })
      .column(runs, [](const ArrayRun& r) -> std::string_view { return r.job->owner; })
      .column(runs, [](const ArrayRun& r) { return r.job->nodes; })
      .column(runs, [](const ArrayRun& r) { return r.job->gpus_per_node; })
      .column(runs, [](const ArrayRun& r) { return r.job->created_at; })
      .column(runs, [](const ArrayRun& r) { return r.job->queued_at; })
      .column(runs, [](const ArrayRun& r) { return null_if_zero(r.job->not_before); })
      .column(runs, [](const ArrayRun& r) -> std::string_view { return r.job->reason; })
      .column(runs, [](const ArrayRun& r) -> std::string_view { return r.spec->name; })
      .column(runs, [](const ArrayRun& r) { return r.text.format(); })
      .column(runs, [](const ArrayRun& r) { return r.numbers.index; })
      .column(runs, [](const ArrayRun& r) { return r.index_step; })
      .column(runs, [](const ArrayRun& r) { return r.numbers.position; })
      .column(runs, [](const ArrayRun& r) { return r.event->id; })
      .column(runs, [](const ArrayRun& r) { return r.last_event(); })
      .column(runs, [](const ArrayRun& r) { return r.event->at; })
      .column(runs, [](const ArrayRun& r) -> std::string_view { return r.event->to; })
      .column(runs, [](const ArrayRun& r) { return static_cast<std::int16_t>(r.event->cause); })
      .column(runs, [](const ArrayRun& r) -> std::string_view { return r.event->detail; });
  p.add(kInsertArrays, std::move(rows));
}

// ---------------------------------------------------------------- unfolding

void FoldedTasks::add(JobId array, JobId first, JobId last) {
  for (auto it = ranges_.lower_bound(first); it != ranges_.end() && it->first <= last;)
    it = ranges_.erase(it);  // of a batch that came to nothing, whose ids are given again
  ranges_.insert_or_assign(first, Range{last, array});
}

void FoldedTasks::add(const Folding& folding) {
  for (const auto& run : folding.runs()) add(run.job->id, run.job->id, run.last());
}

FoldedTasks::Unfolding FoldedTasks::touched_by(const Batch& batch) const {
  Unfolding out;
  if (ranges_.empty()) return out;
  const auto touch = [&](JobId id) {
    const auto after = ranges_.upper_bound(id);
    if (after == ranges_.begin()) return;
    const Range& range = std::prev(after)->second;
    if (id > range.last) return;
    out.tasks.push_back(id);
    if (out.arrays.empty() || out.arrays.back() != range.array) out.arrays.push_back(range.array);
  };
  for (const auto& u : batch.jobs) touch(u.row.id);
  for (const auto& d : batch.done)
    if (d.base_version != 0) touch(d.row.job.id);
  for (const auto& changed : batch.changed_specs) touch(changed.first);
  for (auto* ids : {&out.arrays, &out.tasks}) {
    std::ranges::sort(*ids);
    const auto same = std::ranges::unique(*ids);
    ids->erase(same.begin(), same.end());
  }
  return out;
}

void FoldedTasks::remove(const std::vector<JobId>& tasks) noexcept {
  try {
    for (const JobId id : tasks) {
      auto it = ranges_.upper_bound(id);
      if (it == ranges_.begin()) continue;
      it = std::prev(it);
      const JobId first = it->first;
      const Range range = it->second;
      if (id > range.last) continue;
      if (id < range.last) ranges_.emplace(JobId(id.value + 1), range);  // it may throw: before anything goes
      if (id > first)
        it->second.last = JobId(id.value - 1);
      else
        ranges_.erase(it);
    }
  } catch (const std::bad_alloc&) {  // invariant 2
  }
}

void add_unfolding(Pipeline& p, const FoldedTasks::Unfolding& unfolding) {
  if (unfolding.empty()) return;
  Params params;
  params.column(unfolding.arrays, [](JobId id) { return id; });
  params.column(unfolding.tasks, [](JobId id) { return id; });
  p.add(kUnfold, std::move(params));
}

// ---------------------------------------------------------------- loading

StoredArrays StoredArrays::load(Connection& connection, Connection::Deadline until) {
  StoredArrays out;
  std::unordered_map<JobId, std::size_t> place;
  const Result arrays = connection.run(kLoadArrays, nullptr, until);
  for (int i = 0; i < arrays.rows(); ++i) {
    RowReader r(arrays, i);
    Array& a = out.arrays_.emplace_back();
    a.job.id = JobId(r.bigint());
    a.job.state = static_cast<JobState>(r.smallint());
    a.job.priority = r.smallint();
    a.job.queue = Name(r.bytes());
    a.job.project = Name(r.bytes());
    a.job.owner = Name(r.bytes());
    a.job.nodes = r.integer();
    a.job.gpus_per_node = r.integer();
    a.job.created_at = r.timestamptz();
    a.job.queued_at = r.timestamptz();
    a.job.not_before = r.timestamptz_or_null().value_or(Instant{});
    a.job.epoch = Epoch(r.bigint());
    a.job.reason = r.text();
    a.text = TaskText::from_format(r.bytes());
    a.numbers.index = r.bigint();
    a.index_step = r.bigint();
    a.numbers.position = r.bigint();
    place.emplace(a.job.id, out.arrays_.size() - 1);
  }
  const Result ranges = connection.run(kLoadRanges, nullptr, until);
  for (int i = 0; i < ranges.rows(); ++i) {
    RowReader r(ranges, i);
    const auto array = place.find(JobId(r.bigint()));
    const std::int64_t first = r.bigint(), last = r.bigint();
    if (array != place.end()) out.ranges_.push_back({array->second, first, last});
  }
  return out;
}

void StoredArrays::put_into(FoldedTasks& tasks) const {
  for (const auto& range : ranges_)
    tasks.add(arrays_[range.array].job.id, JobId(range.first), JobId(range.last));
}

JobRow StoredArrays::row_of(const Range& range, std::int64_t task) const {
  JobRow row = arrays_[range.array].job;
  row.id = JobId(task);
  return row;
}

std::string StoredArrays::text_of(const Range& range, std::int64_t task) const {
  const Array& a = arrays_[range.array];
  const std::int64_t n = task - a.job.id.value;
  return a.text.text({.index = a.numbers.index + a.index_step * n, .position = a.numbers.position + n});
}

}  // namespace tutti::db
