// Whose rights a job has, its secrets, and commands of people inside of it. As root; the users are known to
// the workers alone, by a user database of their own.
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <thread>

#include "api/http/link_io.h"
#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

ClusterOptions with_users(int workers = 1) {
  ClusterOptions options;
  options.workers = workers;
  options.accounts =
      "ada:x:42001:42001:Ada:/tmp:/bin/sh\nbob:x:42002:42002:Bob:/tmp:/bin/sh\nold:x:12:42003::/tmp:/bin/sh\n"
      "toor:x:0:0::/tmp:/bin/sh\n";
  options.groups = "ada:x:42001:\nbob:x:42002:\nteam:x:42500:ada\n";
  return options;
}

std::int64_t submit_as(Cluster& c, const std::string& user, const json::object& spec) {
  Rest rest = c.rest();
  rest.user = user;
  return number_of(rest.post("/v1/jobs", spec).as_object(), "id");
}

json::object put(Cluster& c, const std::string& target, const json::object& body) {
  Rest rest = c.rest();
  const auto answer = rest.raw("PUT", target, json::serialize(body));
  if (answer.status != 200) throw Failure("PUT " + target + ": " + answer.body);
  return json::parse(answer.body).as_object();
}

std::string all_details(Cluster& c, std::int64_t id) {
  std::string out;
  for (const auto& e : c.events(id))
    out += text_of(e, "kind") + " " + text_of(e, "to") + ": " + text_of(e, "detail") + "\n";
  return out;
}

// ---------------------------------------------------------------- a client of tutti exec

class Exec {
 public:
  Exec(Cluster& c, std::int64_t job, const std::string& query) : guard_(io_.get_executor()) {
    thread_ = std::thread([this] { io_.run(); });
    http::LinkTarget target;
    target.host = "127.0.0.1";
    target.port = c.port();
    target.path = "/v1/jobs/" + std::to_string(job) + "/attempts/latest/exec?" + query;
    target.headers = {{"Authorization", "Bearer " + c.token()}};
    http::LinkOptions options;
    options.idle = 60s;
    http::connect_link(io_.get_executor(), target, options, 20s,
                       [this](Result<std::shared_ptr<http::Link>> r) {
                         const std::scoped_lock lock(mutex_);
                         if (r)
                           link_ = *std::move(r);
                         else
                           refused_ = r.error().message;
                         settled_ = true;
                         changed_.notify_all();
                       });
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 30s, [this] { return settled_; })) throw Failure("no answer to exec");
    if (!link_) return;
    link_->start(
        [this](std::string m) {
          const std::scoped_lock in(mutex_);
          frames_.push_back(std::move(m));
          changed_.notify_all();
        },
        [this](const std::string&) {
          const std::scoped_lock in(mutex_);
          closed_ = true;
          changed_.notify_all();
        });
  }
  ~Exec() {
    if (link_) link_->abort();
    guard_.reset();
    io_.stop();
    thread_.join();
  }
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;

  const std::string& refused() const { return refused_; }
  void type(const std::string& text) { link_->send_binary(std::string(1, '\0') + text); }
  void send(const std::string& frame) { link_->send_binary(frame); }
  /// Reads until the output has this; throws Failure with what came instead.
  void until(const std::string& text) {
    while (seen.find(text) == seen.npos) {
      const auto frame = next();
      if (frame.empty() || frame[0] != 0) throw Failure("no " + text + " in: " + seen + "\n" + frame);
      seen.append(frame, 1);
    }
  }
  /// The last frame, with its kind; "" when the connection just went.
  std::string end() {
    while (true) {
      auto frame = next();
      if (frame.empty() || frame[0] != 0) return frame;
      seen.append(frame, 1);
    }
  }
  std::string seen;

 private:
  std::string next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 30s, [this] { return !frames_.empty() || closed_; }))
      throw Failure("silence after: " + seen);
    if (frames_.empty()) return {};
    auto frame = std::move(frames_.front());
    frames_.pop_front();
    return frame;
  }

  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<http::Link> link_;
  std::string refused_;
  bool settled_ = false, closed_ = false;
  std::deque<std::string> frames_;
};

// ---------------------------------------------------------------- accounts

