// A small cluster whose rows are spoiled, and the next leader that looks at them.
#pragma once

#include "db/checked_store.h"
#include "tests/store/store_world.h"

namespace tutti {

// A cluster of one node with two GPUs. Job 1 runs on GPU 1, job 2 waits.
class CheckedStoreTest : public StoreTest {
 protected:
  CheckedStoreTest() {
    Batch b;
    NodeRow node;
    node.id = NodeId(1);
    node.name = "n1";
    node.state = NodeState::reachable;
    b.nodes.push_back(node);
    for (const std::int64_t id : {1, 2}) {
      GpuRow gpu;
      gpu.id = GpuId(id);
      gpu.node = NodeId(1);
      gpu.uuid = "GPU-" + std::to_string(id);
      b.gpus.push_back(gpu);
    }
    for (const std::int64_t id : {1, 2}) {
      b.new_specs.push_back(spec(id));
      JobRow row = job(id);
      row.gpus_per_node = 1;
      if (id == 1) {
        row.state = JobState::running;
        row.epoch = Epoch(1);
        row.attempt = 1;
      }
      b.new_jobs.push_back(row);
    }
    b.attempts.push_back(running(1, 1, GpuId(1)));
    b.opened.push_back({.gpu = GpuId(1), .job = JobId(1), .epoch = Epoch(1), .from = at(10), .until = {}});
    store_->commit(b);
  }

  static AttemptRow running(std::int64_t id, std::int64_t epoch, GpuId gpu) {
    AttemptRow a = attempt(id, epoch);
    a.state = AttemptState::running;
    a.evidence_json = "[]";
    a.gang.push_back(GangMember{.node = NodeId(1),
                                .node_name = "n1",
                                .gpus = {gpu},
                                .first_rank = 0,
                                .ranks = 1,
                                .address = "",
                                .how = {}});
    return a;
  }
  Snapshot boot(db::SpecCheck specs = {}) {
    store_->resign();
    db::CheckedStore checked(
        world_->store(), std::move(specs), [this](const std::string& line) { said_.push_back(line); },
        [] { return at(1000); });
    checked.acquire_leadership("next");
    Snapshot first = checked.load();
    EXPECT_THAT(db::find_repairs(first, {}, at(1001)).said, IsEmpty()) << "it is mended at once";
    return first;
  }
  static const JobRow& in(const Snapshot& s, std::int64_t id) {
    for (const auto& row : s.jobs)
      if (row.id == JobId(id)) return row;
    throw std::runtime_error("job " + std::to_string(id) + " is not there");
  }

  std::vector<std::string> said_;
};

// Only PostgreSQL can hold what our own codec has not written.
class HandEditedTest : public CheckedStoreTest {
 protected:
  std::vector<std::string> sql(const std::string& text) { return dynamic_cast<PgWorld&>(*world_).sql(text); }
  void write_gang(const std::string& json, const std::string& where) {
    ASSERT_THAT(sql("UPDATE attempt SET gang = '" + json + "'::jsonb WHERE " + where + " RETURNING job"),
                SizeIs(1));
  }
};

}  // namespace tutti
