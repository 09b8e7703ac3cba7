// A real mpirun whose ssh is tutti-launch-agent, over two supervisors on this machine with invented host
// names.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <memory>

#include "tests/worker/supervisor_rig.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/proc_scan.h"

namespace tutti::supervisor::testing {
namespace {

using protocol::Phase;

class SupervisorMpi : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("mpirun --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no Open MPI here";
    for (Rig* rig : {&a_, &b_}) {
      rig->config.local_ranks = 1;
      rig->config.first_rank = rig == &a_ ? 0 : 1;
      rig->config.listen_agent = true;
      rig->config.listen_address = "127.0.0.1";
      rig->config.secret = "open sesame";
      // Two "machines" on one: else both would use the same session directory.
      const std::string tmp = rig->scratch("tmp");
      mkdir(tmp.c_str(), 0777);
      chmod(tmp.c_str(), 0777);
      rig->config.env = {{"TMPDIR", tmp}, {"SCRATCH", rig->dir() + "/scratch"}};
    }
  }

  void start() {
    for (Rig* rig : {&a_, &b_}) rig->start();
    ports_[0] = a_.wait_for_phase(Phase::ready).agent_port;
    ports_[1] = b_.wait_for_phase(Phase::ready).agent_port;
  }

  void write_endpoints() {
    std::ofstream out(a_.dir() + "/endpoints.json");
    out << R"({"nodeA":{"address":"127.0.0.1","port":)" << ports_[0]
        << R"(},"nodeB":{"address":"127.0.0.1","port":)" << ports_[1] << "}}";
  }

  void launch(const std::string& mode) {
    Process p;
    p.argv = {"mpirun",
              "--mca",
              "plm_rsh_agent",
              binary("tutti-launch-agent"),
              "--mca",
              "plm_rsh_no_tree_spawn",
              "1",
              "--mca",
              "btl",
              "tcp,vader,self",
              "--mca",
              "btl_tcp_if_include",
              "127.0.0.0/8",
              "--mca",
              "oob_tcp_if_include",
              "127.0.0.0/8",
              "--mca",
              "mpi_yield_when_idle",
              "1",
              "--bind-to",
              "none",
              "--host",
              "nodeA:1,nodeB:1",
              "-np",
              "2",
              binary("tutti-rank"),
              "--",
              TUTTI_MPI_PROGRAM,
              mode};
    p.env = a_.config.env;
    p.log = "logs/mpirun.log";
    a_.send(Launch{{p}});
  }

  void expect_dead(Rig& rig, const Status& s) {
    ASSERT_TRUE(s.end);
    EXPECT_TRUE(s.end->proven) << s.end->how;
    EXPECT_TRUE(find_processes(rig.config, 0).empty());
  }

  Rig a_, b_;
  int ports_[2] = {0, 0};
};

TEST_F(SupervisorMpi, RanksOfTwoNodesJoinAndBothNodesEndWell) {
  start();
  write_endpoints();
  launch("end");
  const Status a = a_.wait_for_end(), b = b_.wait_for_end();
  EXPECT_TRUE(a.end->ok) << encode(a) << read_file(a_.dir() + "/logs/mpirun.log").value_or("");
  EXPECT_TRUE(b.end->ok) << encode(b);
  EXPECT_EQ(read_file(a_.dir() + "/logs/rank-0.log"),
            "rank 0 of 2, sum 3, RANK=0 LOCAL_RANK=0 NODE_RANK=0\n");
  EXPECT_EQ(read_file(b_.dir() + "/logs/rank-1.log"),
            "rank 1 of 2, sum 3, RANK=1 LOCAL_RANK=0 NODE_RANK=1\n");
  expect_dead(a_, a);
  expect_dead(b_, b);
}

TEST_F(SupervisorMpi, KilledRankIsToldByItsNodeAndBothNodesAreProvenDead) {
  start();
  write_endpoints();
  launch("stay");
  a_.wait_for_file(a_.scratch("joined"));
  b_.wait_for_file(b_.scratch("joined"));
  b_.wait_for_phase(Phase::running);
  pid_t victim = 0;
  for (const pid_t pid : find_processes(b_.config, 0))
    if (describe(pid).find("supervisor_mpi_") != std::string::npos) victim = pid;
  ASSERT_GT(victim, 0);
  ASSERT_EQ(kill(victim, SIGKILL), 0);
  const Status failed = b_.wait_for([](const Status& s) { return s.failure.has_value(); });
  EXPECT_EQ(failed.failure->kind, "signal");
  EXPECT_EQ(failed.failure->rank, 1);
  EXPECT_EQ(failed.failure->signal, SIGKILL);
  a_.send(Stop{"fault", "KILL", 0});  // as the scheduler does on that word, long before mpirun notices
  const Status a = a_.wait_for_end(), b = failed.end ? failed : b_.wait_for_end();
  EXPECT_FALSE(a.end->ok);
  expect_dead(a_, a);
  expect_dead(b_, b);
}

TEST_F(SupervisorMpi, UnreachableNodeIsALaunchFailureThatSaysWhich) {
  start();
  b_.kill_supervisor();
  write_endpoints();
  launch("end");
  const Status a = a_.wait_for_end();
  ASSERT_TRUE(a.failure);
  EXPECT_EQ(a.failure->kind, "launch");
  EXPECT_NE(a.failure->last_lines.find("nodeB"), std::string::npos) << a.failure->last_lines;
  expect_dead(a_, a);
}

TEST_F(SupervisorMpi, AgentWithTheWrongSecretRunsNothing) {
  b_.config.secret = "something else";
  start();
  write_endpoints();
  const std::string line = "TUTTI_ATTEMPT_DIR=" + a_.dir() + " " + binary("tutti-launch-agent") +
                           " nodeB touch " + b_.scratch("ran") + " 2>" + a_.scratch("said");
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 255);
  EXPECT_NE(read_file(a_.scratch("said")).value_or("").find("nodeB"), std::string::npos);
  EXPECT_FALSE(read_file(b_.scratch("ran")).has_value());
  EXPECT_NE(read_file(b_.dir() + "/supervisor.log").value_or("").find("wrong secret"), std::string::npos);
}

TEST_F(SupervisorMpi, AgentPassesOutputAndStatusOnAndIsRefusedOnceItIsOver) {
  start();
  write_endpoints();
  const std::string call =
      "TUTTI_ATTEMPT_DIR=" + a_.dir() + " " + binary("tutti-launch-agent") + " -x -l me nodeB ";
  // Not our rank's launcher, but any command: it must end well, or it would be a failed launch.
  const std::string line = call + "'echo to out; echo to err >&2; echo \"$TMPDIR\"; exit 0' >" +
                           a_.scratch("out") + " 2>" + a_.scratch("err");
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 0);
  EXPECT_EQ(read_file(a_.scratch("out")), "to out\n" + b_.scratch("tmp") + "\n");
  EXPECT_EQ(read_file(a_.scratch("err")), "to err\n");
  b_.send(Stop{"cancelled", "KILL", 0});
  EXPECT_TRUE(b_.wait_for_end().end->proven);
  EXPECT_EQ(WEXITSTATUS(std::system((call + "true 2>/dev/null").c_str())), 255);
}

}  // namespace
}  // namespace tutti::supervisor::testing
