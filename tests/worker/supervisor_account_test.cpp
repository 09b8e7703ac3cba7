// What a rank may do and see: its account and no more, secrets, a /tmp of its own; and commands that people
// run beside it. With real processes; most of it only as root.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <thread>

#include "tests/worker/supervisor_rig.h"
#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/proc_scan.h"
#include "worker/supervisor/secrets_file.h"
#include "worker/supervisor/shell_wire.h"

namespace tutti::supervisor::testing {
namespace {

using protocol::Phase;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kWait = "while [ ! -e $SCRATCH/go ]; do sleep 0.02; done";
bool root() { return geteuid() == 0; }

void let_go(const Rig& rig) { std::ofstream(rig.scratch("go")) << "go\n"; }

TEST(SupervisorAccount, ARankHasItsAccountAndNoWayToMore) {
  if (!root()) GTEST_SKIP() << "needs root";
  Rig rig;
  rig.config.local_ranks = 1;
  rig.config.user = "some-one";
  rig.config.home = "/home/some-one";
  rig.config.groups = {65534, 54321};
  rig.start();
  rig.launch_ranks(
      {"(cat /proc/self/status; echo core $(ulimit -S -c); echo files $(ulimit -S -n); "
       "echo locked $(ulimit -l); umask; echo $HOME $USER) > $SCRATCH/seen.new; echo >> $SCRATCH/seen.new; "
       "mv $SCRATCH/seen.new $SCRATCH/seen"});
  const auto seen = rig.wait_for_file(rig.scratch("seen"));
  EXPECT_THAT(seen, HasSubstr("\nUid:\t65534\t65534\t65534\t65534\n"));
  EXPECT_THAT(seen, HasSubstr("\nGid:\t65534\t65534\t65534\t65534\n"));
  EXPECT_THAT(seen, HasSubstr("\nGroups:\t54321 65534"));
  EXPECT_THAT(seen, HasSubstr("\nNoNewPrivs:\t1\n"));
  for (const char* caps : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_THAT(seen, HasSubstr(std::string("\n") + caps + ":\t0000000000000000\n"));
  EXPECT_THAT(seen, HasSubstr("\ncore 0\n"));
  // As much as root may give here.
  rlimit locked{};
  getrlimit(RLIMIT_MEMLOCK, &locked);
  const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
  const bool may = prlimit(getpid(), RLIMIT_MEMLOCK, &all, nullptr) == 0;
  EXPECT_THAT(seen,
              HasSubstr("\nlocked " +
                        (may || locked.rlim_max == RLIM_INFINITY ? std::string("unlimited")
                                                                 : std::to_string(locked.rlim_max / 1024)) +
                        "\n"));
  EXPECT_THAT(seen, HasSubstr("\n0022\n"));
  EXPECT_THAT(seen, HasSubstr("/home/some-one some-one\n"));
  EXPECT_TRUE(rig.wait_for_end().end->ok);
}

TEST(SupervisorAccount, RootOnlyWhereItIsAllowed) {
  if (!root()) GTEST_SKIP() << "needs root";
  for (const bool allowed : {false, true}) {
    Rig rig;
    rig.config.uid = rig.config.gid = 0;
    rig.config.groups = {0};
    rig.config.user = "root";
    rig.config.allow_root = allowed;
    rig.config.local_ranks = 1;
    rig.start();
    if (allowed) rig.launch_ranks({"[ $(id -u) = 0 ]"});
    const Status s = rig.wait_for_end();
    EXPECT_EQ(s.end->ok, allowed);
    if (!allowed) EXPECT_EQ(s.failure->detail, "jobs never run as root");
  }
}

TEST(SupervisorAccount, AForgedMarkerOfAnotherUserDoesNotHoldTheEndUp) {
  if (!root()) GTEST_SKIP() << "needs root";
  Rig rig("process-group");
  rig.config.local_ranks = 1;
  rig.start();
  rig.launch_ranks({"true"});
  const pid_t forger = fork();
  if (forger == 0) {
    if (setgid(65533) != 0 || setuid(65533) != 0) _exit(1);
    const std::string key = std::string(kKeyVariable) + "=" + key_text(rig.config.key);
    const std::string dir = std::string(kDirVariable) + "=" + rig.dir();
    const char* env[] = {key.c_str(), dir.c_str(), nullptr};
    execle("/bin/sleep", "sleep", "1000", nullptr, env);
    _exit(127);
  }
  const Pinned pinned(forger);
  const Status s = rig.wait_for_end();
  EXPECT_TRUE(s.end->proven) << s.end->how;
  EXPECT_TRUE(pinned.alive());
  kill(forger, SIGKILL);
  waitpid(forger, nullptr, 0);
}

TEST(SupervisorSecrets, AreInTheEnvironmentAndInNoReport) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.config.setup = "echo \"$HF_TOKEN\" > $SCRATCH/setup";
  rig.config.env = {{"SCRATCH", rig.dir() + "/scratch"}};
  write_secrets(rig.dir(), {{"HF_TOKEN", "hf_0123456789"}, {"OTHER", "line one\nline two\n"}});
  rig.start();
  rig.launch_ranks(
      {"echo \"$HF_TOKEN\" > $SCRATCH/token; echo 'using hf_0123'456789; echo \"$OTHER\"; exit 3"});
  const Status s = rig.wait_for_end();
  EXPECT_EQ(read_file(rig.scratch("token")), "hf_0123456789\n");
  EXPECT_EQ(read_file(rig.scratch("setup")), "hf_0123456789\n");
  ASSERT_TRUE(s.failure);
  EXPECT_THAT(s.failure->last_lines, HasSubstr("using ‹secret HF_TOKEN›\n"));
  EXPECT_THAT(s.failure->last_lines, Not(HasSubstr("line two")));
  for (const char* file : {"state.json", "supervise.json", "supervisor.log"})
    EXPECT_THAT(read_file(rig.dir() + "/" + file).value_or(""), Not(HasSubstr("hf_0123456789"))) << file;
  struct stat info{};
  ASSERT_EQ(stat((rig.dir() + "/secrets.json").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(info.st_uid, geteuid());
}

TEST(SupervisorSecrets, ADamagedFileStartsNothing) {
  Rig rig;
  std::ofstream(rig.dir() + "/secrets.json") << "{\"HF";
  rig.config.local_ranks = 1;
  rig.start();
  const Status s = rig.wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "launch");
  EXPECT_THAT(s.failure->detail, HasSubstr("secrets.json is damaged"));
}

TEST(SupervisorPrivateTmp, IsSeenByTheAttemptAlone) {
  if (!root()) GTEST_SKIP() << "needs root";
  Rig rig;
  rig.config.local_ranks = 2;
  rig.config.private_tmp = true;
  rig.config.programs = std::filesystem::path(binary("tutti-rank")).parent_path();
  rig.add_device();  // lies under /tmp as well, and is still seen
  const std::string name = std::filesystem::path(rig.dir()).filename().string() + "-private";
  rig.start();
  // Both ranks see the same one; its root is theirs.
  rig.launch_ranks({"echo mine > /tmp/" + name + "; echo mine > /var/tmp/" + name + "; " + kWait,
                    "while [ ! -e /tmp/" + name +
                        " ]; do sleep 0.02; done; cat $TUTTI_SIM_DEVICES; echo; "
                        "ls -ld /tmp | cut -d' ' -f1,3 > $SCRATCH/mode; " +
                        kWait});
  rig.wait_for_file(rig.scratch("mode"));
  EXPECT_FALSE(std::filesystem::exists("/tmp/" + name));
  EXPECT_FALSE(std::filesystem::exists("/var/tmp/" + name));
  EXPECT_EQ(read_file(rig.dir() + "/private_tmp/tmp/" + name), "mine\n");
  EXPECT_EQ(read_file(rig.dir() + "/private_tmp/var_tmp/" + name), "mine\n");
  let_go(rig);
  const Status s = rig.wait_for_end();
  EXPECT_TRUE(s.end->ok) << s.failure->detail << read_file(rig.dir() + "/supervisor.log").value_or("");
  EXPECT_EQ(read_file(rig.dir() + "/logs/rank-1.log"), "simulated\n");
}

TEST(Cgroup, MemoryIsLimitedWhereTheControllerIs) {
  // A folder that looks like a cgroup: the real controller cannot be had everywhere.
  Rig rig;
  const std::string parent = rig.dir() + "/parent", own = parent + "/own";
  std::filesystem::create_directories(own);
  EXPECT_FALSE(limit_memory(own, 1 << 30)) << "no controller";
  std::ofstream(parent + "/cgroup.subtree_control").close();
  std::ofstream(own + "/memory.max").close();
  EXPECT_TRUE(limit_memory(own, 1 << 30));
  EXPECT_EQ(read_file(own + "/memory.max"), "1073741824");
}

// ---------------------------------------------------------------- people's commands

class Talk {  // a worker's side of one shell
 public:
  Talk(const Rig& rig, std::vector<std::string> words, int rank = -1, const char* term = "") {
    const Fd listener = listen_unix(rig.dir(), "talk.sock", 0600, geteuid());
    OpenShell open;
    open.shell = 1;
    open.socket = "talk.sock";
    open.rank = rank;
    open.term = term;
    open.argv = {binary("tutti-shell")};
    open.argv.insert(open.argv.end(), words.begin(), words.end());
    rig.send(open);
    pollfd came{listener.get(), POLLIN, 0};
    if (poll(&came, 1, kPatienceSeconds * 1000) <= 0) throw std::runtime_error("no shell came");
    socket_ = Fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  void say(char kind, std::string_view payload) const {
    const auto text = shell_wire::frame(kind, payload);
    if (send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()))
      throw std::runtime_error("the shell does not take it");
  }
  void type(std::string_view text) const { say(shell_wire::kInput, text); }
  // The next frame; none: the connection is closed.
  std::optional<shell_wire::Frame> next() {
    bool broken = false;
    while (true) {
      if (auto frame = shell_wire::take(buffer_, broken)) return frame;
      pollfd more{socket_.get(), POLLIN, 0};
      if (poll(&more, 1, kPatienceSeconds * 1000) <= 0) throw std::runtime_error("silence after: " + seen);
      char chunk[8192];
      const ssize_t n = recv(socket_.get(), chunk, sizeof chunk, 0);
      if (n <= 0) return std::nullopt;
      buffer_.append(chunk, static_cast<std::size_t>(n));
    }
  }
  void until(const std::string& text) {
    while (seen.find(text) == std::string::npos) {
      const auto frame = next();
      if (!frame || frame->kind != shell_wire::kOutput)
        throw std::runtime_error("ended without " + text + ": " + seen);
      seen += frame->payload;
    }
  }
  // "c7": exit code 7; "s9": killed by 9; "f…": why it did not run; "": the connection broke.
  std::string end() {
    while (auto frame = next()) {
      if (frame->kind == shell_wire::kOutput) {
        seen += frame->payload;
        continue;
      }
      if (frame->kind == shell_wire::kRefused) return "f" + frame->payload;
      return frame->payload.substr(0, 1) +
             std::to_string(agent_wire::number(std::string_view(frame->payload).substr(1)));
    }
    return "";
  }
  void close() { socket_.reset(); }
  std::string seen;

 private:
  Fd socket_;
  std::string buffer_;
};

class SupervisorShell : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string(GetParam()) == "cgroup2" && !cgroup2_works()) GTEST_SKIP() << "no cgroup v2 to write to";
  }
  void run(Rig& rig, int ranks = 1) {
    rig.config.local_ranks = ranks;
    write_secrets(rig.dir(), {{"HF_TOKEN", "hf_0123456789"}});
    rig.start();
    rig.launch_ranks(std::vector<std::string>(static_cast<std::size_t>(ranks), kWait));
    rig.wait_for_phase(Phase::running);
  }
  // Ignores all but SIGKILL, has left session and group, and is nobody's child.
  static std::string stubborn(const char* name) {
    return std::string("(setsid sh -c 'trap \"\" HUP TERM INT; echo $$ > $SCRATCH/") + name +
           "; while :; do sleep 1; done' &); ";
  }
};
INSTANTIATE_TEST_SUITE_P(KillModes, SupervisorShell, ::testing::Values("cgroup2", "process-group"),
                         [](const auto& mode) {
                           return mode.param == std::string("cgroup2") ? "Cgroup" : "ProcessGroup";
                         });

