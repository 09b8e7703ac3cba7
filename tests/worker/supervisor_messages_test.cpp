// The words between worker and supervisor survive their codec, and what is malformed is refused by name.
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "worker/supervisor/messages.h"
#include "worker/supervisor/text.h"

namespace tutti::supervisor {
namespace {

std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "accepted";
}

TEST(SupervisorMessages, ConfigSurvivesTheRoundTrip) {
  Config c;
  c.key = {JobId(7), Epoch(3)};
  c.dir = "/var/lib/tutti/attempts/7-3";
  c.uid = 1000;
  c.gid = 100;
  c.workdir = "/work space";
  c.setup = "pip install \"x\"\nexit 0";
  c.setup_timeout_us = 5;
  c.env = {{"A", "1"}, {"B", "ä=ö"}};
  c.devices = {{"/dev/x0", "GPU-1", true}, {"/dev/x1", "GPU-2", false}};
  c.first_rank = 8;
  c.local_ranks = 4;
  c.listen_agent = true;
  c.listen_address = "10.0.0.1";
  c.secret = "s";
  c.pick_master_port = true;
  c.lease_path = "/run/lease";
  c.kill_mode = "process-group";
  c.cgroup_parent = "/sys/fs/cgroup/x";
  const std::string text = encode(c);
  const Config d = decode_config(text);
  EXPECT_EQ(encode(d), text);
  EXPECT_EQ(d.key, c.key);
  EXPECT_EQ(d.env, c.env);
  ASSERT_EQ(d.devices.size(), 2u);
  EXPECT_TRUE(d.devices[0].simulated);
  EXPECT_EQ(d.devices[1].uuid, "GPU-2");
  EXPECT_EQ(d.setup, c.setup);
  EXPECT_EQ(d.local_ranks, 4);
}

TEST(SupervisorMessages, CommandsSurviveTheRoundTripOnOneLineEach) {
  Process p;
  p.argv = {"tutti-rank", "--shell", "echo 'a\nb'"};
  p.env = {{"RANK", "0"}};
  p.log = "logs/x.log";
  p.is_rank = true;
  const std::string launch = encode(ToSupervisor(Launch{{p, p}}));
  EXPECT_EQ(launch.find('\n'), launch.size() - 1);
  const auto back = std::get<Launch>(decode_command(launch));
  ASSERT_EQ(back.processes.size(), 2u);
  EXPECT_EQ(back.processes[1].argv, p.argv);
  EXPECT_EQ(back.processes[1].env, p.env);
  EXPECT_TRUE(back.processes[1].is_rank);

  const auto stop =
      std::get<Stop>(decode_command(encode(ToSupervisor(Stop{"preempted", "USR1", 120'000'000}))));
  EXPECT_EQ(stop.cause, "preempted");
  EXPECT_EQ(stop.signal, "USR1");
  EXPECT_EQ(stop.grace_us, 120'000'000);
  EXPECT_EQ(std::get<SignalRanks>(decode_command(encode(ToSupervisor(SignalRanks{"USR1"})))).signal, "USR1");
  EXPECT_TRUE(std::holds_alternative<Quit>(decode_command(encode(ToSupervisor(Quit{})))));
}

TEST(SupervisorMessages, StatusSurvivesTheRoundTripAndBadBytesOfALogDoNotBreakIt) {
  Status s;
  s.phase = protocol::Phase::ended;
  s.agent_port = 4242;
  s.master_port = 4243;
  s.ranks_up = 2;
  s.ranks_done = 1;
  s.kill_mode = "cgroup2";
  s.pid = 99;
  s.ranks = {{.rank = 4, .pid = 4711},
             {.rank = 5, .pid = 4712, .ended = true, .exit_code = 3, .signal = 0, .ended_boot_us = 77}};
  s.failure = protocol::Failure{"exit", 1, 3, 0, 123456789012, "rank 1 exited 3", "before \xff\xfe after"};
  s.end = protocol::End{false, true, "cgroup", 123456789099};
  const Status d = decode_status(encode(s));
  EXPECT_EQ(d.phase, protocol::Phase::ended);
  ASSERT_TRUE(d.failure && d.end);
  EXPECT_EQ(d.failure->rank, 1);
  EXPECT_EQ(d.failure->boot_us, 123456789012);
  EXPECT_EQ(d.failure->last_lines, "before \xEF\xBF\xBD\xEF\xBF\xBD after");
  EXPECT_TRUE(d.end->proven);
  ASSERT_EQ(d.ranks.size(), 2u);
  EXPECT_EQ(d.ranks[0].pid, 4711);
  EXPECT_EQ(d.ranks[1].ended_boot_us, 77);
  EXPECT_EQ(encode(d), encode(s));
}

TEST(SupervisorMessages, UnknownFieldsAreAllowedAndMissingOnesKeepTheirDefaults) {
  const Status s = decode_status(R"({"phase":"ready","of_a_newer_version":[1]})");
  EXPECT_EQ(s.phase, protocol::Phase::ready);
  EXPECT_FALSE(s.failure);
}

TEST(SupervisorMessages, MalformedTextIsRefusedWithTheFieldsName) {
  EXPECT_NE(refusal([] { decode_command("nonsense"); }).find("not JSON"), std::string::npos);
  EXPECT_NE(refusal([] { decode_command(R"({"type":"dance"})"); }).find("dance"), std::string::npos);
  EXPECT_NE(refusal([] { decode_command(R"({"type":"stop","grace_us":"soon"})"); }).find("grace_us"),
            std::string::npos);
  EXPECT_NE(refusal([] { decode_command(R"({"type":"launch","processes":[{"argv":[]}]})"); }).find("argv"),
            std::string::npos);
  EXPECT_NE(refusal([] { decode_status(R"({"phase":"odd"})"); }).find("odd"), std::string::npos);
  EXPECT_NE(refusal([] { decode_config(R"({"job":1,"epoch":1,"dir":"relative"})"); }).find("dir"),
            std::string::npos);
  EXPECT_NE(refusal([] { decode_config(R"({"dir":"/x"})"); }).find("job"), std::string::npos);
}

TEST(SupervisorText, KeepsUtf8AndReplacesWhatIsNot) {
  EXPECT_EQ(to_utf8("aä€😀"), "aä€😀");
  EXPECT_EQ(to_utf8("\xC3"), "\xEF\xBF\xBD");
  EXPECT_EQ(to_utf8("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");                  // overlong
  EXPECT_EQ(to_utf8("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // surrogate
  EXPECT_EQ(to_utf8(std::string_view("a\0b", 3)), "a b");
}

}  // namespace
}  // namespace tutti::supervisor