TEST_F(E2e, JobsRunAsTheirOwnersAndCannotTouchEachOther) {
  if (!Site::may_use_network()) GTEST_SKIP() << "needs root";
  Cluster& c = start(with_users());
  auto spec =
      c.spec("first",
             "id; echo secret of ada; echo private > private; echo '{\"step\":1}' > $TUTTI_PROGRESS_FILE; "
             "exec " +
                 c.rank("--steps 100000"));
  const auto ada = submit_as(c, "ada", spec);
  c.await_running(ada, 1);
  const auto ranks = c.await_ranks(ada, 1, 1);
  const std::string dir = c.worker("n1").directory() + "/state/attempts/" + std::to_string(ada) + "-1";
  await_true("ada's work", 30s,
             [&] { return std::filesystem::exists(std::filesystem::path(dir) / "work" / "private"); });
  // What another user's job can get at.
  const std::string probe =
      "d=" + dir +
      "; id -un; id -u; "
      "for f in $d $d/.. $d/logs $d/progress $d/work $d/evidence; do ls $f >/dev/null 2>&1 && echo LISTED "
      "$f; done; "
      "for f in prepare.json state.json supervise.json secrets.json lease supervisor.log hostfile "
      "environment.json cgroup "
      "logs/rank-0.log logs/keeper-0.log progress/rank-0.json work/private; do cat $d/$f >/dev/null 2>&1 && "
      "echo READ $f; done; "
      "kill -0 " +
      std::to_string(ranks[0].pid) + " 2>/dev/null && echo SIGNALLED; cat /proc/" +
      std::to_string(ranks[0].pid) +
      "/environ >/dev/null 2>&1 && echo ENVIRON; (echo hello > $d/planted && echo PLANTED) 2>/dev/null; "
      "echo done";
  const auto bob = submit_as(c, "bob", c.spec("second", probe));
  c.await_state(bob, "succeeded");
  EXPECT_EQ(c.log_of(bob, 1), "bob\n42002\ndone\n");
  const std::string log = c.log_of(ada, 1);
  EXPECT_NE(log.find("uid=42001(ada) gid=42001(ada) groups=42001(ada),42500(team)"), log.npos) << log;
  finish();
}

TEST_F(E2e, WhoHasNoAccountOnANodeIsToldSo) {
  if (!Site::may_use_network()) GTEST_SKIP() << "needs root";
  Cluster& c = start(with_users());
  for (const auto& [user, why] : {std::pair{"carol", "user carol has no account on node n1"},
                                  std::pair{"old", "the account of old on node n1 has the user id 12, below"},
                                  std::pair{"toor", "jobs of toor would run as root on node n1"},
                                  std::pair{"../ada", "user ../ada has no account on node n1"}}) {
    const auto id = submit_as(c, user, c.spec("x", "id"));
    c.await_job(id, "has failed to start", [&](const json::object&) {
      const auto all = c.attempts(id);
      return !all.empty() && text_of(all.front(), "cause") == "launch";
    });
    EXPECT_NE(all_details(c, id).find(why), std::string::npos) << all_details(c, id);
  }
  finish();
}

TEST_F(E2e, AnAttemptKeepsItsAccountOverARestartOfTheWorker) {
  if (!Site::may_use_network()) GTEST_SKIP() << "needs root";
  Cluster& c = start(with_users());
  auto spec = c.spec("long", "echo here; exec " + c.rank("--steps 100000 --every 50"));
  checkpoint_in(spec, c.checkpoints("long"));
  const auto id = submit_as(c, "ada", spec);
  c.await_running(id, 1);
  c.await_started(id, 1, 0);
  c.worker("n1").process().kill();
  c.start_worker(c.worker("n1"));
  c.await_linked();
  c.await_alive(id, 1, 0, boot_us());
  // Found by the new worker, with ada's rights and as hers.
  await_true("a checkpoint", 60s, [&] {
    return !c.rest()
                .get("/v1/jobs/" + std::to_string(id) + "/checkpoints")
                .at("checkpoints")
                .as_array()
                .empty();
  });
  EXPECT_FALSE(c.log_of(id, 1).empty());
  EXPECT_EQ(number_of(c.job(id), "epoch"), 1);
  finish();
}