TEST_P(SupervisorShell, HasATerminalAndTheEnvironmentOfItsRank) {
  Rig rig(GetParam());
  run(rig, 2);
  Talk talk(rig, {"--tty", "30", "100", "--", "sh"}, 1, "vt100");
  talk.type("stty size; tty > /dev/null && echo a term\"\"inal; echo rank=$RANK $TERM $HF_TOKEN; id -u\n");
  talk.until("30 100");
  talk.until("a terminal");
  talk.until("rank=1 vt100 hf_0123456789");
  talk.until(std::to_string(rig.config.uid));
  talk.say(shell_wire::kResize, agent_wire::number(40) + agent_wire::number(120));
  talk.type("stty size\n");
  talk.until("40 120");
  talk.type("sh -c 'echo go\"\"ne; exec sleep 1000'\n");  // says so itself once it has the foreground
  talk.until("gone");
  talk.seen.clear();
  talk.type("\x03");  // as a terminal: the foreground job is interrupted, and what was typed ahead is dropped
  talk.until("$ ");
  talk.type("echo still he\"\"re; exit 7\n");
  talk.until("still here");
  EXPECT_EQ(talk.end(), "c7");
  EXPECT_FALSE(talk.next());
  let_go(rig);
  EXPECT_TRUE(rig.wait_for_end().end->ok) << "the gang does not mind";
}

