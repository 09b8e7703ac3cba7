// What the scheduler's own reading of a spec adds to db/checked_store.h.
#include "scheduler/checked_rows.h"

#include <gtest/gtest.h>

#include "tests/store/rows.h"

namespace tutti {
namespace {

// Holds what was loaded before, and the batch that mends it.
struct Rows final : Store {
  Rows(Snapshot& s, Batch& b) : snapshot(s), mended(b) {}
  void introduce(LeaderCard) override {}
  Term acquire_leadership(const std::string&) override { return Term(1); }
  Duration predecessors_renew() override { return {}; }
  std::vector<std::string> predecessor_urls() override { return {}; }
  void resign() noexcept override {}
  Snapshot load() override { return snapshot; }
  void commit(const Batch& batch) override { mended = batch; }
  void prove_leadership() override {}
  bool healthy() noexcept override { return true; }
  Snapshot& snapshot;
  Batch& mended;
};

JobRow mended(const std::string& spec) {
  Snapshot snapshot;
  Batch batch;
  JobRow row = test::job(1);
  row.nodes = 0;
  row.gpus_per_node = -1;
  snapshot.jobs.push_back(row);
  snapshot.specs.add(spec);
  const auto store = with_checked_rows(std::make_unique<Rows>(snapshot, batch));
  store->acquire_leadership("us");
  store->load();
  return batch.jobs.at(0).row;
}

TEST(CheckedRows, TheSizeOfAJobThatCannotBeIsThatOfItsSpec) {
  const JobRow row = mended(R"({"run":"x","nodes":4,"resources":{"gpus":8}})");
  EXPECT_EQ(row.state, JobState::held);
  EXPECT_EQ(row.nodes, 4);
  EXPECT_EQ(row.gpus_per_node, 8);
}

TEST(CheckedRows, ASpecWithoutALegalSizeGivesTheLeast) {
  for (const char* spec :
       {"{}", "[]", "no JSON", R"({"nodes":"four","resources":7})", R"({"nodes":0,"resources":{"gpus":-8}})",
        R"({"nodes":5000000000,"resources":{"gpus":1.5}})"}) {
    const JobRow row = mended(spec);
    EXPECT_EQ(row.nodes, 1) << spec;
    EXPECT_EQ(row.gpus_per_node, 0) << spec;
  }
}

}  // namespace
}  // namespace tutti
