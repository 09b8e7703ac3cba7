// What a worker has to do with accounts, secrets and people's commands; the scheduler is played by the test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "api/wire/tar_gz.h"
#include "tests/worker/worker_rig.h"

namespace tutti::worker::testing {
namespace {

using namespace protocol;  // NOLINT
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

const AttemptKey kKey{JobId(7), Epoch(2)};

class WorkerShell : public ::testing::Test {
 protected:
  FakeScheduler scheduler;
  WorkerProcess worker{scheduler, "n1"};

  void run(const std::string& line, std::map<std::string, std::string> secrets = {}) {
    worker.start();
    scheduler.wait<Hello>("n1");
    JobSpec spec;
    spec.name = "test";
    spec.run = line;
    for (const auto& [name, value] : secrets) spec.secrets.push_back(name);
    auto prepare = make_prepare(spec, kKey, {"n1"}, 0, 1);
    prepare.secrets = std::move(secrets);
    scheduler.send("n1", prepare);
    const auto ready = scheduler.wait_phase("n1", kKey, Phase::ready);
    Launch launch;
    launch.key = kKey;
    launch.master_port = ready.master_port;
    launch.endpoints.push_back({"127.0.0.1", 0});
    scheduler.send("n1", launch);
    scheduler.wait_phase("n1", kKey, Phase::running);
  }
  void open(std::int64_t number, std::vector<std::string> argv, std::int64_t credit = kShellWindow,
            bool tty = false) {
    OpenShell m;
    m.shell = number;
    m.key = kKey;
    m.argv = std::move(argv);
    m.credit = credit;
    m.tty = tty;
    scheduler.send("n1", m);
  }
  void type(std::int64_t number, const std::string& text, bool end = false) {
    scheduler.send("n1", ShellInput{number, wire::to_base64(text), end, 0});
  }
  std::string until(std::int64_t number, const std::string& text) {
    std::string seen;
    scheduler.wait<ShellOutput>("n1", [&](const ShellOutput& o) {
      if (o.shell == number) seen += *wire::from_base64(o.data);
      return seen.find(text) != std::string::npos;
    });
    return seen;
  }
  ShellClosed closed(std::int64_t number) {
    return scheduler.wait<ShellClosed>("n1", [&](const ShellClosed& c) { return c.shell == number; });
  }
  static constexpr const char* kForever = "exec sleep 1000";
};

TEST_F(WorkerShell, RunsACommandBesideTheRanks) {
  run(kForever, {{"TOKEN", "hf_0123456789"}});
  open(1, {"sh", "-c", "read line; echo got $line $RANK $TOKEN $TUTTI_JOB_ID; exit 4"});
  const auto up = scheduler.wait<ShellOutput>("n1", [](const ShellOutput& o) { return o.shell == 1; });
  EXPECT_EQ(up.credit, kShellWindow) << "it runs, and takes input";
  type(1, "hello\n");
  const auto room =
      scheduler.wait<ShellOutput>("n1", [](const ShellOutput& o) { return o.shell == 1 && o.credit > 0; });
  EXPECT_EQ(room.credit, 6) << "given back once the shell has it";
  const auto end = closed(1);
  EXPECT_EQ(std::tuple(end.exit_code, end.signal, end.error), std::tuple(4, 0, ""));
}

TEST_F(WorkerShell, SaysNoMoreThanItWasGranted) {
  run(kForever);
  open(1, {"yes"}, 50'000);
  std::size_t said = 0;
  const auto count = [&](std::size_t least) {
    scheduler.wait<ShellOutput>("n1", [&](const ShellOutput& o) {
      if (o.shell == 1) said += wire::from_base64(o.data)->size();
      return said >= least;
    });
  };
  count(50'000);
  EXPECT_LE(said, 50'000 + kShellPiece + (64U << 10));
  const auto before = said;
  scheduler.send("n1", ShellInput{1, "", false, 100'000});
  count(before + 80'000);
  scheduler.send("n1", CloseShell{1});
  open(2, {"echo", "calm"});
  EXPECT_EQ(until(2, "calm"), "calm\n");
  EXPECT_EQ(closed(2).exit_code, 0);
}

TEST_F(WorkerShell, EndsWithTheConnectionToTheScheduler) {
  run(kForever);
  open(1, {"sh", "-c", "trap '' HUP; echo $$ > " + worker.scratch("shell") + "; sleep 1000; sleep 1000"});
  const Pinned shell(std::stoi(wait_for_file(worker.scratch("shell"))));
  scheduler.keep("n1", {kKey});
  scheduler.cut("n1");
  EXPECT_TRUE(shell.dies_in(std::chrono::seconds(20)));
  const auto hello = scheduler.wait<Hello>("n1");
  ASSERT_EQ(hello.attempts.size(), 1u);
  EXPECT_EQ(hello.attempts[0].phase, Phase::running) << "the ranks run on";
}

TEST_F(WorkerShell, EndsWithItsAttempt) {
  run(kForever);
  open(1, {"sleep", "1000"});
  until(1, "");
  scheduler.send("n1", Stop{kKey, "cancelled", "KILL", 0});
  EXPECT_THAT(closed(1).error, HasSubstr("the attempt has ended"));
  const auto end = scheduler.wait_end("n1", kKey);
  EXPECT_TRUE(end.end->proven) << end.end->how;
  open(2, {"true"});
  EXPECT_THAT(closed(2).error, HasSubstr("the attempt does not run on node n1"));
}

TEST_F(WorkerShell, ThereIsABoundToHowManyRun) {
  run(kForever);
  for (int i = 1; i <= kShellsPerNode; ++i) open(i, {"sleep", "1000"});
  open(100, {"true"});
  EXPECT_THAT(closed(100).error, HasSubstr("too many"));
  scheduler.send("n1", CloseShell{1});
  open(101, {"no-such-program"});
  EXPECT_THAT(closed(101).error,
              ::testing::AnyOf(HasSubstr("cannot start no-such-program"), HasSubstr("too many")));
}

TEST_F(WorkerShell, SecretsAreTakenOutOfLogsAndEvidenceAlsoAfterARestart) {
  run("echo token $TOKEN; printf %s \"$TOKEN\" | base64; echo; touch " + worker.scratch("said") +
          "; exec sleep 1000",
      {{"TOKEN", "hf_0123456789abc"}});
  wait_until_exists(worker.scratch("said"));
  const auto read = [&](const std::string& what) {
    static std::int64_t request = 0;
    ReadLog m{++request, kKey, 0, 0, 262144, 10'000'000, what};
    scheduler.send("n1", m);
    const auto chunk =
        scheduler.wait<LogChunk>("n1", [&](const LogChunk& c) { return c.request == m.request; });
    EXPECT_EQ(chunk.error, "");
    return what.empty() ? chunk.data : *wire::from_base64(chunk.data);
  };
  EXPECT_THAT(read(""), HasSubstr("token ‹secret TOKEN›\n‹secret TOKEN›"));
  worker.kill(SIGKILL);
  scheduler.keep("n1", {kKey});
  worker.start();
  scheduler.wait<Hello>("n1");
  EXPECT_THAT(read(""), ::testing::AllOf(HasSubstr("‹secret TOKEN›"), Not(HasSubstr("hf_01"))));
  const std::string bundle = worker.scratch("bundle.gz");
  std::ofstream(bundle, std::ios::binary) << read("evidence");
  const auto text =
      run_command({"sh", "-c", "gzip -dc " + bundle + " 2>/dev/null | tr -d \"\\\\000\"; true"});
  EXPECT_THAT(text, ::testing::AllOf(HasSubstr("‹secret TOKEN›"), Not(HasSubstr("hf_01"))));
  std::ifstream prepare(worker.attempt_dir(kKey) + "/prepare.json");
  EXPECT_THAT((std::string{std::istreambuf_iterator<char>(prepare), {}}), Not(HasSubstr("hf_01")));
}

TEST_F(WorkerShell, OthersCanReadNothingOfAnAttempt) {
  run("echo x > mine; exec sleep 1000");
  wait_until_exists(worker.attempt_dir(kKey) + "/logs/rank-0.log");
  const auto mode = [&](const std::string& name) {
    struct stat s{};
    EXPECT_EQ(lstat((worker.attempt_dir(kKey) + name).c_str(), &s), 0) << name;
    return s.st_mode & 0077;
  };
  EXPECT_EQ(mode(""), 0011u) << "to be passed through";
  for (const auto& entry : fs::directory_iterator(worker.attempt_dir(kKey))) {
    const auto name = "/" + entry.path().filename().string();
    if (entry.is_socket()) continue;
    EXPECT_EQ(mode(name), 0u) << name;
  }
}

}  // namespace
}  // namespace tutti::worker::testing
