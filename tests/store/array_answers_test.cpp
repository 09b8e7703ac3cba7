// The same batches, to a store that folds arrays and to one that does not: whoever asks is told the same
// (docs/design/0021-arrays.md).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "db/pg/pg_history.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_retention.h"
#include "db/pg/pg_store.h"
#include "tests/store/array_batches.h"
#include "tests/store/pg_fixture.h"
#include "tests/store/row_equality.h"

namespace tutti::db {
namespace {

using namespace tutti::test;

constexpr int kFolds = 22, kDoesNot = 21;  // newest schema that the store knows

std::string text_of(const JobRow& j) {
  return to_string(j.id) + " v" + std::to_string(j.version) + " " + std::string(name(j.state)) + " " +
         std::string(name(j.cause)) + " p" + std::to_string(j.priority) + " " + j.queue.str() + " " +
         j.project.str() + " " + j.owner.str() + " " + std::to_string(j.nodes) + "x" +
         std::to_string(j.gpus_per_node) + " " + std::to_string(j.created_at.time_since_epoch().count()) +
         " " + std::to_string(j.queued_at.time_since_epoch().count()) + " " +
         std::to_string(j.not_before.time_since_epoch().count()) + " e" + to_string(j.epoch) + " a" +
         std::to_string(j.attempt) + " b" + std::to_string(j.best_step) + " " + j.reason;
}
std::string text_of(const EventRow& e) {
  return to_string(e.id) + " " + std::to_string(e.at.time_since_epoch().count()) + " j" + to_string(e.job) +
         " n" + to_string(e.node) + " e" + to_string(e.epoch) + " " + e.kind + " " + e.from + ">" + e.to +
         " " + std::string(name(e.cause)) + " " + e.detail + " " + e.project + " " + e.owner;
}
std::string text_of(const JobView& v) {
  return text_of(v.row) + " | " + v.name + " | " + v.spec_json + " | " + v.submitted_json + " | " +
         std::string(name(v.initial_state)) + " " +
         std::to_string(v.ended_at ? v.ended_at->time_since_epoch().count() : -1) + " " +
         std::to_string(v.exit_code);
}

// Batches as a control plane may make them, from one seed.
class Story {
 public:
  explicit Story(unsigned seed) : dice_(seed) {}

  Batch next() {
    Batch b;
    at_ += below(30) + 1;
    switch (below(9)) {
      case 0:
      case 1:
      case 2: submit(b); break;
      case 3: submit_others(b); break;
      case 4: start(b, below(6) + 1, below(2) == 0); break;
      case 5: cancel(b, below(3) == 0 ? 400 : below(10) + 1); break;
      case 6: hold(b); break;
      case 7: change(b); break;
      default: remark(b); break;
    }
    return b;
  }
  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(dice_); }
  std::int64_t last_job() const { return next_job_ - 1; }
  std::int64_t last_event() const { return next_event_ - 1; }
  std::int64_t time() const { return at_; }
  const JobRow* any() { return live_.empty() ? nullptr : &some(); }
  // Not what the store has.
  Batch conflict() {
    Batch b;
    if (live_.empty()) return b;
    JobRow row = some();
    const std::int32_t base = row.version + 3;
    row.version += 4;
    b.jobs.push_back({row, base});
    for (int i = 0; i < 3; ++i) {
      JobRow other = some();
      if (other.id == row.id) continue;
      other.version += 1;
      b.jobs.push_back({other, other.version - 1});
      break;
    }
    return b;
  }

