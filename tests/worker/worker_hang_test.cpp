// tutti-worker and ranks that stop moving, as real processes: what is reported, captured and kept. The
// scheduler is played by the test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "api/wire/job_spec_codec.h"
#include "api/wire/tar_gz.h"
#include "tests/worker/worker_rig.h"

namespace tutti::worker::testing {
namespace {

using namespace protocol;  // NOLINT
using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

const AttemptKey kKey{JobId(7), Epoch(2)};

std::string text_of(const std::string& path) {
  std::ifstream in(path);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

class WorkerHang : public ::testing::Test {
 protected:
  explicit WorkerHang(std::vector<std::string> flags = {"--no-gpus"})
      : worker(scheduler, "n1", std::move(flags)) {}
  FakeScheduler scheduler;
  WorkerProcess worker;
  int master_port = 0;

  // Each rank writes its pid down, then steps every `every` seconds; at step `at` it does `then`.
  std::string stepping(const std::string& every, int at, const std::string& then) const {
    return "echo $$ > " + worker.scratch("rank") + "$RANK; i=0\n" +
           "while :; do i=$((i+1)); [ $i = " + std::to_string(at) + " ] && { " + then + "; }\n" +
           "echo \"{\\\"step\\\":$i,\\\"compute_s\\\":0.1}\" > $TUTTI_PROGRESS_FILE.new\n" +
           "mv $TUTTI_PROGRESS_FILE.new $TUTTI_PROGRESS_FILE; sleep " + every + "; done";
  }
  void run(const std::string& line, HangPolicy hang, std::map<std::string, std::string> env = {}) {
    start(line, hang, std::move(env));
    launch();
  }
  void start(const std::string& line, HangPolicy hang, std::map<std::string, std::string> env = {}) {
    JobSpec spec;
    spec.name = "test";
    spec.procs_per_node = 2;
    spec.run = line;
    spec.hang = hang;
    spec.env = std::move(env);
    worker.start();
    scheduler.wait<Hello>("n1");
    scheduler.send("n1", make_prepare(spec, kKey, {"n1"}, 0, 2));
    master_port = scheduler.wait_phase("n1", kKey, Phase::ready).master_port;
  }
  void launch() {
    Launch launch;
    launch.key = kKey;
    launch.master_port = master_port;
    launch.endpoints.push_back({"127.0.0.1", 0});
    scheduler.send("n1", launch);
    scheduler.wait_phase("n1", kKey, Phase::running);
  }
  RankReport stalled() {
    return scheduler.wait<RankReport>("n1", [](const RankReport& r) { return r.stalled && r.captured; });
  }
  void stop() {
    scheduler.send("n1", Stop{kKey, "hang", "KILL", 0});
    EXPECT_TRUE(scheduler.wait_end("n1", kKey).end->proven);
  }
  std::string evidence_dir() const { return worker.attempt_dir(kKey) + "/evidence"; }
  // This node's part, unpacked; the folder.
  std::string fetch() {
    std::string bytes;
    for (std::int64_t request = 1000; request < 1100; ++request) {
      ReadLog read{request, kKey, 0, static_cast<std::int64_t>(bytes.size()), 65536, 0};
      read.what = "evidence";
      scheduler.send("n1", read);
      const auto chunk =
          scheduler.wait<LogChunk>("n1", [&](const LogChunk& c) { return c.request == request; });
      EXPECT_EQ(chunk.error, "");
      bytes += wire::from_base64(chunk.data).value_or("");
      if (chunk.end) break;
    }
    wire::TarGz end;
    end.add_end();
    const std::string to = worker.scratch("unpacked");
    fs::remove_all(to);
    fs::create_directories(to);
    std::ofstream(to + "/b.tar.gz", std::ios::binary) << bytes << end.finish();
    run_command({"/bin/tar", "xzf", to + "/b.tar.gz", "-C", to});
    return to + "/nodes/n1";
  }
};

TEST_F(WorkerHang, AStoppedRankIsNamedAndItsStateCaptured) {
  run(stepping("0.2", 20, "if [ $RANK = 1 ]; then kill -STOP $$; else sleep 1000; fi"),
      {.after = 2s, .action = HangAction::capture_and_restart});
  const auto report = stalled();
  EXPECT_TRUE(report.tells_progress);
  EXPECT_EQ(report.limit_us, 2'000'000);
  ASSERT_EQ(report.ranks.size(), 2u);
  EXPECT_EQ(report.ranks[0].state, "S");
  EXPECT_EQ(report.ranks[1].state, "T") << report.ranks[1].waits_in;
  EXPECT_EQ(report.ranks[0].step, 19);
  EXPECT_GE(report.ranks[1].silent_us, 1'900'000);
  EXPECT_NEAR(static_cast<double>(report.ranks[0].compute_us), 100'000, 1);
  const auto proc = text_of(evidence_dir() + "/hang-1/rank-1.proc.txt");
  EXPECT_THAT(proc, HasSubstr("T (stopped)"));
  EXPECT_THAT(text_of(evidence_dir() + "/hang-1/rank-0.proc.txt"), HasSubstr("waits in"));
  stop();
}

TEST_F(WorkerHang, WhatGoesOnIsTaken) {
  run(stepping("0.2", 10, "if [ $RANK = 1 ]; then kill -STOP $$; else sleep 6; fi"),
      {.after = 2s, .action = {}});
  stalled();
  kill(std::stoi(wait_for_file(worker.scratch("rank1"))), SIGCONT);
  scheduler.wait<RankReport>("n1", [](const RankReport& r) { return !r.stalled; });
  stop();
}

TEST_F(WorkerHang, ADeadlockWithoutToldStepsIsSeenByItsSilence) {
  run("sleep 1000", {.after = 2s, .action = {}});
  const auto report = stalled();
  EXPECT_FALSE(report.tells_progress);
  EXPECT_EQ(report.ranks.size(), 2u);
  EXPECT_EQ(report.ranks[0].step, -1);
  EXPECT_THAT(text_of(evidence_dir() + "/hang-1/rank-0.proc.txt"), HasSubstr("sleep"));
  stop();
}

TEST_F(WorkerHang, ASlowRankThatLivesIsNoHang) {
  run(stepping("0.7", -1, ":"), {.after = 2s, .action = {}});
  scheduler.wait<RankReport>("n1", [](const RankReport& r) {
    EXPECT_FALSE(r.stalled);
    return !r.ranks.empty() && r.ranks[0].step >= 10;
  });
  stop();
}

TEST_F(WorkerHang, BusyRanksWithoutToldStepsAreNoHang) {
  run("echo $$ > " + worker.scratch("rank") + "$RANK; timeout 5 sh -c 'while :; do :; done'; sleep 1000",
      {.after = 2s, .action = {}});
  const auto first = scheduler.wait<RankReport>("n1");
  EXPECT_FALSE(first.stalled);
  // Two seconds after the five that it computed, and not before.
  const auto report = stalled();
  EXPECT_LE(report.ranks[0].silent_us, 4'000'000);
  stop();
}

// The file stands for a disk that does not come back: nothing of it may hold the worker up, whose silence
// would cost the node its lease.
TEST_F(WorkerHang, ADiskThatHangsHoldsNothingUp) {
  start(stepping("0.1", -1, ":"), {});
  const auto draft = worker.attempt_dir(kKey) + "/hang.json.new";
  ASSERT_EQ(mkfifo(draft.c_str(), 0600), 0);
  launch();
  scheduler.wait<RankReport>("n1",
                             [](const RankReport& r) { return !r.ranks.empty() && r.ranks[0].step >= 100; });
  std::string text;
  std::getline(std::ifstream(draft), text);
  EXPECT_THAT(text, HasSubstr("p99_step_us")) << "it had waited for that reader";
  stop();
}

// A capture that gets stuck while its debugger has the ranks stopped, and is killed with it.
struct StuckCapture {
  std::string folder = [] {
    std::string name = (fs::temp_directory_path() / "tutti-libexec-XXXXXX").string();
    return std::string(mkdtemp(name.data()));
  }();
  StuckCapture() {
    chmod(folder.c_str(), 0755);
    for (const auto* name : {"tutti-supervisor", "tutti-rank", "tutti-checkpoint", "tutti-launch-agent",
                             "tutti-nvml-probe", "tutti-node-check"})
      fs::create_symlink(binary(name), folder + "/" + name);
    std::ofstream(folder + "/tutti-capture")
        << "#!/bin/sh\nfor w; do case $w in *:*) kill -STOP ${w#*:};; esac; done\nexec sleep 1000\n";
    chmod((folder + "/tutti-capture").c_str(), 0755);
  }
  ~StuckCapture() {
    std::error_code ec;
    fs::remove_all(folder, ec);
  }
};
class WorkerStuckCapture : StuckCapture, public WorkerHang {
 protected:
  WorkerStuckCapture() : WorkerHang({"--no-gpus", "--libexec", folder}) {}
};

TEST_F(WorkerStuckCapture, LeavesNoRankStopped) {
  run(stepping("0.1", 10, "sleep 8"), {.after = 2s, .action = HangAction::capture_and_restart});
  stalled();
  scheduler.wait<RankReport>("n1", [](const RankReport& r) {
    return !r.stalled && r.ranks.size() == 2 && r.ranks[0].step > 10 && r.ranks[1].step > 10;
  });
  stop();
}

TEST_F(WorkerHang, NonsenseInProgressFilesHarmsNothing) {
  run("i=0; while :; do for t in '{\"step\":NaN}' '{\"step\":1e300}' '{\"step\":-9223372036854775808}' "
      "'{\"step\":9223372036854775807,\"compute_s\":-1e308}' '{\"step\":\"x\"}' '[' '' "
      "'{\"step\":3,\"compute_s\":1e309}' "
      "'{\"step\":5,\"total\":-3,\"eta_s\":1e308,\"metrics\":{\"a\":\"b\",\"c\":1e999}}'; do "
      "echo \"$t\" > $TUTTI_PROGRESS_FILE; sleep 0.3; done; i=$((i+1)); [ $i = 2 ] && break; done; "
      "echo '{\"step\":77}' > $TUTTI_PROGRESS_FILE; sleep 1000",
      {.after = 3s, .action = {}});
  const auto report = stalled();
  EXPECT_EQ(report.ranks.at(0).step, 77);
  for (const auto& r : report.ranks) EXPECT_GE(r.compute_us, 0);
  stop();
}

TEST_F(WorkerHang, ARankInADeletedFolderIsCaptured) {
  run("d=" + worker.scratch("gone") + "$RANK; mkdir $d && cd $d && rmdir $d; exec sleep 1000",
      {.after = 2s, .action = HangAction::capture_and_restart});
  stalled();
  EXPECT_THAT(text_of(evidence_dir() + "/hang-1/rank-1.proc.txt"), HasSubstr("(deleted)"));
  stop();
}

TEST_F(WorkerHang, EvidenceIsCompleteWithoutSecretsAndKept) {
  run("echo \"token is $HF_TOKEN and the mode $MODE\"; curl() { :; }; echo 'Authorization: Bearer "
      "abc.def.ghi'\n"
      "mkdir -p $TUTTI_ATTEMPT_DIR/capture; printf 'dump \\001 '$HF_TOKEN > "
      "$TUTTI_ATTEMPT_DIR/capture/nccl_trace_rank_$RANK\n"
      "ln -s /etc/passwd $TUTTI_ATTEMPT_DIR/capture/link; [ $RANK = 1 ] && exit 3; sleep 1000",
      {}, {{"HF_TOKEN", "hf_0123456789"}, {"MODE", "fast"}});
  EXPECT_TRUE(scheduler.wait_end("n1", kKey).end->proven);
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round == 0 ? "before its end is committed" : "sealed, its directory gone");
    const auto dir = fetch();
    const auto node = text_of(dir + "/node.json");
    EXPECT_THAT(node, HasSubstr(R"("rank":1)"));
    EXPECT_THAT(node, HasSubstr(R"("exit_code":3)"));
    EXPECT_THAT(node, HasSubstr(R"("first_failure":{"kind":"exit","rank":1)"));
    const auto log = text_of(dir + "/logs/rank-1.log");  // the one that ends by itself
    EXPECT_THAT(log, HasSubstr("token is [redacted] and the mode fast"));
    EXPECT_THAT(log, Not(HasSubstr("abc.def")));
    EXPECT_THAT(text_of(dir + "/capture/nccl_trace_rank_1"), HasSubstr("dump"));
    EXPECT_FALSE(fs::exists(dir + "/capture/link"));
    EXPECT_TRUE(fs::exists(dir + "/evidence/gpu_before.json"));
    EXPECT_TRUE(fs::exists(dir + "/evidence/gpu_after.json"));
    for (const auto& entry : fs::recursive_directory_iterator(dir))
      if (entry.is_regular_file())
        EXPECT_THAT(text_of(entry.path()), Not(HasSubstr("hf_0123456789"))) << entry.path();
    if (round == 1) break;
    scheduler.send("n1", Forget{kKey});
    wait_until_exists(worker.dir() + "/state/evidence/7-2.tar.gz");
    fs::remove_all(worker.attempt_dir(kKey));
  }
}

TEST_F(WorkerHang, WhatIsNotThereIsSaid) {
  worker.start();
  scheduler.wait<Hello>("n1");
  ReadLog read{5, AttemptKey{JobId(99), Epoch(1)}, 0, 0, 1000, 0};
  read.what = "evidence";
  scheduler.send("n1", read);
  const auto chunk = scheduler.wait<LogChunk>("n1");
  EXPECT_THAT(chunk.error, HasSubstr("job 99"));
  EXPECT_TRUE(chunk.end);
}

}  // namespace
}  // namespace tutti::worker::testing