TEST_P(SupervisorShell, WithoutATerminalItIsAPipe) {
  Rig rig(GetParam());
  run(rig);
  Talk talk(rig, {"--", "sh", "-c", "cat; echo err >&2; kill -9 $$"});
  std::string large(1 << 20, 'x');
  std::thread typist([&] {
    for (std::size_t at = 0; at < large.size(); at += 16384) talk.type(large.substr(at, 16384));
    talk.say(shell_wire::kEnd, "");
  });
  const auto end = talk.end();
  typist.join();
  EXPECT_EQ(end, "s9");
  EXPECT_TRUE(talk.seen == large + "err\n") << talk.seen.size();
  Talk missing(rig, {"--", "/no/such/program"});
  EXPECT_THAT(missing.end(), HasSubstr("cannot start /no/such/program: No such file"));
  let_go(rig);
  rig.wait_for_end();
}

TEST_P(SupervisorShell, DiesWithTheAttemptWhateverItIgnores) {
  Rig rig(GetParam());
  run(rig);
  Talk talk(rig, {"--tty", "24", "80", "--", "sh"});
  talk.type("trap '' HUP TERM INT; " + stubborn("stubborn") + "echo rea\"\"dy\n");
  talk.until("ready");
  const Pinned stubborn(rig.wait_for_pid("stubborn"));
  ASSERT_TRUE(stubborn.alive());
  rig.send(Stop{"cancelled", "KILL", 0});
  const Status s = rig.wait_for_end();
  EXPECT_TRUE(s.end->proven) << s.end->how;
  EXPECT_FALSE(stubborn.alive());
  EXPECT_EQ(talk.end(), "") << "cut off";
  EXPECT_TRUE(find_processes(rig.config, 0).empty());
}

