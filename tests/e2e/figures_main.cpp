// e2e_figures: how long things take, measured on real processes from outside, through REST and the event
// stream. Writes one JSON object to the file $TUTTI_E2E_FIGURES, or to stdout. `./dev bench latency` runs it.
//
//   submit_to_running    a job of one rank (direct) on an idle cluster: POST sent → `running` heard
//   rank_kill_to_dead    SIGKILL to a rank → the attempt has ended, every rank proven dead
//   rank_kill_to_running … → the next attempt runs
//   xid_to_dead, xid_to_running    the same, from a fatal Xid
//   node_cut_to_running  one of two nodes cut off (lease and kill margin as delivered) → the gang runs
//   elsewhere
//
//   e2e_figures [--jobs N] [--kills N] [--cuts N]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "tests/e2e/cluster.h"

using namespace tutti::e2e;

namespace {

using Series = std::vector<double>;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double quantile(Series s, double q) {
  std::ranges::sort(s);
  const auto at = static_cast<std::size_t>(q * static_cast<double>(s.size() - 1) + 0.5);
  return s.at(at);
}

json::object summary(const Series& s) {
  if (s.empty()) return {{"n", 0}};
  return {{"n", s.size()},
          {"p50_ms", quantile(s, 0.5)},
          {"p99_ms", quantile(s, 0.99)},
          {"min_ms", quantile(s, 0)},
          {"max_ms", quantile(s, 1)}};
}

void await_event(Cluster& c, EventStream& events, std::int64_t job, std::string_view kind,
                 std::string_view to, std::int64_t epoch = 0) {
  const auto until = Clock::now() + kPatience;
  while (Clock::now() < until) {
    const auto event =
        events.next(std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()));
    if (!event) break;
    const auto* of = event->if_contains("job_id");
    if (of == nullptr || !of->is_number() || of->to_number<std::int64_t>() != job) continue;
    if (text_of(*event, "kind") != kind || text_of(*event, "to") != to) continue;
    if (epoch != 0 && number_of(*event, "epoch") != epoch) continue;
    return;
  }
  throw Failure("job " + std::to_string(job) + " does not become " + std::string(to) +
                (events.ended() ? " before the stream ends" : "") + "\n" + json::serialize(c.job(job)) +
                "\n" + c.explain(job) + "\n" + c.logs());
}

json::object endless(Cluster& c, const char* cause, int nodes = 1) {
  auto spec = c.spec("figure", c.rank("--step-ms 20"), nodes, 1);
  spec["retry"] = json::object{{"budget", {{cause, -1}}},
                               {"backoff", {{cause, {{"initial", "0s"}, {"max", "0s"}}}}},
                               {"no_progress_limit", 0}};
  return spec;
}

void cancel(Cluster& c, EventStream& events, std::int64_t id) {
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  await_event(c, events, id, "state", "cancelled");
}

void measure_submit(json::object& out, int n) {
  Cluster c({.workers = 1, .gpus = 1});
  EventStream events(c.port(), c.token(), "/v1/events");
  Series running;
  Rest rest = c.rest();
  for (int i = 0; i < n; ++i) {
    const auto spec = endless(c, "user");
    const auto start = Clock::now();
    const auto id = number_of(rest.post("/v1/jobs", spec).as_object(), "id");
    await_event(c, events, id, "state", "running");
    running.push_back(ms_since(start));
    cancel(c, events, id);
  }
  out["submit_to_running"] = summary(running);
  c.finish();
}

void measure_rank_kill(json::object& out, int n) {
  Cluster c({.workers = 1, .gpus = 1});
  EventStream events(c.port(), c.token(), "/v1/events");
  const auto id = c.submit(endless(c, "unknown"));
  await_event(c, events, id, "state", "running");
  Series dead, running;
  for (int epoch = 1; epoch <= n; ++epoch) {
    const auto ranks = c.await_ranks(id, epoch, 1);
    const auto start = Clock::now();
    ranks[0].signal(SIGKILL);
    await_event(c, events, id, "attempt", "ended", epoch);
    dead.push_back(ms_since(start));
    await_event(c, events, id, "state", "running", epoch + 1);
    running.push_back(ms_since(start));
  }
  out["rank_kill_to_dead"] = summary(dead);
  out["rank_kill_to_running"] = summary(running);
  cancel(c, events, id);
  c.finish();
}

void measure_xid(json::object& out, int n) {
  Cluster c({.workers = 1, .gpus = n + 1});
  EventStream events(c.port(), c.token(), "/v1/events");
  const auto id = c.submit(endless(c, "gpu"));
  await_event(c, events, id, "state", "running");
  Series dead, running;
  for (int epoch = 1; epoch <= n; ++epoch) {
    const auto attempts = c.attempts(id);
    const auto& gpu = attempts.back().at("gang").as_array().at(0).at("gpus").as_array().at(0).as_object();
    const auto start = Clock::now();
    c.worker("n1").xid(static_cast<int>(number_of(gpu, "index")), 79);
    await_event(c, events, id, "attempt", "ended", epoch);
    dead.push_back(ms_since(start));
    await_event(c, events, id, "state", "running", epoch + 1);
    running.push_back(ms_since(start));
  }
  out["xid_to_dead"] = summary(dead);
  out["xid_to_running"] = summary(running);
  cancel(c, events, id);
  c.finish();
}

void measure_node_cut(json::object& out, int n) {
  if (!Site::may_use_network()) {
    std::cerr << "node_cut_to_running is left out: network namespaces need root\n";
    return;
  }
  Cluster c({.workers = 3, .gpus = 1, .namespaces = true});
  EventStream events(c.port(), c.token(), "/v1/events");
  const auto id = c.submit(endless(c, "node_lost", 2));
  await_event(c, events, id, "state", "running");
  Series running;
  for (int epoch = 1; epoch <= n; ++epoch) {
    const std::string node = c.gang(id).at(1);
    const auto start = Clock::now();
    c.cut(node);
    await_event(c, events, id, "state", "running", epoch + 1);
    running.push_back(ms_since(start));
    c.heal(node);
    c.await_linked();
  }
  out["node_cut_to_running"] = summary(running);
  cancel(c, events, id);
  c.finish();
}

int number_after(int argc, char** argv, const std::string& option, int otherwise) {
  for (int i = 1; i + 1 < argc; ++i)
    if (argv[i] == option) return std::max(1, std::atoi(argv[i + 1]));
  return otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    json::object out;
    measure_submit(out, number_after(argc, argv, "--jobs", 100));
    const int kills = std::min(number_after(argc, argv, "--kills", 30), 60);
    measure_rank_kill(out, kills);
    measure_xid(out, kills);
    measure_node_cut(out, number_after(argc, argv, "--cuts", 5));
    const std::string text = json::serialize(out) + "\n";
    if (const char* file = std::getenv("TUTTI_E2E_FIGURES"); file != nullptr && *file != '\0') {
      std::ofstream to(file);
      to << text;
      to.close();
      if (!to) throw Failure(std::string("cannot write ") + file);
    } else {
      std::cout << text;
    }
    return 0;
  } catch (const std::exception& e) {
    Site::instance().keep();
    std::cerr << "e2e_figures: " << e.what() << "\n";
    return 1;
  }
}
