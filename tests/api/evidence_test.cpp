// Evidence bundles: the archive that a person gets, with nodes that are gone, slow or change meanwhile.
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "api/wire/tar_gz.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

struct EvidenceRig : ApiRig {
  EvidenceRig() {
    n1 = backend.add_node("n1", 4);
    n2 = backend.add_node("n2", 4);
    submit(
        R"({"name":"a","run":"x","nodes":2,"resources":{"gpus":4},"env":{"HF_TOKEN":"hf_very_secret","MODE":"fast"}})");
    key = backend.run_job(JobId(1));
    backend.evidence[n1] = part("n1", "one");
    backend.evidence[n2] = part("n2", "two");
    char name[] = "/tmp/evidence_test.XXXXXX";
    dir = mkdtemp(name);
  }
  ~EvidenceRig() { EXPECT_EQ(std::system(("rm -r " + dir).c_str()), 0); }

  static std::string part(const std::string& node, const std::string& text) {
    wire::TarGz tar;
    tar.add("nodes/" + node + "/logs/rank-0.log", text, 0);
    return tar.finish();
  }
  /// The names in it, in order.
  std::vector<std::string> unpack(const std::string& bytes) {
    std::ofstream(dir + "/b.tar.gz", std::ios::binary) << bytes;
    EXPECT_EQ(std::system(("cd " + dir + " && tar xzf b.tar.gz && tar tzf b.tar.gz > names").c_str()), 0);
    std::vector<std::string> names;
    std::ifstream in(dir + "/names");
    for (std::string line; std::getline(in, line);) names.push_back(line);
    return names;
  }
  std::string file(const std::string& name) const {
    std::ifstream in(dir + "/" + name);
    std::stringstream all;
    all << in.rdbuf();
    return all.str();
  }
  NodeId n1, n2;
  AttemptKey key;
  std::string dir;
  static constexpr auto kUrl = "/v1/jobs/1/attempts/1/evidence";
};

TEST(Evidence, ASummaryFirstThenEachNodesPart) {
  EvidenceRig rig;
  const auto call = rig.get(EvidenceRig::kUrl);
  ASSERT_NE(call.stream, nullptr);
  EXPECT_TRUE(call.stream->closed());
  EXPECT_EQ(
      rig.unpack(call.stream->text),
      (std::vector<std::string>{"summary.json", "nodes/n1/logs/rank-0.log", "nodes/n2/logs/rank-0.log"}));
  EXPECT_EQ(rig.file("nodes/n2/logs/rank-0.log"), "two");
  const auto summary = boost::json::parse(rig.file("summary.json"));
  EXPECT_EQ(summary.at("job"), 1);
  EXPECT_EQ(summary.at("attempt").at("number"), 1);
  EXPECT_EQ(summary.at("nodes").at(0).at("node"), "n1");
  EXPECT_TRUE(summary.at("nodes").at(0).at("missing").is_null());
  EXPECT_EQ(summary.at("spec").at("env").at("HF_TOKEN"), "[redacted]");
  EXPECT_EQ(summary.at("spec").at("env").at("MODE"), "fast");
  EXPECT_FALSE(summary.at("events").as_array().empty());
  EXPECT_EQ(rig.file("summary.json").find("very_secret"), std::string::npos);
  EXPECT_EQ(rig.backend.log_requests.back().key, rig.key);
}

TEST(Evidence, ANodeThatIsGoneIsNamedAndTheRestComes) {
  EvidenceRig rig;
  rig.backend.evidence.erase(rig.n1);
  const auto call = rig.get("/v1/jobs/a/attempts/latest/evidence");
  EXPECT_EQ(rig.unpack(call.stream->text),
            (std::vector<std::string>{"summary.json", "nodes/n2/logs/rank-0.log"}));
  const auto summary = boost::json::parse(rig.file("summary.json"));
  EXPECT_TRUE(summary.at("nodes").at(0).at("missing").is_string());
  EXPECT_TRUE(summary.at("nodes").at(1).at("missing").is_null());
}

