// What the probe writes, the worker reads back the same; what is not a message is refused with a reason.
#include "worker/nvml/probe_messages.h"

#include <gmock/gmock.h>

namespace tutti::nvml {
namespace {

using ::testing::HasSubstr;

GpuInfo some_gpu() {
  return {3, "GPU-3", "NVIDIA H100 80GB HBM3", 85'520'809'984ULL, "0000:5d:00", 3U, "165", "/dev/nvidia3",
          1U};
}

class ProbeMessages : public ::testing::TestWithParam<Message> {};

TEST_P(ProbeMessages, ComeBackTheSame) {
  const std::string line = encode(GetParam());
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto parsed = parse_message(line);
  ASSERT_TRUE(std::holds_alternative<Message>(parsed)) << std::get<ParseError>(parsed).why << "\n" << line;
  EXPECT_EQ(std::get<Message>(parsed), GetParam()) << line;
}

INSTANTIATE_TEST_SUITE_P(
    All, ProbeMessages,
    ::testing::Values(
        Message(Inventory{"570.1", "12.570", true, {some_gpu()}, 1, {"ecc", "events"}}),
        Message(Inventory{"", "", false, {GpuInfo{0, "GPU-0", "", 0, "", {}, "", "", {}}}, 0, {}}),
        Message(Unavailable{"driver not loaded (9)", 9}), Message(Unavailable{"no \"library\"\nhere", {}}),
        Message(Fault{"GPU-3", "0000:5d:00", FaultKind::xid, 79, 123'456'789'012, "Xid 79"}),
        Message(Fault{"", "", FaultKind::gpu_lost, {}, 1, ""}),
        Message(Recovered{"GPU-3", "0000:5d:00", FaultKind::throttled, 5}),
        Message(Sample{7, {GpuSample{"GPU-3", 97, 1ULL << 36, 640'000, 61, {{10, 20}}, 0x3FFFF}}}),
        Message(Sample{7, {GpuSample{"GPU-3", {}, {}, {}, {}, {}, {}}}}), Message(Alive{42}),
        Message(Processes{7, "GPU-3", {{10, 20}}, 5, ""}),
        Message(Processes{7, "GPU-3", {}, {}, "GPU is lost"})));

TEST(ProbeMessagesParse, EmptyListAndUnknownListDiffer) {
  const auto none = std::get<Message>(parse_message(encode(Processes{1, "GPU-3", {{}}, 0, ""})));
  const auto unknown = std::get<Message>(parse_message(encode(Processes{1, "GPU-3", {}, {}, "x"})));
  EXPECT_TRUE(std::get<Processes>(none).pids.has_value());
  EXPECT_FALSE(std::get<Processes>(unknown).pids.has_value());
}

TEST(ProbeMessagesParse, EveryFaultKindHasItsWord) {
  for (int value = 0; value <= static_cast<int>(FaultKind::unreadable); ++value) {
    const auto kind = static_cast<FaultKind>(value);
    EXPECT_EQ(parse_fault_kind(name_of(kind)), kind) << value;
  }
}

TEST(ProbeMessagesParse, RefusesWithAReason) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "not JSON"},
      {"[]", "not a JSON object"},
      {"{\"type\":\"alive\"}", "'boot_us' is missing"},
      {"{\"type\":\"alive\",\"boot_us\":\"x\"}", "'boot_us' has the wrong type"},
      {"{\"type\":\"weather\"}", "unknown type 'weather'"},
      {"{\"type\":\"sample\",\"at_boot_us\":1,\"gpus\":[1]}", ""},
      {"{\"type\":\"processes\",\"id\":1,\"uuid\":\"u\",\"pids\":[-1]}", "'pids'"},
      {std::string(kMaxLineBytes + 1, ' '), "too long"},
  };
  for (const auto& [line, why] : cases) {
    const auto parsed = parse_message(line);
    ASSERT_TRUE(std::holds_alternative<ParseError>(parsed)) << line.substr(0, 80);
    EXPECT_THAT(std::get<ParseError>(parsed).why, HasSubstr(why));
  }
}

TEST(ProbeMessagesParse, CommandsComeBackTheSame) {
  const ProcessesCommand command{"GPU-3", 7};
  EXPECT_EQ(std::get<ProcessesCommand>(parse_command(encode(command))), command);
  EXPECT_TRUE(
      std::holds_alternative<ParseError>(parse_command("{\"cmd\":\"reboot\",\"uuid\":\"u\",\"id\":1}")));
}

}  // namespace
}  // namespace tutti::nvml