 private:
  JobRow& some() { return std::next(live_.begin(), below(static_cast<int>(live_.size())))->second; }
  void say(Batch& b, JobRow& row, JobState to) {
    b.events.push_back(
        event(next_event_++, row.id.value, std::string(name(row.state)), std::string(name(to))));
    b.events.back().at = at(at_);
    row.state = to;
  }
  void submit(Batch& b) {
    static constexpr const char* kOwners[] = {"ann", "bob"};
    static constexpr const char* kProjects[] = {"default", "nlp"};
    Sweep s{.first_job = next_job_,
            .tasks = below(60) + 1,
            .first_event = next_event_,
            .at = at_,
            .first_index = below(100),
            .index_step = below(4),
            .max_parallel = below(2) * (below(10) + 1),
            .owner = kOwners[below(2)],
            .project = kProjects[below(2)],
            .queue = below(3) == 0 ? "big" : "default",
            .name = below(3) == 0 ? "other" : "sweep",
            .matrix = below(5) == 0};
    s.begins = std::min(below(4), s.max_parallel > 0 ? std::min(s.tasks, s.max_parallel) : s.tasks);
    b = batch_of(s);
    for (const auto& row : b.new_jobs) live_[row.id] = row;
    next_job_ += s.tasks;
    next_event_ += s.tasks + 2 * s.begins;
  }
  void submit_others(Batch& b) {
    for (int n = below(4) + 1; n > 0; --n) {
      Batch one = submission(next_job_++);
      one.new_jobs[0].created_at = one.new_jobs[0].queued_at = one.new_specs[0].created_at = at(at_);
      b.new_specs.push_back(one.new_specs[0]);
      b.new_jobs.push_back(one.new_jobs[0]);
      live_[one.new_jobs[0].id] = one.new_jobs[0];
      b.events.push_back(event(next_event_++, one.new_jobs[0].id.value, "", "queued"));
      b.events.back().at = at(at_);
    }
  }
  void update(Batch& b, JobRow& row, std::int32_t base) {
    row.version = base + 1;
    b.jobs.push_back({row, base});
  }
  void start(Batch& b, int most, bool oldest_first) {
    auto next = live_.begin();
    for (int n = 0; n < most && !live_.empty(); ++n) {
      JobRow& row = oldest_first ? (next == live_.end() ? some() : (next++)->second) : some();
      if (row.state != JobState::queued || row.version != last_version(b, row)) continue;
      const auto base = row.version;
      begin_task(b, row, next_event_, at(at_));
      update(b, row, base);
    }
  }
  static std::int32_t last_version(const Batch& b, const JobRow& row) {
    for (const auto& u : b.jobs)
      if (u.row.id == row.id) return -1;  // once in a batch
    return row.version;
  }
  void cancel(Batch& b, int most) {
    const int from = below(std::max(1, static_cast<int>(live_.size())));
    auto it = std::next(live_.begin(), std::min<int>(from, static_cast<int>(live_.size())));
    for (int n = 0; n < most && it != live_.end(); ++n) {
      JobRow row = it->second;
      const bool skip = below(4) == 0 && most < 400;
      if (row.attempt > 0 || skip) {
        ++it;
        continue;
      }
      const auto base = row.version;
      say(b, row, JobState::cancelled);
      row.cause = Cause::cancelled;
      row.version = base + 1;
      b.done.push_back({{row, at(at_), 0}, base});
      it = live_.erase(it);
    }
  }
  void hold(Batch& b) {
    if (live_.empty()) return;
    JobRow& row = some();
    if (row.state != JobState::queued && row.state != JobState::blocked) return;
    const auto base = row.version;
    say(b, row, JobState::held);
    row.reason = "held by a person";
    row.cause = Cause::held;
    update(b, row, base);
  }
  void change(Batch& b) {
    if (live_.empty()) return;
    for (int n = below(3); n >= 0; --n)
      b.changed_specs[some().id] = R"({"name":"changed)" + std::to_string(at_) + "\"}";
  }
  void remark(Batch& b) {
    if (live_.empty()) return;
    b.events.push_back(event(next_event_++, some().id.value, "", "", "update"));
    b.events.back().at = at(at_);
    b.events.push_back(node_event(next_event_++, 1, "", "reachable"));
    b.events.back().at = at(at_);
  }

  std::mt19937 dice_;
  std::map<JobId, JobRow> live_;
  std::int64_t next_job_ = 1, next_event_ = 1, at_ = 0;
};

// One of the two.
class Side {
 public:
  explicit Side(int schema) : schema_(schema) { lead(); }

  void lead() {
    store_.reset();
    PgStoreOptions o;
    o.connection_string = database_.connection_string();
    o.leadership_wait = std::chrono::milliseconds(5000);
    o.schema = schema_;
    store_ = std::make_unique<PgStore>(o);
    store_->acquire_leadership("test");
  }
  PgStore& store() { return *store_; }
  std::string folded() {
    return database_.sql("SELECT coalesce(sum(tutti_tasks_in(waiting)), 0)::text FROM job_array").at(0);
  }

