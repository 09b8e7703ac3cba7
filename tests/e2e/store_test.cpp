// The database stops, dies and comes back; the scheduler is killed amid a storm. What was acknowledged exists
// once; what runs is not disturbed.
#include <atomic>
#include <csignal>
#include <mutex>
#include <thread>

#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

// Clients that submit with idempotency keys and try again until they are answered.
class Storm {
 public:
  Storm(const Cluster& cluster, int clients, int jobs_each) : cluster_(cluster) {
    for (int i = 0; i < clients; ++i) threads_.emplace_back([this, i, jobs_each] { submit(i, jobs_each); });
  }
  ~Storm() {
    stop_ = given_up_ = true;
    join();
  }
  int acknowledged() const { return acknowledged_; }
  int refused() const { return refused_; }
  void stop() { stop_ = true; }
  void join() {
    for (auto& t : threads_)
      if (t.joinable()) t.join();
  }
  /// After join().
  const std::map<std::string, std::int64_t>& ids() const { return ids_; }
  const std::vector<std::string>& troubles() const { return troubles_; }

 private:
  void submit(int client, int jobs) {
    Rest rest = cluster_.rest();
    for (int i = 0; (jobs == 0 || i < jobs) && !stop_; ++i) {
      const std::string key = "c" + std::to_string(client) + "-" + std::to_string(i);
      if (!submit_one(rest, key)) return;
    }
  }
  bool submit_one(Rest& rest, const std::string& key) {
    json::object spec = cluster_.spec(key, "true", 1, 0);
    spec["begin_time"] = "2099-01-01T00:00:00Z";
    const auto until = Clock::now() + kPatience;
    bool given_up = false;
    while (!(given_up = given_up_) && Clock::now() < until) {
      try {
        const auto id = number_of(rest.post("/v1/jobs", spec, key).as_object(), "id");
        const std::lock_guard lock(mutex_);
        ids_[key] = id;
        ++acknowledged_;
        return true;
      } catch (const Unreachable&) {  // nobody knows whether it was taken: the key says so later
        ++refused_;
        std::this_thread::sleep_for(20ms);  // as a client that means well
      } catch (const std::exception& e) {
        const std::lock_guard lock(mutex_);
        troubles_.push_back(key + ": " + e.what());
        return false;
      }
    }
    const std::lock_guard lock(mutex_);
    if (!given_up) troubles_.push_back(key + ": never answered");
    return false;
  }

  const Cluster& cluster_;
  std::atomic<bool> stop_ = false;      // no new submissions
  std::atomic<bool> given_up_ = false;  // the test has failed: what is under way does not matter any more
  std::atomic<int> acknowledged_ = 0, refused_ = 0;
  std::mutex mutex_;
  std::map<std::string, std::int64_t> ids_;
  std::vector<std::string> troubles_;
  std::vector<std::thread> threads_;
};

// Name (which is the key) → ids of the jobs, from REST.
std::map<std::string, std::vector<std::int64_t>> all_jobs(Cluster& c) {
  std::map<std::string, std::vector<std::int64_t>> out;
  Rest rest = c.rest();
  std::string token;
  do {
    const auto page = rest.get("/v1/jobs?page_size=1000&page_token=" + token);
    for (const auto& j : page.at("jobs").as_array())
      out[text_of(j.as_object(), "name")].push_back(number_of(j.as_object(), "id"));
    token = text_of(page.as_object(), "next_page_token");
  } while (!token.empty());
  return out;
}

// Every key that was ever sent stands for one job at most, and every acknowledged one for the job that was
// told.
void expect_each_once(Cluster& c, const Storm& storm) {
  for (const auto& trouble : storm.troubles()) ADD_FAILURE() << trouble;
  const auto jobs = all_jobs(c);
  for (const auto& [name, ids] : jobs) EXPECT_EQ(ids.size(), 1u) << name;
  for (const auto& [key, id] : storm.ids()) {
    const auto found = jobs.find(key);
    ASSERT_NE(found, jobs.end()) << key << " was acknowledged and is lost";
    EXPECT_EQ(found->second.at(0), id);
  }
  const auto rows = c.sql("SELECT count(*) FROM job_spec WHERE name LIKE 'c%-%'");
  EXPECT_GE(std::stoul(rows.at(0)), storm.ids().size());
  EXPECT_EQ(
      c.sql("SELECT count(*) FROM job_spec WHERE name LIKE 'c%-%' GROUP BY name HAVING count(*) > 1").size(),
      0u);
}

void cancel_storm(Cluster& c) {  // finish() cancels page by page; these are many
  Rest rest = c.rest();
  for (const auto& [name, ids] : all_jobs(c))
    for (const auto id : ids)
      if (name.starts_with("c")) rest.raw("POST", "/v1/jobs/" + std::to_string(id) + ":cancel", "{}");
}

TEST_F(E2e, ASubmitStormOverASchedulerThatIsKilledLosesNothingAndDoublesNothing) {
  Cluster& c = start({.workers = 0});
  constexpr int kClients = 64, kEach = 12;
  Storm storm(c, kClients, kEach);
  await_true("a third is acknowledged", kPatience,
             [&] { return storm.acknowledged() >= kClients * kEach / 3; });
  c.kill_scheduler();
  const int before = storm.refused();
  await_true("every client has noticed", kPatience, [&] { return storm.refused() >= before + kClients; });
  c.start_scheduler();
  storm.join();
  EXPECT_EQ(storm.acknowledged(), kClients * kEach);
  expect_each_once(c, storm);
  EXPECT_EQ(all_jobs(c).size(), static_cast<std::size_t>(kClients * kEach));
  cancel_storm(c);
  finish();
}

