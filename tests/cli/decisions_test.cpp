// `tutti replay`: what it says of a log, and of one that is not what was decided.
#include "cli/decisions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/failure.h"
#include "scheduler/decisions/decision_log.h"

namespace tutti::cli {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

// A cluster without nodes: jobs wait.
struct ReplayTest : ::testing::Test {
  fs::path root = fs::temp_directory_path() / ("tutti-replay-" + std::to_string(::getpid()));
  const Instant begin{std::chrono::hours(24 * 365 * 50)};

  void SetUp() override {
    fs::remove_all(root);
    decisions::DecisionLogSettings settings;
    settings.directory = root;
    settings.version = client_version();
    decisions::DecisionLog log(settings);
    LeaseTable leases{LeaseSettings{}};
    Now now{begin, Mono(1h)};
    auto rows = std::make_shared<Snapshot>();
    rows->queues = {{.name = "default", .nodes_of = ""}};
    rows->projects = {{.name = "default", .parent = ""}};
    log.began(ControlSettings{}, rows, leases, now);
    ControlPlane plane(ControlSettings{}, *rows, decisions::spec_text(), leases, now);
    plane.watched_by(&log);
    for (const char* name : {"alpha", "beta", "gamma"}) {
      now.wall += 1s;
      now.mono += 1s;
      SubmitRequest request;
      request.spec_json = R"({"name":")" + std::string(name) + R"(","run":"true"})";
      request.spec = decisions::spec_text().parse(request.spec_json);
      request.owner = "ada";
      (void)plane.on_submit_all(now, {request});
      plane.plan(now);
      (void)plane.take_output();
      log.committed();
    }
  }
  void TearDown() override { fs::remove_all(root); }

  std::pair<int, std::string> replay(const DecisionsOptions& options, Format format = Format::table) const {
    std::ostringstream out, err;
    Printer printer{.format = format, .look = {}, .columns = {}, .out = out, .err = err};
    printer.look.now = begin + 1h;
    printer.look.width = 200;
    const int status = run_replay_decisions(options, printer);
    return {status, out.str()};
  }
  Failure failure(const DecisionsOptions& options) const {
    try {
      const auto [status, text] = replay(options);
      ADD_FAILURE() << "status " << status << ": " << text;
    } catch (const Failure& f) {
      return f;
    }
    return Failure(Exit::ok, "none");
  }
  DecisionsOptions options() const { return {.path = root.string(), .until = "", .explain = std::nullopt}; }
  fs::path segment() const { return decisions::segments_in(root).at(0); }
};

TEST_F(ReplayTest, WhatWasDecidedIsProven) {
  auto o = options();
  o.prove = true;
  EXPECT_EQ(replay(o), (std::pair{0, std::string("3 decisions (6 inputs) in 1 segment, identical\n")}));
  const auto tree = boost::json::parse(replay(o, Format::json).second).as_object();
  EXPECT_TRUE(tree.at("proof").at("identical").as_bool());
}

TEST_F(ReplayTest, ItSaysWhatThereIs) {
  const auto [status, text] = replay(options());
  EXPECT_EQ(status, 0);
  EXPECT_THAT(text, HasSubstr(segment().filename().string()));
  EXPECT_THAT(text, HasSubstr(client_version()));
}

TEST_F(ReplayTest, TheQueueOfThen) {
  auto o = options();
  o.until = "2019-12-20T00:00:02Z";  // the second of the three has come
  const auto tree = boost::json::parse(replay(o, Format::json).second).as_object();
  const auto& queue = tree.at("queue").as_array();
  ASSERT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue[0].at("name").as_string(), "alpha");
  EXPECT_EQ(queue[1].at("name").as_string(), "beta");
  EXPECT_FALSE(queue[0].at("reasons").as_array().empty());
  EXPECT_TRUE(tree.at("running").as_array().empty());
  EXPECT_THAT(replay(o).second, HasSubstr("beta"));
}

TEST_F(ReplayTest, WhyAJobDidNotRun) {
  auto o = options();
  o.explain = 3;
  EXPECT_THAT(replay(o).second, HasSubstr("job 3 is queued"));
  o.explain = 4;
  EXPECT_EQ(failure(o).exit, Exit::not_found);
  o.explain = 3;
  o.until = "2019-12-20T00:00:02Z";
  EXPECT_THAT(failure(o).what(), HasSubstr("neither waited nor ran"));
}

TEST_F(ReplayTest, AnotherDecisionIsNamed) {
  decisions::SegmentReader reader(segment());
  std::string content;
  while (reader.more(content)) {
  }
  const auto at = content.find("beta");
  ASSERT_NE(at, std::string::npos);
  content.replace(at, 4, "bete");
  const Instant began = *decisions::began_at(segment());
  fs::remove(segment());
  decisions::SegmentWriter(root, began, client_version()).write(content);
  auto o = options();
  o.prove = true;
  const auto [status, text] = replay(o);
  EXPECT_EQ(status, 1);
  EXPECT_THAT(text, HasSubstr("DIFFERENT"));
  EXPECT_THAT(text, HasSubstr("round 2"));
  EXPECT_THAT(text, HasSubstr("inputs: on_submit_all plan"));
  EXPECT_THAT(text, HasSubstr("1 decision before it are identical"));
}

TEST_F(ReplayTest, WhatIsNoLogIsSaidSo) {
  auto o = options();
  o.prove = true;
  std::string bytes;
  {
    std::ifstream in(segment(), std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  bytes[bytes.size() / 2] ^= 1;
  std::ofstream(segment(), std::ios::binary) << bytes;
  EXPECT_THAT(failure(o).what(), HasSubstr("is damaged at byte"));
  o.path = "/nonexistent";
  EXPECT_EQ(failure(o).exit, Exit::usage);
  o = options();
  o.until = "2019-12-19T00:00:00Z";
  EXPECT_EQ(failure(o).exit, Exit::not_found);
}

}  // namespace
}  // namespace tutti::cli
