// GET /v1/map: the cluster in a few letters.
#include <boost/json/serialize.hpp>
#include <set>

#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

NodeId add_node_in(ApiRig& rig, const std::string& name, const std::string& block, const std::string& rack) {
  protocol::Hello hello;
  hello.node = name;
  hello.boot_id = "boot-1";
  hello.cpus = 64;
  hello.memory_bytes = 1LL << 40;
  hello.labels = {{"topology.block", block}, {"topology.rack", rack}};
  for (int i = 0; i < 4; ++i)
    hello.gpus.push_back({.uuid = "GPU-" + name + "-" + std::to_string(i),
                          .index = i,
                          .model = "H100",
                          .memory_bytes = 80LL << 30,
                          .pci = "",
                          .island = 0,
                          .device_path = "",
                          .healthy = true,
                          .health_reason = ""});
  NodeId id;
  rig.backend.change([&](ControlPlane& plane, Now now) { id = plane.on_hello(now, hello); });
  return id;
}

TEST(Map, ShowsNodesByRackWithALetterPerGpu) {
  ApiRig rig;
  add_node_in(rig, "n3", "b1", "r2");
  add_node_in(rig, "n2", "b1", "r1");
  add_node_in(rig, "n1", "b1", "r1");
  rig.backend.add_node("n0", 0);
  const auto map = rig.get("/v1/map").body();
  EXPECT_EQ(map.at("racks"), json::parse(R"([{"block":"","rack":""},{"block":"b1","rack":"r1"},
                                             {"block":"b1","rack":"r2"}])"));
  std::string order;
  for (const auto& node : map.at("nodes").as_array())
    order += std::string(node.at("name").as_string()) + std::to_string(node.at("rack").as_int64()) + " ";
  EXPECT_EQ(order, "n00 n11 n21 n32 ");
  EXPECT_EQ(map.at("nodes").at(0).at("gpus"), "");
  EXPECT_EQ(map.at("nodes").at(1).at("gpus"), "ffff");
  EXPECT_EQ(map.at("nodes").at(1).at("state"), "reachable");
  EXPECT_GT(map.at("event_id").as_int64(), 0);
}

TEST(Map, FollowsAGpuFromFreeOverPreflightToAllocatedAndQuarantined) {
  ApiRig rig;
  const auto n1 = add_node_in(rig, "n1", "b1", "r1");
  const auto id = rig.submit(R"({"name":"a","run":"x","resources":{"gpus":2}})");
  const AttemptKey key{id, rig.backend.plane()->find_job(id)->row.epoch};
  const auto node = [&] { return rig.get("/v1/map").body().at("nodes").at(0); };
  EXPECT_EQ(node().at("gpus"), "aaff") << "placed";
  EXPECT_EQ(node().at("jobs"), json::parse("[1,1,null,null]"));
  rig.backend.change([&](ControlPlane& plane, Now now) {
    protocol::AttemptStatus status;
    status.key = key;
    status.phase = protocol::Phase::preparing;
    plane.on_attempt_status(now, n1, status);
  });
  EXPECT_EQ(node().at("gpus"), "ppff");
  rig.backend.run_job(id);
  EXPECT_EQ(node().at("gpus"), "aaff");
  rig.backend.change([&](ControlPlane& plane, Now now) {
    plane.on_gpu_fault(
        now, n1,
        protocol::GpuFault{
            .uuid = "GPU-n1-3", .kind = "xid", .xid = 79, .age_us = 0, .detail = "off the bus"});
  });
  EXPECT_EQ(node().at("gpus"), "aafq");
  EXPECT_EQ(rig.get("/v1/nodes/n1").body().at("jobs"), json::parse("[1]")) << "as the long list has it";
}

