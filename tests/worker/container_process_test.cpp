// Ranks in a container under a real supervisor: what they see, how signals and exit codes pass, and that
// nothing of a container outlives its attempt, whoever is killed. The root directory is made on the spot.
// Skipped, with bubblewrap's words, where the kernel gives an ordinary user no namespaces.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "tests/support/container_root.h"
#include "tests/worker/supervisor_rig.h"
#include "worker/container/container_plan.h"
#include "worker/container/run_tool.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/kill_proof.h"
#include "worker/supervisor/proc_scan.h"

namespace tutti::supervisor::testing {
namespace {

namespace fs = std::filesystem;
using protocol::Phase;
using ::testing::HasSubstr;
using ::testing::Not;

class Contained : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (container::find_in_path("bwrap").empty()) GTEST_SKIP() << "bubblewrap is not installed";
    std::vector<std::string> words = {"bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/",
                                      "true"};
    if (geteuid() == 0)
      words.insert(words.begin(), {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"});
    if (!container::runs_well(words)) GTEST_SKIP() << "this kernel gives ordinary users no namespaces";
    if (std::string(GetParam()) == "cgroup2" && !cgroup2_works()) GTEST_SKIP() << "no cgroup v2 to write to";
    rig.emplace(GetParam());
    plan.image = rig->dir() + "/image";
    plan.tool = "bubblewrap";
    plan.bubblewrap = container::find_in_path("bwrap");
    plan.cache = rig->dir() + "/cache";
    plan.cache_bytes = 1 << 30;
    plan.dir = rig->dir();
    plan.programs = fs::path(binary("tutti-rank")).parent_path();
    plan.user = "some-one";
    plan.home = "/home/some-one";
    plan.uid = rig->config.uid;
    plan.gid = rig->config.gid;
    plan.shm = true;
    rig->config.shm_bytes = 16 << 20;
    rig->config.user = plan.user;
    rig->config.home = plan.home;
    rig->config.groups = {plan.gid};
  }

  void give(const std::string& path) const {
    if (geteuid() == 0) ASSERT_EQ(lchown(path.c_str(), plan.uid, plan.gid), 0);
  }

  // With the image as a directory, unless `plan.image` says otherwise by then.
  void start(int ranks) {
    tutti::testing::make_container_root(rig->dir() + "/image");
    if (linked_shell) {
      fs::rename(rig->dir() + "/image/bin/sh", rig->dir() + "/image/bin/busybox");
      fs::create_symlink("/bin/busybox", rig->dir() + "/image/bin/sh");
    }
    for (const auto* folder : {"work", "tmp", "cache", "container"}) {
      fs::create_directories(rig->dir() + "/" + folder);
      give(rig->dir() + "/" + folder);
    }
    replace_file(rig->dir() + "/" + container::kPlanFile, container::encode(plan), false, 0444);
    rig->config.local_ranks = ranks;
    rig->config.workdir = rig->dir() + "/work";
    rig->config.setup = binary("tutti-image") + " " + rig->dir() + setup;
    rig->config.env = {{"SCRATCH", rig->dir() + "/scratch"}};
    rig->start();
  }

  // A rank that writes what it sees to `name`.
  static std::string seen(const std::string& what, const std::string& name) {
    return "(" + what + ") > $SCRATCH/" + name + ".new 2>&1; echo end >> $SCRATCH/" + name +
           ".new; mv $SCRATCH/" + name + ".new $SCRATCH/" + name + "; ";
  }
  std::string log(const std::string& name) const {
    return read_file(rig->dir() + "/logs/" + name).value_or("no " + name);
  }

  std::optional<Rig> rig;
  container::ContainerPlan plan;
  std::string setup;          // behind the image's
  bool linked_shell = false;  // by an absolute link, as in Alpine
};

constexpr const char* kWait = "while [ ! -e $SCRATCH/go ]; do sleep 0.02; done; ";

TEST_P(Contained, ARankSeesItsImageAndWhatBelongsToItsAttempt) {
  fs::create_directories(rig->dir() + "/scratch/data");
  std::ofstream(rig->dir() + "/scratch/data/file") << "mounted\n";
  plan.mounts = {{rig->dir() + "/scratch/data", "/opt/new/place", true}};
  setup = " && exec " + binary("tutti-image") + " --inside " + rig->dir() +
          " -- /bin/sh -c 'cat /in-the-image > $SCRATCH/setup'";
  start(2);
  // The second sees in /dev/shm what the first has put there.
  rig->launch_ranks(
      {"echo shared > /dev/shm/one; " +
           seen("cat /in-the-image; ls /; id; df -k /dev/shm; cat /opt/new/place/file; echo x > "
                "/opt/new/place/y; "
                "echo x > /in-the-image; echo $HOME $RANK $WORLD_SIZE $PATH; echo x > $HOME/x && echo home; "
                "readlink "
                "/proc/1/exe; cat /proc/self/status; cat /etc/passwd; ls /usr/bin",
                "seen") +
           kWait,
       "while [ ! -e /dev/shm/one ]; do sleep 0.02; done; " + seen("cat /dev/shm/one", "second") + kWait});
  const auto text = rig->wait_for_file(rig->scratch("seen"));
  EXPECT_THAT(text, HasSubstr("made on the spot\n"));
  EXPECT_THAT(text, HasSubstr("uid=" + std::to_string(plan.uid)));
  EXPECT_THAT(text, HasSubstr(" 16384 ")) << "the size of /dev/shm";
  EXPECT_THAT(text, HasSubstr("\nmounted\n"));
  EXPECT_THAT(text, HasSubstr("/opt/new/place/y: Read-only"));
  EXPECT_THAT(text, HasSubstr("/in-the-image: Read-only"));
  EXPECT_THAT(text, HasSubstr("\n/home/some-one 0 2 /usr/local/sbin:"));
  EXPECT_THAT(text, HasSubstr("\nhome\n"));
  EXPECT_THAT(text, HasSubstr("\nNoNewPrivs:\t1\n"));
  EXPECT_THAT(text, HasSubstr("\nCapEff:\t0000000000000000\n"));
  EXPECT_THAT(text, Not(HasSubstr("\nsrv\n"))) << "not the node's root";
  EXPECT_THAT(rig->wait_for_file(rig->scratch("second")), HasSubstr("shared\n"));
  EXPECT_EQ(read_file(rig->scratch("setup")), "made on the spot\n") << log("setup.log");
  EXPECT_FALSE(fs::exists(rig->dir() + "/shm/one")) << "the supervisor's own mount";
  std::ofstream(rig->scratch("go")) << "go\n";
  const Status s = rig->wait_for_end();
  EXPECT_TRUE(s.end->ok) << log("rank-0.log") << log("rank-1.log");
  EXPECT_TRUE(s.end->proven);
}

TEST_P(Contained, ExitCodesAndSignalsPassThrough) {
  start(1);
  rig->launch_ranks(
      {"trap 'echo told > $SCRATCH/told; exit 7' TERM; touch $SCRATCH/up.new; echo > $SCRATCH/up; "
       "while true; do sleep 0.02; done"});
  rig->wait_for_file(rig->scratch("up"));
  rig->send(Stop{"preempted", "TERM", 20'000'000});
  EXPECT_EQ(rig->wait_for_file(rig->scratch("told")), "told\n");
  const Status s = rig->wait_for_end();
  ASSERT_EQ(s.ranks.size(), 1u);
  EXPECT_EQ(s.ranks[0].exit_code, 7) << log("rank-0.log");
}

TEST_P(Contained, ASignalDoesNotEndTheShellOfAnImageWhereItIsALink) {
  linked_shell = true;
  start(1);
  rig->launch_ranks(
      {"sh -c 'trap \"echo USR1 > $SCRATCH/heard\" USR1; echo up > $SCRATCH/up; "
       "while [ ! -e $SCRATCH/go ]; do sleep 0.02; done'; echo after > $SCRATCH/after"});
  rig->wait_for_file(rig->scratch("up"));
  rig->wait_for_phase(Phase::running);
  rig->send(SignalRanks{"USR1"});
  EXPECT_EQ(rig->wait_for_file(rig->scratch("heard")), "USR1\n");
  std::ofstream(rig->scratch("go")) << "go\n";
  EXPECT_TRUE(rig->wait_for_end().end->ok) << log("rank-0.log");
  EXPECT_EQ(read_file(rig->scratch("after")), "after\n") << "the shell's line goes on";
}

TEST_P(Contained, AKilledProgramIsSaidSo) {
  start(1);
  rig->launch_ranks({"kill -9 $$"});
  const Status s = rig->wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->signal, SIGKILL) << encode(s);
}

// A daemon that leaves its session, its parent and its environment.
const std::string kDaemon =
    "(trap '' TERM HUP; exec env -i /bin/sh -c 'echo $$ > \"$0\"/daemon.pid; while true; do sleep 0.02; "
    "done' "
    "$SCRATCH) & ";

TEST_P(Contained, NothingOutlivesTheSupervisor) {
  rig->add_device();
  plan.also = {rig->dir()};
  start(1);
  rig->launch_ranks({kDaemon + "touch $SCRATCH/x; echo > $SCRATCH/up; while true; do sleep 0.02; done"});
  rig->wait_for_file(rig->scratch("up"));
  rig->wait_for_file(rig->scratch("daemon.pid"));
  const auto all = find_processes(rig->config, rig->supervisor());
  ASSERT_GE(all.size(), 5u) << "tutti-rank, bubblewrap twice, the shell, its daemon";
  std::vector<Pinned> pinned;
  for (const pid_t pid : all) try {
      pinned.emplace_back(pid);
    } catch (const std::runtime_error&) {  // a sleep that has ended
    }
  // No worker, and nobody who scans: the kernel alone must do it.
  rig->kill_supervisor();
  for (const auto& process : pinned) EXPECT_TRUE(process.dies_within(10));
  EXPECT_TRUE(find_holders(rig->config.devices[0].path).empty());
}

TEST_P(Contained, NothingOutlivesTheProgram) {
  start(1);
  rig->launch_ranks(
      {kDaemon + "while [ ! -e $SCRATCH/daemon.pid ]; do sleep 0.02; done; " + kWait + "exit 3"});
  rig->wait_for_file(rig->scratch("daemon.pid"));
  std::vector<Pinned> pinned;
  for (const pid_t pid : find_processes(rig->config, rig->supervisor())) try {
      pinned.emplace_back(pid);
    } catch (const std::runtime_error&) {
    }
  std::ofstream(rig->scratch("go")) << "go\n";
  const Status s = rig->wait_for_end();
  ASSERT_EQ(s.ranks.size(), 1u);
  EXPECT_EQ(s.ranks[0].exit_code, 3);
  EXPECT_TRUE(s.end->proven);
  for (const auto& process : pinned) EXPECT_TRUE(process.dies_within(10));
}

TEST_P(Contained, TheLeaseKillsWhatIsInTheContainer) {
  rig->config.lease_path = rig->dir() + "/lease";
  rig->write_lease(boot_us() + 60'000'000);
  start(1);
  rig->launch_ranks({kDaemon + "trap '' TERM; while true; do sleep 0.02; done"});
  rig->wait_for_file(rig->scratch("daemon.pid"));
  rig->write_lease(boot_us() - 1);
  rig->send(SignalRanks{"CONT"});  // it looks at the lease when it wakes
  const Status s = rig->wait_for_end();
  EXPECT_TRUE(s.end->proven) << s.end->how;
  EXPECT_TRUE(find_processes(rig->config, rig->supervisor()).empty());
}

TEST_P(Contained, AnImageThatIsNotThereFailsTheSetupWithItsWords) {
  plan.image = "/nowhere/image.tar";
  start(1);
  const Status s = rig->wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "setup");
  EXPECT_THAT(s.failure->last_lines, HasSubstr("/nowhere/image.tar"));
}

TEST_P(Contained, AnArchiveIsUnpackedOnceAndRun) {
  tutti::testing::make_container_root(rig->dir() + "/image");
  container::run_tool({"tar", "-C", rig->dir() + "/image", "-cf", rig->dir() + "/image.tar", "."});
  plan.image = "oci-archive:" + rig->dir() + "/image.tar";
  start(1);
  rig->launch_ranks({seen("cat /in-the-image; ls -l /", "seen")});
  EXPECT_THAT(rig->wait_for_file(rig->scratch("seen")), HasSubstr("made on the spot"));
  EXPECT_TRUE(rig->wait_for_end().end->ok) << log("setup.log") << log("rank-0.log");
}

INSTANTIATE_TEST_SUITE_P(KillModes, Contained, ::testing::Values("cgroup2", "process-group"),
                         [](const auto& i) {
                           return std::string(i.param) == "cgroup2" ? "Cgroup2" : "ProcessGroup";
                         });

}  // namespace
}  // namespace tutti::supervisor::testing
