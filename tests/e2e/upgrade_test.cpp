// A rolling upgrade: programs of this version and of the next one beside each other, on one database and
// under one gang (docs/upgrade.md). The next version is tutti-scheduler-next and tutti-worker-next: another
// protocol, and a schema with one migration more.
#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kThis = 0, kNext = 1, kAfterNext = 2;  // versions ahead

// Submits and looks without a pause worth the name, as our clients do (docs/design/0016-replicas.md): a
// scheduler where nothing has happened is passed over, once round. What has no answer then is repeated once,
// after the second that Retry-After asks for, under the same key. The first request that fails nevertheless
// is the last one.
class Client {
 public:
  Client(const Cluster& c, std::vector<std::uint16_t> schedulers)
      : schedulers_(std::move(schedulers)),
        name_("client-" + std::to_string(schedulers_.front())),
        token_(c.token()),
        spec_(c.spec("", c.rank("--steps 3"), 1, 0)),
        thread_([this] { work(); }) {}
  ~Client() { stop(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  // When it has stopped.
  const std::vector<std::int64_t>& accepted() const { return accepted_; }
  const std::string& trouble() const { return trouble_; }  // "" = every request has been answered
  int repeated() const { return repeated_; }

 private:
  bool pause(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return !wake_.wait_for(lock, time, [this] { return stop_; });
  }

  void work() {
    try {
      for (int i = 1; pause(300ms); ++i) {
        const std::string key = name_ + "-" + std::to_string(i);
        spec_["name"] = key;
        const auto id = number_of(ask("POST", "/v1/jobs", json::serialize(spec_), key), "id");
        accepted_.push_back(id);
        for (const std::string& target : {"/v1/jobs/" + std::to_string(id), std::string("/v1/nodes"),
                                          std::string("/v1/jobs?state=pending,active")})
          ask("GET", target);
      }
    } catch (const std::exception& e) {
      trouble_ = e.what();
    }
  }

  json::object ask(const std::string& method, const std::string& target, const std::string& body = {},
                   const std::string& key = {}) {
    auto answer = ask_round(method, target, body, key);
    if (!answer) {
      ++repeated_;
      std::this_thread::sleep_for(1s);  // what Retry-After asks of a client: the pause is part of the promise
      answer = ask_round(method, target, body, key);
    }
    if (!answer) throw Failure(method + " " + target + " twice: " + why_);
    if (answer->status / 100 != 2)
      throw Failure(method + " " + target + ": " + std::to_string(answer->status) + " " + answer->body);
    return json::parse(answer->body).as_object();
  }

  // Nothing: nobody has an answer now, or it is not known what has become of it.
  std::optional<http::ClientResponse> ask_round(const std::string& method, const std::string& target,
                                                const std::string& body, const std::string& key) {
    http::Headers headers = {{"Authorization", "Bearer " + token_}};
    if (!body.empty())
      headers.insert(headers.end(), {{"Idempotency-Key", key}, {"Content-Type", "application/json"}});
    for (std::size_t asked = 0; asked < schedulers_.size(); ++asked) {
      try {
        auto answer =
            http::http_request("127.0.0.1", schedulers_.front(), method, target, headers, body, 30s);
        if (answer.status < 502 || answer.status > 504) return answer;
        why_ += std::to_string(answer.status) + " " + answer.body + "\n";
        if (answer.status != 503) return std::nullopt;
      } catch (const std::runtime_error& e) {
        why_ += std::string(e.what()) + "\n";
      }
      std::ranges::rotate(schedulers_, schedulers_.begin() + 1);
    }
    return std::nullopt;
  }

  std::vector<std::uint16_t> schedulers_;  // the one that has answered last first
  const std::string name_, token_;
  json::object spec_;
  std::vector<std::int64_t> accepted_;
  std::string trouble_, why_;
  int repeated_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;  // the last: it uses the others
};

int schema(Cluster& c) { return std::stoi(c.sql("SELECT max(version)::text FROM schema_migration").at(0)); }

void stop(Process& process) {  // in good order
  process.signal(SIGTERM);
  const auto status = process.wait(kPatience);
  if (!status || *status != 0)
    throw Failure("a process that is to stop " +
                  (status ? "has ended with " + describe_status(*status) : "goes on"));
}

std::string text_in(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The package of another version on one node: the worker ends, the new one takes over what runs.
void replace_worker(Cluster& c, const std::string& name, int ahead) {
  Worker& worker = c.worker(name);
  stop(worker.process());
  await_true("the end of the worker is seen", kPatience,
             [&] { return !c.node(name).at("linked").as_bool(); });
  c.install_workers(ahead);
  c.start_worker(worker);
}

// What a scheduler says that will not start; "" = it has done what it was asked, which is to migrate alone.
std::string refusal(const Cluster& c, int ahead, const std::vector<std::string>& words = {"--migrate-only"}) {
  std::vector<std::string> argv = {program_of("tutti-scheduler", ahead), "--db=" + c.connection(), "--data",
                                   c.directory() + "/aside"};
  argv.insert(argv.end(), words.begin(), words.end());
  try {
    run(argv, {{kVersionsAhead, std::to_string(ahead)}});
    return "";
  } catch (const Failure& e) {
    return e.what();
  }
}

std::int64_t run_one(Cluster& c, const std::string& name) {
  const auto id = c.submit(c.spec(name, c.rank("--steps 3"), 1, 0));
  c.await_state(id, "succeeded");
  return id;
}

// With the command line of this version, which is installed last, and at all schedulers.
void run_one_by_command_line(Cluster& c) {
  const std::string file = c.directory() + "/job.json", host = "http://127.0.0.1:";
  std::ofstream(file) << json::serialize(c.spec("by the command line", c.rank("--steps 3"), 1, 0));
  run({Site::instance().program("tutti"), "submit", file, "--wait"},
      {{"TUTTI_SERVER", host + std::to_string(c.port()) + "," + host + std::to_string(c.standby_port())},
       {"TUTTI_TOKEN", c.token()}});
}

class Upgrade : public GangTest {
 protected:
  void upgrade_standby(Cluster& c) {
    stop(c.standby());
    c.install_schedulers(kNext);
    c.start_standby();
    EXPECT_EQ(role(c.standby_rest()), "standby");
  }
  // The leader, which hands over. Before its turn has come it is started once more as it was: a machine may
  // reboot.
  void upgrade_leader(Cluster& c) {
    stop(c.scheduler());
    c.talk_to_standby(true);
    await_true("the standby leads", kPatience, [&] { return role(c.standby_rest()) == "leader"; });
    for (const int ahead : {kThis, kNext}) {
      c.install_schedulers(ahead);
      c.start_scheduler();
      EXPECT_EQ(role(c.rest()), "standby");
      if (ahead == kThis) stop(c.scheduler());
    }
  }
  // Each of them has ended once, at its first attempt; and there are no others but `more`.
  static void expect_ended_once(Cluster& c, const std::vector<std::int64_t>& jobs, std::size_t more) {
    for (const auto id : jobs) c.await_state(id, "succeeded");
    EXPECT_EQ(c.sql("SELECT count(*)::text FROM job_spec").at(0), std::to_string(jobs.size() + more));
    EXPECT_THAT(
        c.sql("SELECT job::text FROM job_event WHERE kind = 'state' AND to_name IN ('succeeded', 'failed',"
              " 'cancelled') GROUP BY job HAVING count(*) > 1"),
        IsEmpty());
    EXPECT_THAT(c.sql("SELECT job::text FROM attempt WHERE epoch > 1"), IsEmpty()) << "something was killed";
  }
};

TEST_F(Upgrade, OneProgramAfterTheOtherEndsNothingAndFailsNoRequestThatIsRepeatedOnce) {
  Cluster& c = start({.workers = 2, .gpus = 1, .standby = true});
  const int before = schema(c);
  const auto ranks = run_gang(c);
  Client one(c, {c.port(), c.standby_port()}), other(c, {c.standby_port(), c.port()});

  upgrade_standby(c);
  EXPECT_EQ(schema(c), before + 1);
  EXPECT_EQ(role(c.rest()), "leader") << "under whom the schema has changed";
  run_one(c, "under the old leader");
  expect_untouched(c, ranks);

  upgrade_leader(c);
  c.await_linked();
  run_one(c, "by an old worker of a new leader");
  EXPECT_THAT(text_in(c.directory() + "/standby.log"), HasSubstr(", protocol "));
  expect_untouched(c, ranks);

  for (const auto& name : c.nodes()) {
    replace_worker(c, name, kNext);
    c.await_linked();
    expect_untouched(c, ranks);
  }
  run_one_by_command_line(c);

  one.stop();
  other.stop();
  RecordProperty("requests_repeated", std::to_string(one.repeated() + other.repeated()));
  EXPECT_EQ(one.trouble() + other.trouble(), "");
  auto accepted = one.accepted();
  accepted.insert(accepted.end(), other.accepted().begin(), other.accepted().end());
  EXPECT_GE(std::min(one.accepted().size(), other.accepted().size()), 5u)
      << "there was something to be disturbed";
  expect_ended_once(c, accepted, 4);  // the gang, and those by name
  EXPECT_EQ(c.attempts(gang_).size(), 1u);
  expect_untouched(c, ranks);
  finish();
}

TEST_F(Upgrade, ASchemaOneVersionNewerIsServedAndBeyondThatRefused) {
  Cluster& c = start({.workers = 1, .gpus = 1});
  const int ours = schema(c);
  const auto version = [&](int ahead) { return std::to_string(ours + ahead); };
  EXPECT_THAT(refusal(c, kAfterNext),
              AllOf(HasSubstr("a scheduler that knows schema version " + version(0) + " is connected"),
                    HasSubstr("would make it version " + version(2))));
  EXPECT_EQ(schema(c), ours);

  EXPECT_EQ(refusal(c, kNext), "");
  EXPECT_EQ(schema(c), ours + 1);
  run_one(c, "under a leader that was there before");
  c.kill_scheduler();
  c.start_scheduler();
  c.await_linked();
  run_one(c, "under a leader that has found it so");
  EXPECT_THAT(text_in(c.directory() + "/scheduler.log"),
              HasSubstr("schema: version " + version(1) + " is of a newer"));
  EXPECT_THAT(refusal(c, kAfterNext), HasSubstr("is connected"));

  stop(c.scheduler());
  await_true("nobody is connected", kPatience, [&] { return refusal(c, kAfterNext).empty(); });
  EXPECT_EQ(schema(c), ours + 2);
  EXPECT_THAT(
      refusal(c, kThis, {"--listen", "127.0.0.1:0"}),
      AllOf(HasSubstr("exit 1"), HasSubstr("tutti-scheduler: the database is at schema version " +
                                           version(2) + ", this binary knows " + version(0) + " and serves " +
                                           version(1) + " at most: install the newer binary")));

  // Both two versions further are of one version again.
  c.install_schedulers(kAfterNext);
  c.start_scheduler();
  replace_worker(c, "n1", kAfterNext);
  c.await_linked();
  finish();
}

TEST_F(Upgrade, AWorkerTwoVersionsAheadIsRefusedAndKeepsItsGang) {
  constexpr double kLease = 3, kMargin = 1;
  Cluster& c = start({.workers = 2, .gpus = 1, .lease = kLease, .margin = kMargin});
  const auto ranks = run_gang(c);
  replace_worker(c, "n2", kNext);
  c.await_linked();
  expect_untouched(c, ranks);

  replace_worker(c, "n2", kAfterNext);
  Worker& worker = c.worker("n2");
  const std::string refused = "refuses this worker: it speaks protocol ",
                    lost = "connection to the scheduler is lost: refused";
  await_true("it is told why", kPatience,
             [&] { return text_in(worker.log()).find(refused) != std::string::npos; });
  EXPECT_THAT(text_in(worker.log()), AllOf(HasSubstr("and they may be one apart: install tutti-worker"),
                                           HasSubstr("or upgrade the schedulers first")));
  const auto long_after = boot_us() + static_cast<std::int64_t>((kLease + kMargin + 1) * 1e6);
  for (const int rank : {0, 1}) c.await_alive(gang_, 1, rank, long_after);
  await_true("it tries again", kPatience, [&] {
    const std::string log = text_in(worker.log());
    return log.find(lost) != log.rfind(lost);
  });
  EXPECT_TRUE(worker.process().running());
  expect_untouched(c, ranks);

  replace_worker(c, "n2", kThis);
  c.await_linked();
  expect_untouched(c, ranks);
  EXPECT_EQ(c.attempts(gang_).size(), 1u);
  finish();
}

}  // namespace
}  // namespace tutti::e2e
