// Somebody cancels everything at once, twice over, while a part of it runs and others work: with TUTTI_BIG=1
// 100,000 waiting jobs and 1,000 running ones, else a fifth of that.
#include <atomic>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cstdlib>
#include <map>
#include <set>
#include <thread>

#include "api/http/client.h"
#include "bench/fleet/fake_worker.h"
#include "tests/bench/cluster_rig.h"

namespace tutti::bench {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr auto kPatience = 60s;    // of a client with one answer
constexpr auto kLongest = 5000ms;  // that anybody may wait for one, on a slow machine in a sanitizer build
constexpr int kGpus = 8;

http::ClientResponse ask(http::HttpClient& client, const std::string& user, const char* method,
                         const std::string& path, const std::string& body = "") {
  const auto answer =
      client.request(method, path, {{"Content-Type", "application/json"}, {"X-User", user}}, body, kPatience);
  if (answer.status != 200 && answer.status != 201)
    throw std::runtime_error(path + ": " + std::to_string(answer.status) + " " + answer.body);
  return answer;
}

// A person at a terminal: something on a thread of its own, which says what went wrong.
class Person {
 public:
  explicit Person(std::function<void()> work)
      : thread_([this, work = std::move(work)] {
          try {
            work();
          } catch (const std::exception& e) {
            trouble_ = e.what();
          }
          done_ = true;
        }) {}
  bool done() const { return done_; }
  std::string trouble() {  // once done
    thread_.join();
    return trouble_;
  }

 private:
  std::string trouble_;
  std::atomic<bool> done_ = false;
  std::jthread thread_;
};

struct MassCancelTest : ClusterRig {
  const bool big = std::getenv("TUTTI_BIG") != nullptr;
  const int running = big ? 1'000 : 200, waiting = big ? 100'000 : 20'000;
  const std::chrono::seconds patience = big ? 600s : 100s;
  const std::string spec = R"({"name":"j","run":"true","resources":{"gpus":1}})";
  FakeWorkerSettings worker_settings;
  FleetLog log;
  std::vector<std::shared_ptr<FakeWorker>> workers;
  Clock::time_point leases_looked_at{};
  std::map<JobId, int> cancelled;  // how often the history says so of each
  std::set<JobId> begun;           // that were ever placed

  void SetUp() override {
    ClusterRig::SetUp();
    on_commit = [this](const Batch& batch) {
      for (const auto& event : batch.events)
        if (event.kind == "state" && event.to == "cancelled") ++cancelled[event.job];
      for (const auto& attempt : batch.attempts) begun.insert(attempt.job);
    };
    worker_settings.scheduler.port = server->port();
    worker_settings.boot_id = "boot";
    worker_settings.gpus = kGpus;
    worker_settings.run = 1h;
    for (int i = 0; i < running / kGpus; ++i)
      workers.push_back(std::make_shared<FakeWorker>(io, worker_settings, log, "n" + std::to_string(i)));
    for (const auto& worker : workers) worker->start();
    work_until([&] { return log.counts.welcomes == std::ssize(workers); });
  }
  void TearDown() override {
    for (const auto& worker : workers) worker->stop();
    ClusterRig::TearDown();
  }

  // As until(), and looks ten times a second whether a lease has lapsed.
  void work_until(const std::function<bool()>& condition) {
    until(
        [&] {
          if (const auto now = Clock::now(); now - leases_looked_at > 100ms) {
            leases_looked_at = now;
            for (const auto& worker : workers) worker->check_lease(now);
          }
          return condition();
        },
        patience);
  }