TEST(Evidence, ANodeThatGoesMeanwhileLeavesNoTornArchive) {
  EvidenceRig rig;
  std::string big;
  for (int i = 0; i < 1'000'000; ++i) big += static_cast<char>(mix(static_cast<std::uint64_t>(i)));
  rig.backend.evidence[rig.n1] = EvidenceRig::part("n1", big);
  ASSERT_GT(rig.backend.evidence[rig.n1].size(), 800'000u) << "several pieces";
  int reads = 0;
  rig.backend.on_evidence_read = [&] {
    if (++reads == 5) rig.backend.evidence.erase(rig.n1);
  };
  const auto call = rig.get(EvidenceRig::kUrl);
  EXPECT_EQ(rig.unpack(call.stream->text),
            (std::vector<std::string>{"summary.json", "nodes/n2/logs/rank-0.log", "incomplete.json"}));
  EXPECT_NE(rig.file("incomplete.json").find("\"n1\""), std::string::npos);
}

TEST(Evidence, APartThatIsMadeAnewMeanwhileIsReadFromItsBeginning) {
  EvidenceRig rig;
  std::string big;
  for (int i = 0; i < 1'000'000; ++i) big += static_cast<char>(mix(static_cast<std::uint64_t>(i)));
  rig.backend.evidence[rig.n1] = EvidenceRig::part("n1", big);
  int reads = 0;
  rig.backend.on_evidence_read = [&] {
    if (++reads != 5) return;
    rig.backend.evidence[rig.n1] = EvidenceRig::part("n1", big + "longer");
    ++rig.backend.evidence_stamp;
  };
  const auto call = rig.get(EvidenceRig::kUrl);
  EXPECT_EQ(rig.unpack(call.stream->text).size(), 3u);
  EXPECT_EQ(rig.file("nodes/n1/logs/rank-0.log"), big + "longer");
}

TEST(Evidence, KeptPastTheAttempt) {
  EvidenceRig rig;
  rig.backend.end_attempt(rig.key, false, 3);
  const auto call = rig.get(EvidenceRig::kUrl);
  EXPECT_EQ(rig.unpack(call.stream->text).size(), 3u);
  const auto summary = boost::json::parse(rig.file("summary.json"));
  EXPECT_EQ(summary.at("attempt").at("state"), "ended");
}

TEST(Evidence, WhatDoesNotExistIsAProblem) {
  EvidenceRig rig;
  EXPECT_EQ(rig.get("/v1/jobs/1/attempts/2/evidence").status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/9/attempts/1/evidence").status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/1/attempts/first/evidence").status(), 422);
}

TEST(Hang, TheJobSaysSinceWhenNothingMoves) {
  EvidenceRig rig;
  EXPECT_TRUE(rig.get("/v1/jobs/1").body().at("hang").is_null());
  rig.backend.change([&](ControlPlane& plane, Now now) {
    for (const auto& [node, first] : {std::pair(rig.n1, 0), std::pair(rig.n2, 4)}) {
      protocol::RankReport r;
      r.key = rig.key;
      r.stalled = r.captured = true;
      r.limit_us = 60'000'000;
      r.ranks = {{.rank = first, .silent_us = 61'000'000, .state = "S"}};
      plane.on_rank_report(now, node, r);
    }
  });
  const auto job = rig.get("/v1/jobs/1").body();
  EXPECT_NE(std::string(job.at("hang").at("detail").as_string()).find("none of 2 ranks"), std::string::npos);
  EXPECT_TRUE(job.at("hang").at("since").is_string());
  EXPECT_TRUE(job.at("stragglers").as_array().empty());
}

// A job that has run for long has thousands of events; those of this attempt count, and the newest of them.
TEST(Evidence, TheSummaryHoldsTheNewestEventsOfItsAttempt) {
  EvidenceRig rig;
  rig.backend.change([&](ControlPlane& plane, Now now) {
    for (int i = 0; i < 600; ++i) {
      const std::string path = "/c" + std::to_string(i);
      plane.on_checkpoint(now, rig.n1,
                          protocol::CheckpointFound{
                              .key = rig.key, .epoch_in_file = rig.key.epoch.value, .step = i, .path = path});
    }
  });
  const auto call = rig.get(EvidenceRig::kUrl);
  rig.unpack(call.stream->text);
  const auto summary = boost::json::parse(rig.file("summary.json"));
  const auto& events = summary.at("events").as_array();
  ASSERT_EQ(events.size(), 500u);
  EXPECT_NE(std::string(events.back().at("detail").as_string()).find("/c599"), std::string::npos);
}

}  // namespace
}  // namespace tutti::testing
