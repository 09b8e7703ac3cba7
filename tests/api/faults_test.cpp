// The ledger of faults.
#include "api_rig.h"

namespace tutti::testing {
namespace {

TEST(Faults, NewestFirstWithNames) {
  ApiRig rig;
  const auto n1 = rig.backend.add_node("n1", 2);
  const auto n2 = rig.backend.add_node("n2", 2);
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":2}})");
  const auto fault = [&](NodeId node, const std::string& uuid, int xid) {
    rig.backend.change([&](ControlPlane& plane, Now now) {
      plane.on_gpu_fault(
          now, node, protocol::GpuFault{.uuid = uuid, .kind = "xid", .xid = xid, .age_us = 0, .detail = "d"});
    });
  };
  fault(n1, "GPU-n1-0", 79);
  fault(n2, "GPU-n2-1", 48);
  const auto faults = rig.get("/v1/faults").body().at("faults").as_array();
  ASSERT_EQ(faults.size(), 2u);
  EXPECT_EQ(faults[0].at("node"), "n2");
  EXPECT_EQ(faults[0].at("gpu_uuid"), "GPU-n2-1");
  EXPECT_EQ(faults[0].at("job_id"), nullptr);
  EXPECT_EQ(faults[1].at("xid"), 79);
  EXPECT_EQ(faults[1].at("job_id"), 1);
  EXPECT_EQ(faults[1].at("class"), "xid");

  const auto size = [&](const std::string& query) {
    return rig.get("/v1/faults?" + query).body().at("faults").as_array().size();
  };
  EXPECT_EQ(size("node=n1"), 1u);
  EXPECT_EQ(size("job=1"), 1u);
  EXPECT_EQ(size("job=2"), 0u);
  EXPECT_EQ(size("limit=1"), 1u);
  EXPECT_EQ(size("before=" + std::to_string(faults[0].at("id").as_int64())), 1u);
  EXPECT_EQ(rig.get("/v1/faults?node=n9").status(), 404);
  for (const auto query : {"job=x", "limit=0", "limit=x", "before=-1"})
    EXPECT_EQ(rig.get("/v1/faults?" + std::string(query)).status(), 422) << query;
  rig.backend.break_reads(true);
  EXPECT_EQ(rig.get("/v1/faults").status(), 503);
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/v1/faults").status(), 503);
}

}  // namespace
}  // namespace tutti::testing