// ---------------------------------------------------------------- secrets

TEST_F(E2e, SecretsAreInTheEnvironmentAndNowhereElse) {
  Cluster& c = start({.workers = 1});
  const std::string value = "hf_VerySecret0123456789";
  EXPECT_EQ(number_of(put(c, "/v1/secrets/default/HF_TOKEN", {{"value", value}}), "version"), 1);
  EXPECT_EQ(c.rest().raw("POST", "/v1/jobs", R"({"name":"x","run":"x","secrets":["NONE"]})").status, 422);
  auto spec =
      c.spec("user", "printf %s \"$HF_TOKEN\" > " + c.shared() +
                         "/token; echo start; for i in 1 2 3; do echo \"token $HF_TOKEN end\"; printf %s "
                         "\"$HF_TOKEN\" | base64; printf %s \"user:$HF_TOKEN\" | base64; done; "
                         "echo fails with $HF_TOKEN; exit 3");
  spec["secrets"] = json::array{"HF_TOKEN"};
  const auto id = c.submit(spec);
  c.await_job(id, "has failed", [](const json::object& j) { return text_of(j, "state") == "failed"; });
  std::ifstream token(c.shared() + "/token");
  EXPECT_EQ((std::string{std::istreambuf_iterator<char>(token), {}}), value);

  const auto clean = [&](const std::string& text) {
    return text.find(value) == text.npos && text.find("aGZfVmVyeVNlY3JldDAxMjM0NTY3ODk") == text.npos &&
           text.find("VeryS") == text.npos;
  };
  const std::string log = c.log_of(id, 1);
  EXPECT_TRUE(clean(log)) << log;
  EXPECT_NE(log.find("start\ntoken ‹secret HF_TOKEN› end\n‹secret HF_TOKEN›"), log.npos) << log;
  // In evidence.
  const auto bundle = c.rest().text("/v1/jobs/" + std::to_string(id) + "/attempts/1/evidence");
  const std::string file = c.shared() + "/bundle.tar.gz";
  std::ofstream(file, std::ios::binary) << bundle;
  const std::string unpacked = run({"sh", "-c", "gzip -dc " + file + " 2>/dev/null | tr -d '\\000'; true"});
  EXPECT_NE(unpacked.find("‹secret HF_TOKEN›"), unpacked.npos);
  EXPECT_TRUE(clean(unpacked));
  // In no row, of any table.
  for (const auto& table :
       c.sql("SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = "
             "'public' AND table_type = 'BASE TABLE'")) {
    const auto hits =
        c.sql("SELECT count(*) FROM " + table + " t WHERE t::text LIKE '%VerySecret%' OR t::text ILIKE '%" +
              std::string("5665727953656372657430") + "%'");
    EXPECT_EQ(hits.at(0), "0") << table;
  }
  // In no log of ours, and of the node's files in one only (and in what the job itself has written).
  EXPECT_TRUE(clean(run({"cat", c.directory() + "/scheduler.log", c.worker("n1").log()})));
  EXPECT_EQ(
      run({"sh", "-c",
           "cd " + c.worker("n1").directory() + "/state && grep -rl VerySecret . --exclude-dir=logs; true"}),
      "./attempts/" + std::to_string(id) + "-1/secrets.json\n");
  EXPECT_TRUE(clean(json::serialize(c.rest().get("/v1/secrets"))));
  EXPECT_TRUE(clean(c.explain(id) + all_details(c, id)));
  finish();
}

TEST_F(E2e, ASecretThatIsGoneKeepsItsJobFromStarting) {
  Cluster& c = start({.workers = 1, .gpus = 1});
  put(c, "/v1/secrets/default/TOKEN", {{"value", "abcdefgh"}});
  const auto first = c.submit(c.spec("first", c.rank("--steps 100000")));
  c.await_running(first, 1);
  auto spec = c.spec("second", "true");
  spec["secrets"] = json::array{"TOKEN"};
  const auto second = c.submit(spec);
  EXPECT_EQ(c.rest().raw("DELETE", "/v1/secrets/default/TOKEN").status, 200);
  c.rest().post("/v1/jobs/" + std::to_string(first) + ":cancel");
  c.await_job(second, "could not be launched", [&](const json::object&) {
    const auto all = c.attempts(second);
    return !all.empty() && text_of(all.front(), "cause") == "launch";
  });
  // An attempt is shown from memory, its history when it is stored.
  await_true("the reason", 30s, [&] {
    return all_details(c, second).find("secret TOKEN of project default does not exist any more") !=
           std::string::npos;
  });
  put(c, "/v1/secrets/default/TOKEN", {{"value", "abcdefgh"}});
  c.await_state(second, "succeeded");
  finish();
}

