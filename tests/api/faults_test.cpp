// The ledger of faults.
#include <algorithm>
#include <set>

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

TEST(Faults, AreFilteredAndSummedUp) {
  ApiRig rig;
  const auto n1 = rig.backend.add_node("n1", 2);
  const auto n2 = rig.backend.add_node("n2", 2);
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":1}})");
  const auto fault = [&](NodeId node, const std::string& uuid, int xid) {
    rig.backend.change([&](ControlPlane& plane, Now now) {
      plane.on_gpu_fault(
          now, node, protocol::GpuFault{.uuid = uuid, .kind = "xid", .xid = xid, .age_us = 0, .detail = "d"});
    });
  };
  fault(n1, "GPU-n1-0", 79);
  fault(n2, "GPU-n2-0", 79);
  fault(n2, "GPU-n2-1", 48);
  rig.backend.change(
      [](ControlPlane& plane, Now now) { (void)plane.on_node_report(now, "n2", "ada", "hot"); });
  const auto all = rig.get("/v1/faults").body().at("faults").as_array();
  const auto size = [&](const std::string& query) {
    return rig.get("/v1/faults?" + query).body().at("faults").as_array().size();
  };
  const auto with = [&](std::string_view field, const boost::json::value& value) {
    return static_cast<std::size_t>(
        std::ranges::count_if(all, [&](const auto& one) { return one.at(field) == value; }));
  };
  ASSERT_GE(all.size(), 4u);
  EXPECT_EQ(size("class=report"), with("class", "report"));
  EXPECT_EQ(size("class=xid"), with("class", "xid"));
  EXPECT_EQ(size("gpu=GPU-n2-1"), with("gpu_uuid", "GPU-n2-1"));
  EXPECT_GE(size("action=none"), with("action", "none"));
  EXPECT_EQ(size("action=nothing-of-the-kind"), 0u);
  EXPECT_EQ(size("since=1h"), all.size());
  EXPECT_EQ(size("until=1h"), 0u);
  EXPECT_EQ(rig.get("/v1/faults?gpu=GPU-x").status(), 404);
  EXPECT_EQ(rig.get("/v1/faults?since=yesterday").status(), 422);

  rig.backend.tick(1s);
  const auto by_node = rig.get("/v1/faults:summary").body();
  EXPECT_EQ(by_node.at("rows").at(0).at("key"), "n2");
  EXPECT_EQ(by_node.at("rows").at(0).at("faults"), static_cast<std::int64_t>(with("node", "n2")));
  EXPECT_EQ(by_node.at("total").at("faults"), static_cast<std::int64_t>(all.size()));
  const auto total = [&](const std::string& query) {
    return rig.get("/v1/faults:summary?" + query).body().at("total");
  };
  EXPECT_EQ(total("job=1").at("jobs_hit"), 1);
  EXPECT_EQ(total("class=report").at("jobs_hit"), 0) << "a report is of a node";
  EXPECT_EQ(total("until=1h").at("faults"), 0);
  std::set<std::string> keys;
  const auto by_gpu = rig.get("/v1/faults:summary?group_by=gpu").body();
  for (const auto& row : by_gpu.at("rows").as_array()) keys.insert(std::string(row.at("key").as_string()));
  EXPECT_EQ(keys, (std::set<std::string>{"", "GPU-n1-0", "GPU-n2-0", "GPU-n2-1"}));
  for (const auto* word : {"class", "action", "slot"}) {
    std::int64_t sum = 0;
    const auto grouped = rig.get("/v1/faults:summary?group_by=" + std::string(word)).body();
    for (const auto& row : grouped.at("rows").as_array()) sum += row.at("faults").as_int64();
    EXPECT_EQ(sum, static_cast<std::int64_t>(all.size())) << word;
  }
  EXPECT_EQ(rig.get("/v1/faults:summary?group_by=day").status(), 422);
  EXPECT_EQ(rig.get("/v1/faults:summary?node=n9").status(), 404);
  rig.backend.break_reads(true);
  EXPECT_EQ(rig.get("/v1/faults:summary").status(), 503);
}

}  // namespace
}  // namespace tutti::testing
