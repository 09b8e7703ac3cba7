// The scheduler's writer alone: the real Leader over the real PostgreSQL store, with nodes that answer every
// order at once and in this process, so that neither sockets nor JSON are measured. A closed loop of
// `in-flight` jobs of one GPU: submitted, placed, prepared, launched, ended, archived, and the next.
//   writer_bench --db CONNECTION [--seconds 5] [--in-flight 1024] [--nodes 128] [--warm 1] [--spec TEXT]
//                [--decisions DIR]   with a decision log there, as a scheduler has one
// Migrates that database. Prints one JSON object: transitions of jobs (`state`) and of their attempts, each
// with its committed history row, counted as the event stream tells them.
#include <spdlog/spdlog.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "api/wire/job_spec_codec.h"
#include "db/migrate/migrate.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_store.h"
#include "scheduler/decisions/decision_log.h"
#include "scheduler/service/clocks.h"
#include "scheduler/service/leader.h"

namespace tutti::bench {
namespace {

using protocol::Phase;

struct Options {
  std::string db;
  std::string decisions;
  std::string spec = R"({"name":"bench","run":"true","priority":50,"nodes":1,"resources":{"gpus":1}})";
  double seconds = 5, warm = 1;
  int in_flight = 1024, nodes = 128, gpus = 8;
};

Options read_options(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const char* value = argv[i + 1];
    if (flag == "--db")
      o.db = value;
    else if (flag == "--spec")
      o.spec = value;
    else if (flag == "--decisions")
      o.decisions = value;
    else if (flag == "--seconds")
      o.seconds = std::atof(value);
    else if (flag == "--warm")
      o.warm = std::atof(value);
    else if (flag == "--in-flight")
      o.in_flight = std::atoi(value);
    else if (flag == "--nodes")
      o.nodes = std::atoi(value);
    else {
      std::fprintf(stderr, "writer_bench: unknown flag %s\n", flag.c_str());
      std::exit(2);
    }
  }
  if (o.db.empty() || o.in_flight < 1 || o.nodes < 1) {
    std::fprintf(stderr, "writer_bench: --db CONNECTION, with numbers above 0\n");
    std::exit(2);
  }
  return o;
}

struct Counts {
  std::int64_t submissions = 0, job_transitions = 0, attempt_transitions = 0, finished = 0;
};

// The nodes: what they are told is done before the next batch.
class Nodes final : public WorkerMessages {
 public:
  Nodes(Leader& leader, std::function<void()> finished) : leader_(leader), finished_(std::move(finished)) {}

  void deliver(Effect effect) override {
    const NodeId node = effect.to;
    if (const auto* prepare = std::get_if<protocol::Prepare>(&effect.message)) {
      say(node, status(prepare->key, Phase::ready), {});
    } else if (const auto* launch = std::get_if<protocol::Launch>(&effect.message)) {
      const AttemptKey key = launch->key;
      say(node, status(key, Phase::running), [this, node, key] {  // it has run, and ends
        say(node, status(key, Phase::ended), {});
      });
    } else if (const auto* stop = std::get_if<protocol::Stop>(&effect.message)) {
      protocol::AttemptStatus ended = status(stop->key, Phase::ended);
      ended.end->ok = false;
      say(node, ended, {});
    } else if (std::holds_alternative<protocol::Forget>(effect.message)) {
      finished_();
    }
  }
  void resync(const std::vector<NodeRow>&) override {}
  void read_log(NodeId, protocol::ReadLog, Reply<protocol::LogChunk>) override {}

 private:
  static protocol::AttemptStatus status(AttemptKey key, Phase phase) {
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = phase;
    s.agent_port = 4000;
    s.master_port = 4001;
    if (phase == Phase::ended)
      s.end = protocol::End{.ok = true, .proven = true, .how = "cgroup", .boot_us = 1};
    return s;
  }

  void say(NodeId node, const protocol::AttemptStatus& s, std::function<void()> after) {
    Command command;
    command.decide = [node, s, after = std::move(after)](ControlPlane& plane,
                                                         Now now) -> std::function<void()> {
      plane.on_attempt_status(now, node, s);
      return after;
    };
    leader_.post(std::move(command));
  }

  Leader& leader_;
  std::function<void()> finished_;
};

class WriterBench {
 public:
  explicit WriterBench(Options o)
      : o_(std::move(o)), spec_(parse(o_.spec)), encoded_(wire::encode_spec(*spec_)) {
    db::migrate(o_.db);
    store_ = std::make_unique<StoreThread>(io_.get_executor(), std::make_unique<db::PgStore>(o_.db),
                                           std::make_shared<db::PgReader>(o_.db), 1);
    LeaderSettings settings;
    settings.holder = "writer_bench";
    leader_ = std::make_unique<Leader>(io_.get_executor(), settings, *store_, leases_, metrics_);
    nodes_ = std::make_unique<Nodes>(*leader_, [this] { ++counts_.finished, --in_flight_, submit_soon(); });
    leader_->subscribe([this](const EventRow& e) { count(e); });
    if (o_.decisions.empty()) return;
    decisions::DecisionLogSettings log;
    log.directory = o_.decisions;
    log.version = "bench";
    log_ = std::make_unique<decisions::DecisionLog>(log);
    leader_->watched_by(*log_);
  }