// ---------------------------------------------------------------- exec

TEST_F(E2e, ExecOpensATerminalInsideARunningAttempt) {
  Cluster& c = start({.workers = 2, .gpus = 1});
  put(c, "/v1/secrets/default/TOKEN", {{"value", "abcdefgh"}});
  auto spec = c.spec("long", c.rank("--steps 100000"), 2, 1);
  spec["secrets"] = json::array{"TOKEN"};
  const auto id = c.submit(spec);
  EXPECT_NE(Exec(c, id + 1, "command=true").refused().find("404"), std::string::npos);
  c.await_running(id, 1);
  c.await_ranks(id, 1, 2);
  EXPECT_NE(Exec(c, id, "command=true&rank=9").refused().find("404"), std::string::npos);
  EXPECT_NE(Exec(c, id, "command=true&rank=x").refused().find("422"), std::string::npos);
  {
    Exec exec(c, id, "tty=1&rows=33&cols=101&rank=1&command=sh&command=-i");
    ASSERT_EQ(exec.refused(), "");
    exec.type("stty size; echo rank=$RANK devices=$CUDA_VISIBLE_DEVICES to\"\"ken=$TOKEN\n");
    exec.until("33 101");
    exec.until("rank=1 devices=0 token=abcdefgh");
    exec.send(std::string("\x01") + R"({"rows":40,"cols":120})");
    exec.type("stty size\n");
    exec.until("40 120");
    exec.type("exit 5\n");
    EXPECT_EQ(exec.end(), std::string("\x03") + R"({"exit_code":5})");
  }
  {
    // Faster than anybody reads: memory and everybody else are left in peace.
    Exec flood(c, id, "command=yes");
    flood.until("y\ny\n");
    Exec calm(c, id, "command=echo&command=calm");
    EXPECT_EQ(calm.end(), std::string("\x03") + R"({"exit_code":0})");
    EXPECT_EQ(calm.seen, "calm\n");
  }
  const std::string history = all_details(c, id);
  EXPECT_NE(history.find("exec begun: admin on " + c.gang(id)[1] + " (rank 1) from 127.0.0.1:"), history.npos)
      << history;
  EXPECT_NE(history.find(": sh -i\n"), history.npos) << history;
  EXPECT_NE(history.find("exec ended: admin: exit code 5 after "), history.npos) << history;
  await_true("the end of the flood in the history", 30s, [&] {
    return all_details(c, id).find("exec ended: admin: the client has gone after ") != std::string::npos;
  });
  EXPECT_EQ(number_of(c.job(id), "epoch"), 1);
  finish();
}

TEST_F(E2e, ExecdProcessThatIgnoresEverythingDiesWithItsAttempt) {
  Cluster& c = start({.workers = 1, .gpus = 1});
  const auto id = c.submit(c.spec("long", c.rank("--steps 100000")));
  c.await_running(id, 1);
  c.await_ranks(id, 1, 1);
  Exec exec(c, id, "tty=1&command=sh");
  ASSERT_EQ(exec.refused(), "");
  exec.type(
      "trap '' HUP TERM INT; (setsid sh -c 'trap \"\" HUP TERM; echo stub\"\"born; while :; do sleep 1; "
      "done' &)\n");
  exec.until("stubborn");
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  c.await_state(id, "cancelled");
  EXPECT_TRUE(c.attempt_processes(id, 1).empty());
  const auto last = exec.end();
  ASSERT_FALSE(last.empty());
  EXPECT_EQ(last[0], '\x04') << last;
  EXPECT_NE(Exec(c, id, "command=true").refused().find("409"), std::string::npos);
  finish();
}

}  // namespace
}  // namespace tutti::e2e
