// Which GPUs a worker takes for broken, with the table that its scheduler has told it.
#include "worker/core/gpu_ledger.h"

#include <gtest/gtest.h>

#include "scheduler/model/fault_table.h"

namespace tutti::worker {
namespace {

using nvml::FaultKind;

bool built_in(std::string_view kind, std::int32_t xid) {
  return FaultTable::built_in().judge(kind, xid).gpu == FaultGpu::quarantine;
}

struct Ledger : ::testing::Test {
  GpuLedger gpus{&built_in};
  Ledger() {
    nvml::Inventory all;
    nvml::GpuInfo gpu;
    gpu.uuid = "GPU-1";
    all.gpus = {gpu};
    gpus.on_inventory(all);
  }
  void fault(FaultKind kind, int xid = 0) {
    nvml::Fault f;
    f.uuid = "GPU-1";
    f.kind = kind;
    if (kind == FaultKind::xid) f.xid = static_cast<std::uint64_t>(xid);
    gpus.on_fault(f, 0);
  }
  void recovered(FaultKind kind) {
    nvml::Recovered r;
    r.uuid = "GPU-1";
    r.kind = kind;
    gpus.on_recovered(r);
  }
  bool healthy() const { return gpus.why_unhealthy("GPU-1").empty(); }
};

TEST_F(Ledger, ATableThatQuarantinesNothingIsNotNoTable) {
  gpus.use_table(std::vector<std::string>{});
  fault(FaultKind::xid, 79);
  EXPECT_TRUE(healthy());
  gpus.use_table(std::nullopt);
  fault(FaultKind::xid, 79);
  EXPECT_FALSE(healthy()) << "an older scheduler: the built-in table";
}

TEST_F(Ledger, WhatTheTableDoesNotKnowMayBeFatal) {
  gpus.use_table(std::vector<std::string>{"xid:*", "!xid:13"});
  fault(FaultKind::xid, 13);
  EXPECT_TRUE(healthy());
  fault(FaultKind::xid, 997);
  EXPECT_FALSE(healthy());
}

TEST_F(Ledger, AResetCountsThoughTheRuleHasBeenMovedToShadowSince) {
  gpus.use_table(std::vector<std::string>{"ecc"});
  fault(FaultKind::ecc);
  ASSERT_FALSE(healthy());
  gpus.use_table(std::vector<std::string>{});
  recovered(FaultKind::throttled);
  EXPECT_FALSE(healthy()) << "that took no reset";
  recovered(FaultKind::ecc);
  EXPECT_TRUE(healthy());
}

TEST_F(Ledger, AnotherWorkerOnTheSameBootKnowsTheResetAsWell) {
  gpus.use_table(std::vector<std::string>{});
  gpus.remember({{"GPU-1", "remap_failed: two rows"}});
  ASSERT_FALSE(healthy());
  recovered(FaultKind::remap_failed);
  EXPECT_TRUE(healthy());
}

}  // namespace
}  // namespace tutti::worker