TEST(Map, IsSentAgainOnlyWhenItHasChanged) {
  ApiRig rig;
  rig.backend.add_node("n1", 2);
  const auto first = rig.get("/v1/map");
  const auto etag = first.header("ETag");
  ASSERT_FALSE(etag.empty());
  const auto again = [&] { return rig.get("/v1/map", {{"If-None-Match", etag}}); };
  EXPECT_EQ(again().status(), 304);
  EXPECT_EQ(again().header("ETag"), etag);
  rig.submit(R"({"name":"held","run":"x","resources":{"gpus":9}})");
  EXPECT_EQ(again().status(), 304) << "a job that waits is not on the map";
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":1}})");
  const auto other = again();
  EXPECT_EQ(other.status(), 200);
  EXPECT_NE(other.header("ETag"), etag);
  rig.backend.be_unready();
  EXPECT_EQ(again().status(), 503);
}

TEST(Map, DoesNotSayWhichJobsOfOthers) {
  ApiRig rig;
  rig.backend.add_project("nlp");
  rig.backend.add_project("vision");
  rig.backend.add_node("n1", 2);
  const auto a = rig.submit(R"({"name":"a","run":"x","project":"nlp","resources":{"gpus":1}})");
  const auto b = rig.submit(R"({"name":"b","run":"x","project":"vision","resources":{"gpus":1}})");
  const auto jobs = [&](http::Headers headers) {
    const auto map = rig.get("/v1/map", std::move(headers)).body();
    EXPECT_EQ(map.at("nodes").at(0).at("gpus"), "aa");
    std::multiset<std::int64_t> ids;
    for (const auto& id : map.at("nodes").at(0).at("jobs").as_array())
      ids.insert(id.is_null() ? 0 : id.as_int64());
    return ids;
  };
  using Ids = std::multiset<std::int64_t>;
  EXPECT_EQ(jobs({}), (Ids{a.value, b.value}));
  EXPECT_EQ(jobs(rig.user("ada", {{"nlp", Role::member}})), (Ids{0, a.value}));
  EXPECT_EQ(jobs(rig.user("eve", {{"vision", Role::member}})), (Ids{0, b.value}));

  // As little do the nodes and the GPUs.
  const auto named = [](const json::value& gpus) {
    Ids ids;
    for (const auto& gpu : gpus.as_array()) {
      EXPECT_EQ(gpu.at("state"), "allocated");
      ids.insert(gpu.at("job_id").is_null() ? 0 : gpu.at("job_id").as_int64());
    }
    return ids;
  };
  const auto expect = [&](const http::Headers& headers, const Ids& gpus, const json::array& here) {
    const auto node = rig.get("/v1/nodes/n1", headers).body();
    EXPECT_EQ(named(node.at("gpus")), gpus);
    EXPECT_EQ(node.at("jobs"), here);
    EXPECT_EQ(rig.get("/v1/nodes", headers).body().at("nodes").at(0).at("jobs"), here);
    EXPECT_EQ(named(rig.get("/v1/gpus", headers).body().at("gpus")), gpus);
  };
  expect({}, {a.value, b.value}, {a.value, b.value});
  expect(rig.user("ann", {{"nlp", Role::member}}), {0, a.value}, {a.value});
  expect(rig.user("new", {}), {0, 0}, {});
  const auto reported =
      rig.post("/v1/nodes/n1:report", R"({"reason":"slow"})", rig.user("amy", {{"nlp", Role::member}}));
  EXPECT_EQ(reported.status(), 200) << reported.body();
  EXPECT_EQ(reported.body().at("jobs"), json::array{a.value});
}

TEST(Map, OfManyNodesIsDrawnOnceASecond) {
  ApiRig rig;
  for (int i = 0; i < 300; ++i) rig.backend.add_node("node-" + std::to_string(i), 1);
  const auto event = [&] { return rig.get("/v1/map").body().at("event_id").as_int64(); };
  const auto first = event();
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":1}})");
  EXPECT_EQ(event(), first) << "who goes on from here misses nothing";
  rig.backend.tick(1s);
  EXPECT_GT(event(), first);
}

TEST(Map, IsSmall) {
  ApiRig rig;
  for (int i = 0; i < 32; ++i) rig.backend.add_node("node-" + std::to_string(i), 8);
  EXPECT_LT(rig.get("/v1/map").response->body.size(), 32u * 200);
}

}  // namespace
}  // namespace tutti::testing