TEST_P(SupervisorShell, DiesWithItsConnectionWhateverItIgnores) {
  Rig rig(GetParam());
  run(rig);
  Talk talk(rig,
            {"--", "sh", "-c",
             "trap '' HUP; " + stubborn("stubborn") + "echo $$ > $SCRATCH/shell; sleep 1000; sleep 1000"});
  const Pinned shell(rig.wait_for_pid("shell")), stubborn(rig.wait_for_pid("stubborn"));
  talk.close();
  EXPECT_TRUE(shell.dies_within(kPatienceSeconds));
  EXPECT_TRUE(stubborn.dies_within(kPatienceSeconds));
  let_go(rig);
  EXPECT_TRUE(rig.wait_for_end().end->ok);
}

TEST_P(SupervisorShell, WhatItLeavesBehindGoesWithIt) {
  Rig rig(GetParam());
  run(rig);
  Talk talk(rig, {"--", "sh", "-c",
                  stubborn("left") + "while [ ! -s $SCRATCH/left ]; do sleep 0.02; done; exit 0"});
  const Pinned left(rig.wait_for_pid("left"));
  EXPECT_EQ(talk.end(), "c0");
  EXPECT_TRUE(left.dies_within(kPatienceSeconds));
  let_go(rig);
  rig.wait_for_end();
}

TEST_P(SupervisorShell, AFastWriterWaitsForItsReader) {
  Rig rig(GetParam());
  run(rig);
  Talk talk(rig, {"--", "yes"});
  talk.until("y\ny\n");
  // Nothing is read; the processes of the shell keep what they have and wait. Then it is closed.
  const auto before = boot_us();
  talk.close();
  let_go(rig);
  EXPECT_TRUE(rig.wait_for_end().end->ok);
  EXPECT_LT(boot_us() - before, 20'000'000);
}

TEST_P(SupervisorShell, OnlyInARunningAttemptAndForARankThatRuns) {
  Rig rig(GetParam());
  rig.config.local_ranks = 1;
  rig.start();
  rig.wait_for_phase(Phase::ready);
  Talk early(rig, {"--", "true"});
  EXPECT_EQ(early.end(), "fthe attempt does not run");
  rig.launch_ranks({kWait});
  rig.wait_for_phase(Phase::running);
  Talk nobody(rig, {"--", "true"}, 5);
  EXPECT_EQ(nobody.end(), "frank 5 does not run here");
  let_go(rig);
  rig.wait_for_end();
  Talk late(rig, {"--", "true"});
  EXPECT_EQ(late.end(), "fthe attempt does not run");
}

}  // namespace
}  // namespace tutti::supervisor::testing
