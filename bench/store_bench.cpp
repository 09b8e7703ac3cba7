// What the store over PostgreSQL can take: submissions (spec, job, event each), transitions (compare-and-set
// and event each) and the read back at boot, by batch size. Starts a PostgreSQL of its own, fsync on, in
// TUTTI_BENCH_DIR or /var/tmp. Run by `./dev bench`; items_per_second is the figure.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

#include "db/embedded/embedded_postgres.h"
#include "db/migrate/migrate.h"
#include "db/pg/pg_store.h"

namespace tutti {
namespace {

// About what the README's job becomes when all its defaults are filled in.
const std::string kSpec =
    R"({"apiVersion":"v1","name":"llama-sft","run":")" + std::string(560, 'x') + R"("})";

class Bench {
 public:
  static Bench& instance() {
    static Bench one;
    return one;
  }
  db::PgStore& store() { return *store_; }
  std::int64_t next_job = 1;
  std::int64_t next_event = 1;

 private:
  Bench() {
    const char* where = std::getenv("TUTTI_BENCH_DIR");
    directory_ = std::string(where ? where : "/var/tmp") + "/tutti-bench-" + std::to_string(::getpid());
    db::EmbeddedOptions options;
    options.directory = directory_;
    server_ = std::make_unique<db::EmbeddedPostgres>(options);
    server_->start();
    db::migrate(server_->connection_string());
    store_ = std::make_unique<db::PgStore>(server_->connection_string());
    store_->acquire_leadership("bench");
  }
  ~Bench() {
    store_.reset();
    server_.reset();
    std::error_code ec;
    std::filesystem::remove_all(directory_, ec);
  }
  std::string directory_;
  std::unique_ptr<db::EmbeddedPostgres> server_;
  std::unique_ptr<db::PgStore> store_;
};

// CPU seconds the server's process for our session has used: the figure that a busy machine does not blur.
double server_cpu_seconds(const db::PgStore& store) {
  std::ifstream in("/proc/" + std::to_string(store.backend_pid()) + "/stat");
  std::string skipped;
  std::getline(in, skipped, ')');
  long user = 0, system = 0;
  for (int field = 3; field <= 13; ++field) in >> skipped;
  in >> user >> system;
  return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

void report(benchmark::State& state, std::int64_t per_iteration, double cpu_before) {
  const auto items = state.iterations() * per_iteration;
  state.SetItemsProcessed(items);
  const double cpu = server_cpu_seconds(Bench::instance().store()) - cpu_before;
  state.counters["server_us"] = cpu * 1e6 / static_cast<double>(items);
}

Instant now() { return std::chrono::floor<Duration>(std::chrono::system_clock::now()); }

EventRow event_of(std::int64_t id, JobId job, const char* from, const char* to) {
  EventRow e;
  e.id = EventId(id);
  e.at = now();
  e.job = job;
  e.kind = "state";
  e.from = from;
  e.to = to;
  return e;
}

Batch submissions(Bench& bench, std::int64_t count) {
  Batch b;
  for (std::int64_t i = 0; i < count; ++i) {
    SpecRow s;
    s.id = JobId(bench.next_job++);
    s.owner = "ann";
    s.name = "llama-sft";
    s.spec_json = kSpec;
    s.created_at = now();
    JobRow j;
    j.id = s.id;
    j.queue = j.project = "default";
    j.owner = "ann";
    j.created_at = j.queued_at = s.created_at;
    b.events.push_back(event_of(bench.next_event++, j.id, "", "queued"));
    b.new_specs.push_back(std::move(s));
    b.new_jobs.push_back(std::move(j));
  }
  return b;
}

void Submit(benchmark::State& state) {
  Bench& bench = Bench::instance();
  const double cpu = server_cpu_seconds(bench.store());
  for (auto _ : state) bench.store().commit(submissions(bench, state.range(0)));
  report(state, state.range(0), cpu);
}
BENCHMARK(Submit)->Arg(1)->Arg(16)->Arg(64)->Arg(256)->Arg(1000)->UseRealTime()->Unit(
    benchmark::kMillisecond);

// Held and released in turn: a compare-and-set and an event for each job.
void Transition(benchmark::State& state) {
  Bench& bench = Bench::instance();
  Batch jobs = submissions(bench, state.range(0));
  bench.store().commit(jobs);
  Batch b;
  for (const auto& j : jobs.new_jobs) b.jobs.push_back({j, 0});
  const double cpu = server_cpu_seconds(bench.store());
  for (auto _ : state) {
    b.events.clear();
    for (auto& u : b.jobs) {
      const bool release = u.row.state == JobState::held;
      u.base_version = u.row.version++;
      u.row.state = release ? JobState::queued : JobState::held;
      b.events.push_back(
          event_of(bench.next_event++, u.row.id, release ? "held" : "queued", release ? "queued" : "held"));
    }
    bench.store().commit(b);
  }
  report(state, state.range(0), cpu);
}
BENCHMARK(Transition)->Arg(1)->Arg(64)->Arg(1000)->UseRealTime()->Unit(benchmark::kMillisecond);

void Load(benchmark::State& state) {
  Bench& bench = Bench::instance();
  std::int64_t jobs = 0;
  for (auto _ : state) jobs = static_cast<std::int64_t>(bench.store().load().jobs.size());
  state.SetItemsProcessed(state.iterations() * jobs);
}
BENCHMARK(Load)->Iterations(3)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tutti

BENCHMARK_MAIN();
