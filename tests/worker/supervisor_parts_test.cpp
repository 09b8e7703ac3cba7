// The supervisor's smaller parts: who a rank is, what mpirun calls, where the cgroup is, when death is not
// proven.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/worker/supervisor_rig.h"
#include "worker/supervisor/agent_server.h"
#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/kill_proof.h"
#include "worker/supervisor/launch_line.h"
#include "worker/supervisor/lease.h"
#include "worker/supervisor/proc_scan.h"
#include "worker/supervisor/rank_env.h"

namespace tutti::supervisor::testing {
namespace {

using Env = std::map<std::string, std::string>;
GetEnv reader(const Env& env) {
  return [&env](const char* name) {
    const auto it = env.find(name);
    return it == env.end() ? nullptr : it->second.c_str();
  };
}

TEST(StatInRoot, AbsoluteLinksAreTheRootsOwn) {
  namespace fs = std::filesystem;
  char name[] = "/tmp/tutti-root-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  const std::string root = name;
  fs::create_directories(root + "/bin");
  const auto tool = "tool-of-" + fs::path(root).filename().string();  // no node has it
  std::ofstream(root + "/bin/" + tool) << "x";
  fs::create_symlink("/bin/" + tool, root + "/bin/sh");
  fs::create_symlink("/nowhere", root + "/bin/none");
  fs::create_symlink("../../../../../../etc/passwd", root + "/bin/out");
  struct stat inside{}, wanted{};
  ASSERT_EQ(stat((root + "/bin/" + tool).c_str(), &wanted), 0);
  EXPECT_TRUE(stat_in_root(root, "bin/sh", inside));
  EXPECT_EQ(inside.st_ino, wanted.st_ino);
  EXPECT_FALSE(stat_in_root(root, "bin/none", inside));
  EXPECT_FALSE(stat_in_root(root, "bin/out", inside));
  EXPECT_FALSE(stat_in_root(root + "/none", "bin/sh", inside));
  EXPECT_TRUE(stat_in_root("/proc/self/root", "bin/sh", inside));
  fs::remove_all(root);
}

TEST(RankEnv, OpenMpisWordsAreMirroredForTorchButNeverOverTheUsers) {
  const Env env{{"OMPI_COMM_WORLD_RANK", "5"},        {"OMPI_COMM_WORLD_SIZE", "8"},
                {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},  {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                {"OMPI_COMM_WORLD_NODE_RANK", "1"},   {"WORLD_SIZE", "theirs"},
                {"TUTTI_PROGRESS_FILE", "/x/%r/p-%r"}};
  const RankIdentity id = read_identity(reader(env));
  EXPECT_EQ(id.rank, 5);
  EXPECT_EQ(id.world, 8);
  EXPECT_EQ(variables_to_set(id, reader(env)), (Env{{"RANK", "5"},
                                                    {"LOCAL_RANK", "1"},
                                                    {"LOCAL_WORLD_SIZE", "4"},
                                                    {"NODE_RANK", "1"},
                                                    {"TUTTI_PROGRESS_FILE", "/x/5/p-5"}}));
}

TEST(RankEnv, DirectRanksKeepWhatTheyHave) {
  const Env env{{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}};
  const RankIdentity id = read_identity(reader(env));
  EXPECT_EQ(id.rank, 3);
  EXPECT_TRUE(variables_to_set(id, reader(env)).empty());
  EXPECT_EQ(read_identity(reader({})).rank, -1);
  const Env odd{{"RANK", "x3"}};
  EXPECT_EQ(read_identity(reader(odd)).rank, -1);
}

TEST(RankEnv, RankHoldsItsOwnDeviceOrAllOfThem) {
  const RankIdentity id{.rank = 3, .world = 4, .local_rank = 1, .local_world = 2};
  EXPECT_EQ(devices_of(id, "/a,/b"), (std::vector<std::string>{"/b"}));
  EXPECT_EQ(devices_of(id, "/a,/b,/c"), (std::vector<std::string>{"/a", "/b", "/c"}));
  EXPECT_TRUE(devices_of(id, "").empty());
}

TEST(LaunchLine, IsReadAsOpenMpiWritesIt) {
  const auto call =
      parse_launch_call({"nodeA", " orted", "--daemonize", "-mca", "ess", "\"env\"", "-mca", "x", "1"});
  ASSERT_TRUE(call);
  EXPECT_EQ(call->host, "nodeA");
  EXPECT_EQ(call->command, " orted -mca ess \"env\" -mca x 1");
  const auto with_options = parse_launch_call({"-x", "-p", "22", "host", "true"});
  ASSERT_TRUE(with_options);
  EXPECT_EQ(with_options->host, "host");
  EXPECT_FALSE(parse_launch_call({"host"}));
  EXPECT_FALSE(parse_launch_call({"-l", "me"}));
}

TEST(Cgroup, IsFoundInPureHybridAndBindMountedTrees) {
  const std::string v2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
  EXPECT_EQ(find_own_cgroup(v2, "0::/system.slice/tutti.service\n"),
            "/sys/fs/cgroup/system.slice/tutti.service");
  const std::string hybrid =
      "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
  EXPECT_EQ(find_own_cgroup(hybrid, "4:memory:/x\n0::/\n"), "/sys/fs/cgroup/unified");
  const std::string bound = "41 31 0:38 /docker/abc /sys/fs/cg\\040roup ro - cgroup2 cgroup2 rw\n";
  EXPECT_EQ(find_own_cgroup(bound, "0::/docker/abc/job\n"), "/sys/fs/cg roup/job");
  EXPECT_EQ(find_own_cgroup(bound, "0::/elsewhere\n"), "");
  EXPECT_EQ(find_own_cgroup("35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw\n", "4:memory:/x\n"),
            "");
}

TEST(Cgroup, NoteThatWasTamperedWithIsNotBelieved) {
  Rig rig;
  std::ofstream(rig.dir() + "/cgroup") << "/sys/fs/cgroup/system.slice";
  EXPECT_EQ(cgroup_of(rig.config).find("system.slice"), std::string::npos);
  std::ofstream(rig.dir() + "/cgroup") << "/some/where/else/" + cgroup_name(rig.config);
  EXPECT_EQ(cgroup_of(rig.config), "/some/where/else/" + cgroup_name(rig.config));
  std::filesystem::remove(rig.dir() + "/cgroup");
}

TEST(Cgroup, MemoryKillsAreCountedWhereTheControllerIs) {
  Rig rig;
  EXPECT_FALSE(oom_kills(rig.dir()));
  std::ofstream(rig.dir() + "/memory.events")
      << "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n";
  EXPECT_EQ(oom_kills(rig.dir()), 2);
}

TEST(Lease, TruncatedFileIsAnExpiredOne) {
  Rig rig;
  rig.config.lease_path = rig.dir() + "/lease";
  Lease lease(rig.config.lease_path, 7);
  EXPECT_EQ(lease.until_us(), 7);
  std::ofstream(rig.config.lease_path) << "shrt";
  EXPECT_EQ(lease.until_us(), 7);
  rig.write_lease(4711);
  EXPECT_EQ(lease.until_us(), 4711);
  rig.write_lease(4712);
  EXPECT_EQ(lease.until_us(), 4712);
  std::filesystem::resize_file(rig.config.lease_path, 0);
  EXPECT_EQ(lease.until_us(), 7);
}

TEST(KillProof, DeviceInForeignHandsIsNoProofUntilItIsLetGo) {
  if (geteuid() != 0) GTEST_SKIP() << "needs two users";
  Rig rig("process-group");
  rig.add_device();
  const std::string& device = rig.config.devices[0].path;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    (void)!open(device.c_str(), O_RDONLY);
    (void)!write(ready[1], "x", 1);
    pause();
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const KillResult held = kill_and_prove(rig.config, boot_us() + 50'000);
  EXPECT_FALSE(held.proven);
  EXPECT_NE(held.how.find(std::to_string(holder)), std::string::npos) << held.how;
  EXPECT_EQ(waitpid(holder, nullptr, WNOHANG), 0) << "another user's process must not be killed";
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  EXPECT_TRUE(kill_and_prove(rig.config, boot_us() + 5'000'000).proven);
  close(ready[0]);
  close(ready[1]);
}

TEST(KillProof, AttemptOfTheSameNumbersInAnotherDirectoryIsLeftAlone) {
  Rig one("process-group"), other("process-group");
  one.config.local_ranks = other.config.local_ranks = 1;
  for (Rig* rig : {&one, &other}) {
    rig->start();
    rig->launch_ranks({"sleep 1000"});
    rig->wait_for_phase(protocol::Phase::running);
  }
  one.kill_supervisor();
  EXPECT_TRUE(kill_and_prove(one.config, boot_us() + 5'000'000).proven);
  EXPECT_FALSE(find_processes(other.config, 0).empty());
}

TEST(Ports, ReservedPortIsNotGivenToAnyoneElse) {
  std::int32_t first = 0, second = 0;
  const Fd a = reserve_port("127.0.0.1", first), b = reserve_port("", second);
  EXPECT_GT(first, 0);
  EXPECT_NE(first, second);
  EXPECT_THROW(listen_tcp("not an address", second), std::system_error);
}

}  // namespace
}  // namespace tutti::supervisor::testing