  std::vector<std::string> snapshot() {
    const Snapshot s = store_->load();
    std::vector<std::string> out{to_string(s.last_job) + " " + to_string(s.last_event) + " " +
                                 std::to_string(s.attempts.size())};
    for (std::size_t i = 0; i < s.jobs.size(); ++i) out.push_back(text_of(s.jobs[i]) + " | " + s.specs.of(i));
    for (const auto& k : s.keys) out.push_back(k.owner.str() + " " + k.key + " " + to_string(k.job));
    return out;
  }
  void jobs(const JobFilter& f, int page, std::vector<std::string>& out) {
    JobId after;
    for (auto part = reader_.list_jobs(f, page, after); !part.empty();
         part = reader_.list_jobs(f, page, after)) {
      for (const auto& v : part) out.push_back(text_of(v));
      after = part.back().row.id;
    }
    for (const JobKey by :
         {JobKey::state, JobKey::project, JobKey::queue, JobKey::user, JobKey::cause, JobKey::name})
      for (const auto& g : reader_.count_jobs(f, by, 10))
        out.push_back(std::to_string(static_cast<int>(by)) + " " + g.key + " " + std::to_string(g.jobs) +
                      " " + std::to_string(g.gpus));
  }
  void one(JobId id, Instant when, std::vector<std::string>& out) {
    const auto view = reader_.find_job(id);
    out.push_back(view ? text_of(*view) : "no job " + to_string(id));
    for (const auto& e : reader_.job_events(id, EventId(0), 10)) out.push_back(text_of(e));
    const auto state = reader_.last_state(id, when);
    out.push_back(state ? text_of(*state) : "no state");
  }
  void events(EventId after, int page, std::vector<std::string>& out) {
    EventId next = after;
    for (auto part = reader_.all_events(next, page); !part.empty(); part = reader_.all_events(next, page)) {
      for (const auto& e : part) out.push_back(text_of(e));
      next = part.back().id;
    }
    for (const Visible& who : {Visible{{"nlp"}, ""}, Visible{{}, "bob"}, Visible{{}, "nobody"}}) {
      next = after;
      for (bool end = false; !end;) {
        const auto window = reader_.events_for(who, next, page);
        for (const auto& e : window.rows) out.push_back(text_of(e));
        out.push_back(to_string(window.seen));
        next = window.seen;
        end = window.end;
      }
    }
  }
  void past(Instant when, std::vector<std::string>& out) {
    const auto counts = [&](const StateCounts& c) {
      std::string line;
      for (const auto n : c) line += std::to_string(n) + " ";
      out.push_back(line);
    };
    counts(reader_.count_by_state());
    counts(history_.jobs(when).by_state);
    for (const auto& visible : {std::optional<Visible>{}, std::optional(Visible{{"nlp"}, "bob"})})
      for (const int most : {3, 1000}) {
        const auto queue = history_.queue(when, visible, most);
        out.emplace_back(queue.cut ? "cut" : "all");
        for (const auto& j : queue.jobs)
          out.push_back(text_of(j.row) + " " + j.name + " " +
                        std::to_string(j.since.time_since_epoch().count()));
      }
    out.push_back(std::to_string(history_.ran(at(0), when, 10).others));
    const auto first = history_.first_event();
    out.push_back(std::to_string(first ? first->time_since_epoch().count() : -1));
    const auto oldest = retention_.oldest();
    out.push_back(std::to_string(oldest ? oldest->time_since_epoch().count() : -1));
    for (const auto& d : history_.decisions({.since = at(0), .until = when})) out.push_back(text_of(d.event));
    for (const auto id : reader_.resolve_name("sweep", 3)) out.push_back(to_string(id));
  }
  void archive(std::vector<std::string>& out) {
    HistoryPlace place{at(0) - std::chrono::hours(1), 0};
    for (auto page = retention_.read(HistoryPart::events, place, at(1'000'000), 23); !page.lines.empty();
         page = retention_.read(HistoryPart::events, place, at(1'000'000), 23)) {
      out.insert(out.end(), page.lines.begin(), page.lines.end());
      place = page.last;
    }
  }
  void forget(Instant before) {
    while (retention_.forget(before, 50).more) {
    }
  }
  std::vector<std::string> sql(const std::string& text) { return database_.sql(text); }

 private:
  TestDatabase database_ = TestPostgres::instance().create_database();
  int schema_;
  std::unique_ptr<PgStore> store_;
  PgReader reader_{database_.connection_string()};
  PgHistory history_{database_.connection_string()};
  PgRetention retention_{database_.connection_string()};
};