// `bring_down` while a gang runs and jobs are submitted.
void survive_without_database(Cluster& c, const std::function<void()>& bring_down) {
  const auto id = c.submit(c.spec("gang", c.rank("--every 20"), 2, 1));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  Storm storm(c, 8, 0);
  await_true("jobs are taken", kPatience, [&] { return storm.acknowledged() >= 50; });
  bring_down();
  const auto down = Clock::now();
  const int refused = storm.refused();
  await_true("submissions are refused", kPatience, [&] { return storm.refused() >= refused + 16; });
  // Longer than the lease: leases are renewed from memory while the database is away.
  await_true("eight seconds without a database", 20s, [&] {
    for (const auto& rank : before)
      if (!rank.alive()) throw Failure("a rank died while the database was away");
    return Clock::now() - down >= 8s;
  });
  c.postgres().start();
  const int taken = storm.acknowledged();
  await_true("jobs are taken again", kPatience, [&] { return storm.acknowledged() >= taken + 50; });
  storm.stop();
  storm.join();
  expect_each_once(c, storm);
  EXPECT_EQ(text_of(c.job(id), "state"), "running");
  EXPECT_EQ(number_of(c.job(id), "epoch"), 1);
  EXPECT_EQ(pids(c.ranks(id, 1)), pids(before));
  cancel_storm(c);
}

TEST_F(E2e, WithoutItsDatabaseGangsRunOnAndNoAcknowledgedJobIsLost) {
  Cluster& c = start({.workers = 2, .gpus = 1, .own_database = true});
  survive_without_database(c, [&] { c.postgres().stop(); });
  finish();
}

TEST_F(E2e, ADatabaseThatIsKilledLosesNoAcknowledgedJob) {
  Cluster& c = start({.workers = 2, .gpus = 1, .own_database = true});
  survive_without_database(c, [&] { c.postgres().kill(); });
  finish();
}

TEST_F(E2e, TheEmbeddedDatabaseIsStartedAgainAndNobodyNoticesButSubmitters) {
  Cluster& c = start({.workers = 2, .gpus = 1, .embedded = true});
  const auto id = c.submit(c.spec("gang", c.rank("--every 20"), 2, 1));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  const pid_t postmaster = c.embedded_postmaster();
  ASSERT_EQ(::kill(postmaster, SIGKILL), 0);
  await_true("another PostgreSQL takes jobs", kPatience, [&] {
    const auto answer = c.rest().raw("POST", "/v1/jobs", json::serialize(c.spec("later", "true", 1, 0)));
    return answer.status == 201 && c.embedded_postmaster() != postmaster;
  });
  EXPECT_EQ(text_of(c.job(id), "state"), "running");
  EXPECT_EQ(number_of(c.job(id), "epoch"), 1);
  EXPECT_EQ(pids(c.ranks(id, 1)), pids(before));
  finish();
}

TEST_F(E2e, AnEventStreamGoesOnOverARestartWithoutGapOrDouble) {
  Cluster& c = start({.workers = 1});
  const auto submit = [&](int n) {
    for (int i = 0; i < n; ++i) c.submit(c.spec("job", c.rank("--steps 3"), 1, 0));
  };
  std::vector<std::int64_t> seen;
  std::int64_t last = 0;
  submit(5);
  {
    EventStream stream(c.port(), c.token(), "/v1/events", 0);
    while (seen.size() < 20) {
      const auto event = stream.next(kPatience);
      if (!event) throw Failure("the stream stops after " + std::to_string(seen.size()) + " events");
      seen.push_back(number_of(*event, "id"));
    }
    submit(3);
    c.kill_scheduler();
    while (const auto event = stream.next(10s)) seen.push_back(number_of(*event, "id"));
    EXPECT_TRUE(stream.ended());
    last = stream.last();
  }
  c.start_scheduler();
  c.await_linked();
  EventStream stream(c.port(), c.token(), "/v1/events", last);
  submit(5);
  await_true("every job is done", kPatience,
             [&] { return c.rest().get("/v1/jobs?state=pending,active").at("jobs").as_array().empty(); });
  std::vector<std::int64_t> all;
  Rest rest = c.rest();
  while (true) {
    const auto page = rest.get("/v1/events?after=" + std::to_string(all.empty() ? 0 : all.back()));
    if (page.at("events").as_array().empty()) break;
    for (const auto& e : page.at("events").as_array()) all.push_back(number_of(e.as_object(), "id"));
  }
  while (seen.empty() || seen.back() < all.back()) {
    const auto event = stream.next(kPatience);
    if (!event) throw Failure("the stream stops at " + std::to_string(seen.back()));
    seen.push_back(number_of(*event, "id"));
  }
  seen.erase(std::find(seen.begin(), seen.end(), all.back()) + 1, seen.end());  // newer ones may have come
  EXPECT_EQ(seen, all);
  finish();
}

}  // namespace
}  // namespace tutti::e2e