  void submit(int jobs) {
    Person person([this, jobs] {
      http::HttpClient client("127.0.0.1", server->port());
      for (int left = jobs; left > 0; left -= 1'000) {
        std::string body = R"({"jobs":[)";
        for (int i = 0; i < std::min(left, 1'000); ++i) body += (i > 0 ? "," : "") + spec;
        ask(client, "ann", "POST", "/v1/jobs:batch", body + "]}");
      }
    });
    work_until([&] { return person.done(); });
    ASSERT_EQ(person.trouble(), "");
  }

  std::size_t number(JobState state) const {
    return static_cast<std::size_t>(std::ranges::count_if(
        leader->plane()->jobs(), [state](const auto& job) { return job.second.row.state == state; }));
  }
};

struct Cancelled {
  std::vector<std::int64_t> changed;
  std::int64_t refused = 0;
};

// What `scancel -u ann` is with Slurm and `tutti cancel --user ann` is here: page by page.
void cancel_all(std::uint16_t port, Cancelled& into) {
  http::HttpClient client("127.0.0.1", port);
  json::object body{{"action", "cancel"}, {"filter", json::object{{"user", "ann"}}}, {"limit", 1'000}};
  do {
    const json::value page =
        json::parse(ask(client, "ann", "POST", "/v1/jobs:bulk", json::serialize(body)).body);
    for (const auto& job : page.at("jobs").as_array())
      if (job.at("outcome") == "changed") into.changed.push_back(job.at("id").as_int64());
    into.refused += page.at("refused").as_int64();
    body["page_token"] = page.at("next_page_token");
  } while (!body["page_token"].as_string().empty());
}

// Others, meanwhile: what one of them waited for longest, and how much was done.
struct Others {
  std::chrono::milliseconds longest{0};
  int answers = 0, submitted = 0;
};
void work_as_others(std::uint16_t port, const std::string& spec, const std::atomic<bool>& over,
                    Others& into) {
  http::HttpClient client("127.0.0.1", port);
  const auto timed = [&](const char* method, const std::string& path, const std::string& body = "") {
    const auto began = Clock::now();
    ask(client, "bob", method, path, body);
    into.longest =
        std::max(into.longest, std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began));
    ++into.answers;
  };
  while (!over) {
    timed("GET", "/v1/jobs/1");
    timed("GET", "/v1/jobs?page_size=20");
    timed("POST", "/v1/jobs", spec);
    ++into.submitted;
    timed("GET", "/healthz");
  }
}

TEST_F(MassCancelTest, EachJobEndsOnceAndNobodyElseIsHeldUp) {
  submit(running);
  work_until([&] { return number(JobState::running) == static_cast<std::size_t>(running); });
  submit(waiting);
  ASSERT_EQ(leader->plane()->jobs().size(), static_cast<std::size_t>(running + waiting));
  const auto stopped_before = log.counts.stopped;

  std::atomic<bool> over = false;
  Others others;
  Cancelled first, second;
  Person colleague([&] { work_as_others(server->port(), spec, over, others); });
  Person ann([&] { cancel_all(server->port(), first); });
  Person ann_again([&] { cancel_all(server->port(), second); });  // she has pressed it twice
  work_until([&] { return ann.done() && ann_again.done(); });
  work_until([&] { return std::ssize(cancelled) == running + waiting; });
  over = true;
  work_until([&] { return colleague.done(); });
  EXPECT_EQ(ann.trouble(), "");
  EXPECT_EQ(ann_again.trouble(), "");
  EXPECT_EQ(colleague.trouble(), "");

  std::set<std::int64_t> changed(first.changed.begin(), first.changed.end());
  changed.insert(second.changed.begin(), second.changed.end());
  EXPECT_EQ(std::ssize(changed), running + waiting) << "each of them";
  EXPECT_EQ(std::ssize(first.changed) + std::ssize(second.changed), running + waiting) << "once";
  EXPECT_EQ(first.refused + second.refused, 0);
  EXPECT_TRUE(std::ranges::all_of(cancelled, [](const auto& job) { return job.second == 1; }));
  EXPECT_EQ(db::MemoryReader(database).count_by_state()[static_cast<std::size_t>(JobState::cancelled)],
            running + waiting);
  EXPECT_EQ(std::ranges::count_if(begun, [this](JobId id) { return id <= JobId(running + waiting); }),
            running)
      << "nothing began that was about to be cancelled";
  EXPECT_GE(log.counts.stopped - stopped_before, running) << "each that ran was told to stop";

  EXPECT_LT(others.longest, kLongest);
  EXPECT_GT(others.answers, waiting / 1'000) << "one answer for each page, at least";
  EXPECT_EQ(log.counts.lapsed, 0);
  EXPECT_EQ(log.counts.links_lost, 0);
  std::string why;
  EXPECT_TRUE(leader->plane()->invariants_hold(&why)) << why;
  // The GPUs that came free go to those that are still there.
  const auto theirs = static_cast<std::size_t>(std::min(others.submitted, running));
  work_until([&] { return number(JobState::running) >= theirs; });
}

}  // namespace
}  // namespace tutti::bench
