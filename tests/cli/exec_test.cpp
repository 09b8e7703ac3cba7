// exec: what goes through the WebSocket, what a terminal sees of it, and that the terminal is as before
// whatever happens.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>

#include "tests/cli/fake_scheduler.h"
#include "tests/cli/pty_process.h"
#include "tests/cli/tls_front.h"

namespace tutti::cli::test {
namespace {

std::string frame(int kind, const std::string& rest = {}) {
  return std::string(1, static_cast<char>(kind)) + rest;
}

// The other end of an exec, in the test's hands.
struct FakeShell {
  FakeShell() {
    scheduler.routes.websocket(
        "/v1/jobs/{id}/attempts/{n}/exec", [this](Request request, std::shared_ptr<http::Link> opened) {
          link = opened;
          opened->start([this](std::string message) { frames.put(std::move(message)); },
                        [this](const std::string&) { closed.put(true); });
          targets.put(request.target);
        });
    scheduler.start();
  }
  TuttiProcess::Environment environment() const {
    auto all = scheduler.environment();
    all["TERM"] = "vt 220";
    return all;
  }
  void say(int kind, const std::string& rest) { link->send(frame(kind, rest)); }
  std::string take_until(const std::string& end) {
    std::string bytes;
    while (bytes.find(end) == std::string::npos) {
      const std::string next = frames.take();
      if (next[0] == 0) bytes += next.substr(1);
    }
    return bytes;
  }
  http::test::Mailbox<std::string> frames, targets;
  http::test::Mailbox<bool> closed;
  FakeScheduler scheduler;
  std::shared_ptr<http::Link> link;  // goes before the server that it belongs to
};

TEST(Exec, ATerminalIsRawAndAsBeforeAfterwards) {
  FakeShell shell;
  PtyProcess tutti({"exec", "7", "--rank", "3", "--", "bash", "-c", "a b&c"}, shell.environment(), 30, 90);
  const termios before = tutti.mode();
  EXPECT_EQ(shell.targets.take(),
            "/v1/jobs/7/attempts/latest/exec?tty=1&rows=30&cols=90&term=vt%20220&rank=3"
            "&command=bash&command=-c&command=a%20b%26c");
  const std::string size = shell.frames.take();
  EXPECT_EQ(size[0], 1);
  EXPECT_EQ(json::parse(size.substr(1)), json::parse(R"({"rows":30,"cols":90})"));
  EXPECT_FALSE(same_mode(tutti.mode(), before));
  shell.say(0, "prompt$ ");
  tutti.wait_for_output("prompt$ ");
  tutti.type("ls\r\x03");  // ^C goes over there as it is
  EXPECT_EQ(shell.take_until("\x03"), "ls\r\x03");
  EXPECT_TRUE(tutti.blocking()) << "the shell that started it shares the terminal";
  tutti.resize(50, 132);
  EXPECT_EQ(json::parse(shell.frames.take().substr(1)), json::parse(R"({"rows":50,"cols":132})"));
  shell.say(3, R"({"exit_code":7})");
  EXPECT_EQ(tutti.wait(), 7);
  EXPECT_TRUE(same_mode(tutti.mode(), before));
  EXPECT_EQ(tutti.output(), "prompt$ ") << "nothing is echoed on this side";
}

TEST(Exec, ASignalDoesNotLeaveTheTerminalRaw) {
  FakeShell shell;
  PtyProcess tutti({"exec", "7"}, shell.environment());
  const termios before = tutti.mode();
  EXPECT_EQ(shell.targets.take(), "/v1/jobs/7/attempts/latest/exec?tty=1&rows=24&cols=80&term=vt%20220");
  shell.frames.take();  // the size: it is raw now
  shell.say(0, "ready");
  tutti.wait_for_output("ready");
  EXPECT_FALSE(same_mode(tutti.mode(), before));
  tutti.signal(SIGTERM);
  EXPECT_EQ(tutti.wait(), 1000 + SIGTERM);
  EXPECT_TRUE(same_mode(tutti.mode(), before));
  EXPECT_TRUE(shell.closed.take());
}

TEST(Exec, ALostConnectionIsSaidInAReadableTerminal) {
  FakeShell shell;
  PtyProcess tutti({"exec", "7"}, shell.environment());
  const termios before = tutti.mode();
  shell.frames.take();
  shell.link->abort();
  EXPECT_EQ(tutti.wait(), 5);
  EXPECT_TRUE(same_mode(tutti.mode(), before));
  EXPECT_NE(tutti.output().find("the connection to the job is lost"), std::string::npos) << tutti.output();
}

TEST(Exec, APipeIsReadToItsEnd) {
  FakeShell shell;
  const std::string input(50'000, 'x');
  TuttiProcess tutti({"exec", "7", "--attempt", "2", "--node", "n1", "--", "cat"}, input + "\n",
                     shell.scheduler.environment());
  EXPECT_EQ(shell.targets.take(), "/v1/jobs/7/attempts/2/exec?tty=0&node=n1&command=cat");
  EXPECT_EQ(shell.take_until("\n"), input + "\n");
  EXPECT_EQ(shell.frames.take(), frame(2));
  shell.say(0, "out\n");
  shell.say(3, R"({"signal":9})");
  const Finished ended = tutti.wait();
  EXPECT_EQ(ended.status, 137) << ended.err;
  EXPECT_EQ(ended.out, "out\n");
}

// What cannot be waited for is always ready: a file, /dev/null.
TEST(Exec, AFileAndNothingAreReadToTheirEnd) {
  char name[] = "/tmp/tutti-exec-XXXXXX";
  const int fd = mkstemp(name);
  const std::string text(40'000, 'y');
  ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(fd);
  for (const auto& [from, expected] : {std::pair<std::string, std::string>{name, text}, {"/dev/null", ""}}) {
    FakeShell shell;
    const std::string command = "TUTTI_SERVER=" + shell.scheduler.url() + " TUTTI_TOKEN=x " + bin_folder() +
                                "/tutti exec 7 -- cat < " + from + " 2>&1";
    auto ended = std::async(std::launch::async, [&] { return std::system(command.c_str()); });
    std::string bytes;
    for (std::string next = shell.frames.take(); next[0] != 2; next = shell.frames.take())
      bytes += next.substr(1);
    EXPECT_EQ(bytes, expected) << from;
    shell.say(3, R"({"exit_code":4})");
    EXPECT_EQ(WEXITSTATUS(ended.get()), 4) << from;
  }
  unlink(name);
}

TEST(Exec, AReaderThatGoesAwayIsAFailureAndNoSignal) {
  FakeShell shell;
  const std::string command = "TUTTI_SERVER=" + shell.scheduler.url() + " TUTTI_TOKEN=x bash -c '" +
                              bin_folder() +
                              "/tutti exec 7 -- yes < /dev/null | true; exit ${PIPESTATUS[0]}' 2>&1";
  auto ended = std::async(std::launch::async, [&] { return std::system(command.c_str()); });
  EXPECT_EQ(shell.frames.take(), frame(2));
  // More than a pipe holds: the last writes find nobody who takes them.
  for (int i = 0; i < 4; ++i) shell.say(0, std::string(60'000, 'y'));
  EXPECT_EQ(WEXITSTATUS(ended.get()), 1);
}

TEST(Exec, AProblemOfTheOtherSideIsAFailure) {
  FakeShell shell;
  TuttiProcess tutti({"exec", "7", "-o", "json"}, {}, shell.scheduler.environment());
  shell.targets.take();
  shell.say(4, R"({"status":409,"code":"not_running","detail":"attempt 2 has ended","hint":"tutti show 7"})");
  const Finished ended = tutti.wait();
  EXPECT_EQ(ended.status, 1);
  EXPECT_EQ(json::parse(ended.err).as_object().at("code").as_string(), "not_running");
}

TEST(Exec, ARefusalIsOneBeforeAnythingIsOpened) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs/{id}/attempts/{n}/exec", [](const Request& request) {
    EXPECT_EQ(request.header("Authorization"), "Bearer secret");
    if (request.param("id") == "8") return http::problem(404, "not_found", "no job 8");
    return http::problem(403, "forbidden", "job 7 is of another project", "ask an operator");
  });
  scheduler.start();
  const Finished refused = scheduler.run({"exec", "7", "--", "id"});
  EXPECT_EQ(refused.status, 4);
  EXPECT_EQ(refused.err, "tutti: job 7 is of another project\nhint: ask an operator\n");
  EXPECT_EQ(scheduler.run({"exec", "8", "--", "id"}).status, 3);
  EXPECT_EQ(scheduler.run({"exec", "8", "--rank", "1", "--node", "n1"}).status, 2);
  EXPECT_EQ(run_tutti({"exec", "7", "--server", "http://127.0.0.1:1", "--retry-for", "0"}).status, 5);
}

TEST(Exec, GoesOverTls) {
  FakeShell shell;
  const TlsFront front(shell.scheduler.port());
  TuttiProcess tutti({"exec", "7", "--server", front.url(), "--ca", front.ca(), "--", "id"}, "in",
                     {{"TUTTI_TOKEN", "secret"}});
  shell.targets.take();
  EXPECT_EQ(shell.take_until("in"), "in");
  shell.say(0, "uid=0\n");
  shell.say(3, R"({"exit_code":0})");
  const Finished ended = tutti.wait();
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out, "uid=0\n");
  const Finished distrusted = run_tutti({"exec", "7", "--server", front.url(), "--", "id"});
  EXPECT_EQ(distrusted.status, 5);
  EXPECT_NE(distrusted.err.find("certificate"), std::string::npos) << distrusted.err;
}

}  // namespace
}  // namespace tutti::cli::test
