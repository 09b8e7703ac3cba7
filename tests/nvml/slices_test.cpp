// GPUs in MIG mode: their slices are the devices, and what happens to a GPU happens to all its slices. On the
// double; nothing of this has run on a real sliced GPU.
#include <gmock/gmock.h>

#include <set>

#include "tests/nvml/child.h"
#include "tests/nvml/machine.h"
#include "worker/nvml/inventory.h"
#include "worker/nvml/probe_messages.h"

namespace tutti::nvml::test {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

ReadInventory read(const std::string& library) {
  const auto opened = Library::open(library);
  EXPECT_TRUE(opened.library) << opened.why;
  EXPECT_EQ(opened.library->symbols().nvmlInit_v2(), Return::success);
  auto inventory = read_inventory(*opened.library);
  opened.library->symbols().nvmlShutdown();
  return inventory;
}

TEST(Slices, AreListedInPlaceOfTheirGpu) {
  const Machine machine(2, 8, {"1g.10gb", "2g.20gb", "4g.40gb"});
  const auto inventory = read(double_library());
  ASSERT_THAT(inventory.message.gpus, SizeIs(6));
  EXPECT_EQ(inventory.named, 2U);
  std::set<unsigned> indices;
  std::set<std::string> uuids, paths;
  for (const GpuInfo& slice : inventory.message.gpus) {
    EXPECT_THAT(slice.uuid, StartsWith("MIG-"));
    EXPECT_THAT(slice.name, HasSubstr(" MIG "));
    EXPECT_FALSE(slice.nvlink_island) << "slices have no NVLink";
    indices.insert(slice.index);
    uuids.insert(slice.uuid);
    paths.insert(slice.device_path);
  }
  EXPECT_EQ(indices, (std::set<unsigned>{100, 101, 102, 200, 201, 202}));
  EXPECT_THAT(uuids, SizeIs(6));
  EXPECT_THAT(paths, SizeIs(6));
  EXPECT_EQ(inventory.message.gpus[1].memory_bytes, 20ULL << 30);
  EXPECT_EQ(inventory.devices[0].handle, inventory.devices[2].handle) << "the GPU's, for health and events";
  EXPECT_NE(inventory.devices[0].handle, inventory.devices[3].handle);
}

TEST(Slices, OfAnOldDriverDoNotExist) {
  const Machine machine(2, 8, {"1g.10gb"});
  const auto inventory = read(old_double_library());
  ASSERT_THAT(inventory.message.gpus, SizeIs(2));
  EXPECT_THAT(inventory.message.gpus[0].uuid, StartsWith("GPU-"));
}

TEST(Slices, AreAllHitByAnXidOfTheirGpu) {
  const Machine machine(2, 8, {"1g.10gb", "2g.20gb"});
  Child probe({program("tutti-nvml-probe"), "--library", double_library(), "--poll-ms", "100"});
  std::vector<std::string> ours;
  std::set<std::string> hit;
  while (hit.size() < 2) {
    const auto line = probe.read_line(Milliseconds(20'000));
    ASSERT_TRUE(line) << hit.size() << " slices were named";
    auto parsed = parse_message(*line);
    ASSERT_TRUE(std::holds_alternative<Message>(parsed)) << *line;
    const Message& message = std::get<Message>(parsed);
    if (const auto* inventory = std::get_if<Inventory>(&message)) {
      ASSERT_THAT(inventory->gpus, SizeIs(4));
      ours = {inventory->gpus[2].uuid, inventory->gpus[3].uuid};
      ASSERT_EQ(run({program("tutti-gpu-sim"), "xid", "--state", machine.path(), "--gpu", "1", "--xid", "79"})
                    .exit_code,
                0);
    } else if (const auto* fault = std::get_if<Fault>(&message)) {
      if (fault->kind != FaultKind::xid) continue;
      EXPECT_TRUE(std::ranges::count(ours, fault->uuid)) << fault->uuid << " is of another GPU";
      hit.insert(fault->uuid);
    }
  }
}

}  // namespace
}  // namespace tutti::nvml::test