  int run() {
    leader_->start(*nodes_, [](const std::string& why) { fail("deposed: " + why); });
    run_until([this] { return leader_->plane() != nullptr; });
    for (int i = 0; i < o_.nodes; ++i) register_node("bench-" + std::to_string(i));
    run_until([this] { return registered_ == o_.nodes; });
    renew_leases();
    submit();
    run_for(o_.warm);
    const Counts before = counts_;
    const auto begin = Clock::now();
    run_for(o_.seconds);
    report(before, std::chrono::duration<double>(Clock::now() - begin).count());
    stopping_ = true;
    lease_timer_.cancel();
    bool stopped = false;
    leader_->stop([&stopped] { stopped = true; });
    run_until([&stopped] { return stopped; });
    store_.reset();
    return counts_.finished > before.finished ? 0 : 1;
  }

 private:
  using Clock = std::chrono::steady_clock;

  [[noreturn]] static void fail(const std::string& what) {
    std::fprintf(stderr, "writer_bench: %s\n", what.c_str());
    std::exit(1);
  }

  static SpecPtr parse(const std::string& text) {
    auto parsed = wire::parse_spec_json(text, Now{});
    if (!parsed.ok()) fail("the spec: " + parsed.problems[0].message);
    return std::make_shared<const JobSpec>(std::move(parsed.spec));
  }

  template <class Condition>
  void run_until(Condition condition) {
    const auto end = Clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      if (Clock::now() > end) fail("nothing has come of it within a minute: " + leader_->status().detail);
      io_.run_one_for(std::chrono::milliseconds(50));
    }
  }

  void run_for(double seconds) {
    io_.run_for(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  }

  void register_node(const std::string& name) {
    protocol::Hello hello;
    hello.worker_version = "bench";
    hello.node = hello.instance = name;
    hello.address = "127.0.0.1";
    hello.boot_id = to_string(Term(leader_->status().term));  // of an earlier run: another boot
    hello.cpus = 128;
    hello.memory_bytes = 1LL << 40;
    hello.kill_mode = "cgroup2";
    hello.health.emplace();
    for (int i = 0; i < o_.gpus; ++i) {
      protocol::GpuInfo gpu;
      gpu.uuid = "GPU-" + name + "-" + std::to_string(i);
      gpu.index = i;
      gpu.model = "H100";
      gpu.memory_bytes = 80LL << 30;
      hello.gpus.push_back(std::move(gpu));
    }
    Command command;
    command.decide = [this, hello](ControlPlane& plane, Now now) -> std::function<void()> {
      ids_.push_back(plane.on_hello(now, hello));
      return [this] { ++registered_; };
    };
    command.refuse = [](const Error& e) { fail("a node is refused: " + e.message); };
    leader_->post(std::move(command));
  }

  // As their heartbeats would.
  void renew_leases() {
    for (const NodeId id : ids_) leases_.renew(id, boot_now());
    lease_timer_.expires_after(std::chrono::seconds(1));
    lease_timer_.async_wait([this](boost::system::error_code ec) {
      if (!ec) renew_leases();
    });
  }

  // What has ended in one batch is submitted anew in one request.
  void submit_soon() {
    if (std::exchange(submitting_, true)) return;
    boost::asio::post(io_, [this] {
      submitting_ = false;
      submit();
    });
  }

  void submit() {
    if (stopping_ || in_flight_ >= o_.in_flight) return;
    const int missing = o_.in_flight - in_flight_;
    in_flight_ += missing;
    std::vector<SubmitRequest> requests(static_cast<std::size_t>(missing));
    for (auto& r : requests) {
      r.spec = spec_;
      r.spec_json = encoded_;
      r.owner = "ann";
    }
    leader_->submit(std::move(requests), [this](const std::vector<Result<Submitted>>& results) {
      for (const auto& r : results) {
        if (r) continue;
        if (!stopping_) fail("a submission is refused: " + r.error().message);
        return;
      }
      counts_.submissions += static_cast<std::int64_t>(results.size());
    });
  }

  void count(const EventRow& e) {
    if (e.from.empty() && e.kind == "state") return;  // the submission
    if (e.kind == "state") ++counts_.job_transitions;
    if (e.kind == "attempt" && e.from != e.to) ++counts_.attempt_transitions;
  }

  void report(const Counts& before, double seconds) const {
    const auto rate = [seconds](std::int64_t now, std::int64_t then) {
      return static_cast<double>(now - then) / seconds;
    };
    std::printf(
        "{\"seconds\":%.3f,\"submissions_per_second\":%.0f,\"job_transitions_per_second\":%.0f,"
        "\"attempt_transitions_per_second\":%.0f,\"jobs_per_second\":%.0f}\n",
        seconds, rate(counts_.submissions, before.submissions),
        rate(counts_.job_transitions, before.job_transitions),
        rate(counts_.attempt_transitions, before.attempt_transitions),
        rate(counts_.finished, before.finished));
  }

  Options o_;
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{io_.get_executor()};
  SpecPtr spec_;
  std::string encoded_;
  LeaseTable leases_{LeaseSettings{}};
  Metrics metrics_;
  std::unique_ptr<StoreThread> store_;
  std::unique_ptr<decisions::DecisionLog> log_;
  std::unique_ptr<Leader> leader_;
  std::unique_ptr<Nodes> nodes_;
  boost::asio::steady_timer lease_timer_{io_};
  std::vector<NodeId> ids_;
  Counts counts_;
  int registered_ = 0, in_flight_ = 0;
  bool submitting_ = false, stopping_ = false;
};

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::warn);
  try {
    return tutti::bench::WriterBench(tutti::bench::read_options(argc, argv)).run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "writer_bench: %s\n", e.what());
    return 1;
  }
}
