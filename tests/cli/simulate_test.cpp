// `tutti simulate`: files as people have them, and what it says of broken ones.
#include "cli/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <boost/json/parse.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/failure.h"

namespace tutti::cli {
namespace {

using ::testing::HasSubstr;

struct SimulateTest : ::testing::Test {
  std::filesystem::path dir =
      std::filesystem::temp_directory_path() / ("tutti-simulate-" + std::to_string(getpid()));
  void SetUp() override { std::filesystem::create_directory(dir); }
  void TearDown() override { std::filesystem::remove_all(dir); }

  std::string file(const char* name, const std::string& text) const {
    const auto path = (dir / name).string();
    std::ofstream(path) << text;
    return path;
  }
  std::string failure(const SimulateOptions& options) const {
    std::ostringstream out, err;
    try {
      run_simulate(options, true, Look{}, out, err);
    } catch (const Failure& f) {
      EXPECT_EQ(f.exit, Exit::usage);
      return f.what();
    }
    return "";
  }
  // A gang of the whole cluster for an hour, then another: it waits half an hour.
  const std::string two = "submit_s,gpus,duration_s\n0,16,3600\n1800,16,60\n";
};

TEST_F(SimulateTest, ComparesPoliciesOnAPackedTraceAndAClusterFile) {
  const auto path = (dir / "two.csv.gz").string();
  gzFile packed = gzopen(path.c_str(), "wb");
  gzwrite(packed, two.data(), static_cast<unsigned>(two.size()));
  gzclose(packed);
  SimulateOptions o;
  o.trace = path;
  o.cluster = file("cluster.yaml", "nodes: 2\ngpus_per_node: 8\n");
  o.policies = {"easy", "checkpoint"};
  o.runs = 1;
  std::ostringstream out, err;
  EXPECT_EQ(run_simulate(o, true, Look{}, out, err), 0);
  EXPECT_EQ(err.str(), "");
  const auto answer = boost::json::parse(out.str());
  EXPECT_EQ(answer.at("nodes").as_int64(), 2);
  const auto& policies = answer.at("policies").as_array();
  ASSERT_EQ(policies.size(), 2U);
  EXPECT_DOUBLE_EQ(policies[0].at("wait_seconds").at("max").as_double(), 1800);
  EXPECT_EQ(policies[1].at("preemptions").to_number<int>(), 1)
      << "a minute's job need not wait for an hour's";
  EXPECT_LT(policies[1].at("wait_seconds").at("mean").as_double(), 200);
}

TEST_F(SimulateTest, PrintsATableForPeople) {
  SimulateOptions o;
  o.trace = file("two.csv", two);
  o.nodes = 2;
  o.runs = 2;
  std::ostringstream out, err;
  EXPECT_EQ(run_simulate(o, false, Look{}, out, err), 0);
  EXPECT_THAT(out.str(), HasSubstr("2 jobs, 2 nodes x 8 GPUs"));
  for (const auto* policy : {"easy", "fair", "checkpoint"}) EXPECT_THAT(out.str(), HasSubstr(policy));
}

TEST_F(SimulateTest, BrokenRowsAreNamedWithTheirLineAndTheRestGoesOn) {
  SimulateOptions o;
  o.trace = file("broken.csv", two + "x,1,1\n");
  o.nodes = 2;
  o.runs = 1;
  std::ostringstream out, err;
  EXPECT_EQ(run_simulate(o, true, Look{}, out, err), 0);
  EXPECT_EQ(err.str(), "tutti: " + o.trace + ":4: submit_s is not a number of seconds\n");
}

TEST_F(SimulateTest, SaysWhatIsWrongAndTheWayOut) {
  SimulateOptions o;
  o.trace = (dir / "none.csv").string();
  o.nodes = 2;
  EXPECT_THAT(failure(o), HasSubstr("cannot open"));
  o.trace = file("two.csv", two);
  o.policies = {"best"};
  EXPECT_THAT(failure(o), HasSubstr("no policy 'best'; there are fair, checkpoint"));
  o.policies.clear();
  o.nodes = 0;
  EXPECT_THAT(failure(o), HasSubstr("--nodes"));
  o.cluster = file("cluster.yaml", "machines: 2\n");
  EXPECT_THAT(failure(o), HasSubstr("it holds nodes and gpus_per_node"));
  o.cluster.clear();
  o.nodes = 2;
  o.trace = file("empty.csv", "submit_s,gpus,duration_s\n");
  EXPECT_THAT(failure(o), HasSubstr("no job in"));
}

}  // namespace
}  // namespace tutti::cli