class ArrayAnswers : public testing::TestWithParam<unsigned> {
 protected:
  // Every line that one side says, the other says too, in the same place.
  template <class Ask>
  void same(const std::string& what, Ask ask) {
    std::vector<std::string> a, b;
    ask(folds_, a);
    ask(does_not_, b);
    const auto differ = std::ranges::mismatch(a, b);
    if (differ.in1 == a.end() && differ.in2 == b.end()) return;
    ADD_FAILURE() << what << ", line " << differ.in1 - a.begin() << " of " << a.size() << " and " << b.size()
                  << "\nfolded:  " << (differ.in1 == a.end() ? "-" : *differ.in1)
                  << "\nbefore: " << (differ.in2 == b.end() ? "-" : *differ.in2);
  }
  void commit(const Batch& b) {
    folds_.store().commit(b);
    does_not_.store().commit(b);
  }
  JobFilter filter() {
    JobFilter f;
    const auto maybe = [&] { return story_.below(3) == 0; };
    if (maybe()) f.states = {JobState::queued, JobState::cancelled};
    if (maybe()) f.states.push_back(JobState::blocked);
    if (maybe()) f.project = "nlp";
    if (maybe()) f.queue = "big";
    if (maybe()) f.owner = "ann";
    if (maybe()) f.name = "sweep";
    if (maybe()) f.name_part = "WEE";
    if (maybe()) f.since = at(story_.below(static_cast<int>(story_.time()) + 1));
    if (maybe()) f.until = at(story_.below(static_cast<int>(story_.time()) + 1));
    if (maybe()) f.first = id();
    if (maybe()) f.last = id();
    if (maybe()) f.causes = {Cause::none};
    if (maybe()) f.visible = Visible{{"nlp"}, "bob"};
    if (story_.below(5) == 0) f.ids = {id(), id(), id(), JobId(INT64_MAX)};
    return f;
  }
  JobId id() { return JobId(story_.below(static_cast<int>(story_.last_job()) + 3) + 1); }
  Instant when() { return at(story_.below(static_cast<int>(story_.time()) + 5)); }

  void compare_some() {
    const JobFilter f = filter();
    const int page = story_.below(150) + 20;
    same("lists", [&](Side& s, auto& out) { s.jobs(f, page, out); });
    for (int i = 0; i < 5; ++i) {
      const JobId one = id();
      const Instant at = when();
      same("one job", [&](Side& s, auto& out) { s.one(one, at, out); });
    }
    const EventId after(story_.below(static_cast<int>(story_.last_event()) + 1));
    same("events", [&](Side& s, auto& out) { s.events(after, page, out); });
    const Instant at = when();
    same("the past", [&](Side& s, auto& out) { s.past(at, out); });
  }
  void compare_all() {
    same("load", [](Side& s, auto& out) { out = s.snapshot(); });
    same("all jobs", [](Side& s, auto& out) { s.jobs({}, 1000, out); });
    same("all events", [](Side& s, auto& out) { s.events(EventId(0), 500, out); });
    same("archive", [](Side& s, auto& out) { s.archive(out); });
    same("views", [](Side& s, auto& out) { out = s.sql("SELECT n::text FROM job_named n ORDER BY id"); });
  }

  Story story_{GetParam()};
  Side folds_{kFolds}, does_not_{kDoesNot};
};

INSTANTIATE_TEST_SUITE_P(Seeds, ArrayAnswers, testing::Values(1u, 2u));

TEST_P(ArrayAnswers, AreTheSameWhetherArraysAreFoldedOrNot) {
  std::int64_t folded = 0;
  for (int i = 1; i <= 100 && !HasFailure(); ++i) {
    SCOPED_TRACE("seed " + std::to_string(GetParam()) + ", batch " + std::to_string(i));
    commit(story_.next());
    folded = std::max(folded, static_cast<std::int64_t>(std::stoll(folds_.folded())));
    EXPECT_EQ(does_not_.folded(), "0");
    if (i % 4 == 0) compare_some();
    if (i % 25 == 0) compare_all();
    if (const Batch wrong = story_.conflict(); i % 17 == 0 && !wrong.jobs.empty())
      for (Side* side : {&folds_, &does_not_}) EXPECT_THROW(side->store().commit(wrong), StoreError);
    if (i % 25 == 0) folds_.lead();
    if (i % 50 == 0) {
      const Instant before = when();
      folds_.forget(before);
      does_not_.forget(before);
      compare_all();
    }
  }
  EXPECT_GT(folded, 100) << "else it compares nothing";
  // Given their rows all at once, as for a scheduler of the version before: they are what they were.
  folds_.sql("SELECT tutti_unfold_all()");
  EXPECT_EQ(folds_.folded(), "0");
  compare_all();
  same("rows", [](Side& s, auto& out) {
    for (const char* table : {"job", "job_event", "job_text"})
      for (auto& row : s.sql(std::string("SELECT t::text FROM ") + table + " t ORDER BY id"))
        out.push_back(std::move(row));
  });
}

}  // namespace
}  // namespace tutti::db
