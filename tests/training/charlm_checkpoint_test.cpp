#include "training/charlm/checkpoint.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "tests/training/charlm_fixture.h"
#include "tests/training/thread_gang.h"

namespace tutti::charlm {
namespace {

constexpr RunIdentity kIdentity{.model = 11, .text = 22, .seed = 33};
constexpr std::size_t kParameters = 101;  // not a multiple of the number of shards

TrainingState some_state(std::uint64_t step = 40) {
  TrainingState state;
  state.step = step;
  const auto n = static_cast<std::ptrdiff_t>(kParameters);
  state.parameters = Eigen::VectorXf::LinSpaced(n, -1.0F, 1.0F);
  state.first_moment = Eigen::VectorXf::LinSpaced(n, 2.0F, 3.0F);
  state.second_moment = Eigen::VectorXf::LinSpaced(n, 4.0F, 5.0F);
  return state;
}

class CharlmCheckpoint : public CharlmDir {
 protected:
  void save(int ranks, std::int64_t epoch = 5, const TrainingState& state = some_state()) {
    ThreadGang gang(ranks);
    gang.run([&](Collective& me) { save_checkpoint(me, dir_, state, kIdentity, epoch); });
    ASSERT_EQ(gang.failures(), 0);
  }
  void expect_refused(const std::string& reason, RunIdentity identity = kIdentity) {
    try {
      load_checkpoint(step_dir(), identity, kParameters);
      FAIL() << "accepted";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit(), Exit::checkpoint_refused);
      EXPECT_NE(std::string(failure.what()).find(reason), std::string::npos) << failure.what();
    }
  }
  [[nodiscard]] std::filesystem::path step_dir() const { return dir_ / "step-40"; }
};

TEST_F(CharlmCheckpoint, ComesBackAsItWasFromAnyNumberOfShards) {
  for (const int ranks : {1, 2, 3, 7}) {
    save(ranks);
    const TrainingState loaded = load_checkpoint(step_dir(), kIdentity, kParameters);
    EXPECT_EQ(loaded.step, 40U);
    EXPECT_EQ(fingerprint_of(loaded), fingerprint_of(some_state())) << ranks << " ranks";
  }
}

TEST_F(CharlmCheckpoint, CompleteJsonSaysWhatTheContractAsks) {
  save(3, 17);
  const boost::json::object complete = boost::json::parse(slurp(step_dir() / "COMPLETE.json")).as_object();
  EXPECT_EQ(complete.size(), 5U);
  EXPECT_EQ(complete.at("step").as_int64(), 40);
  EXPECT_EQ(complete.at("shards").as_int64(), 3);
  EXPECT_EQ(complete.at("epoch").as_int64(), 17);
  EXPECT_GT(complete.at("time").as_int64(), 1'700'000'000);
  std::int64_t bytes = 0;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(step_dir())) {
    ++files;
    if (entry.path().filename() != "COMPLETE.json") bytes += static_cast<std::int64_t>(entry.file_size());
  }
  EXPECT_EQ(files, 4);  // no .tmp left over
  EXPECT_EQ(complete.at("bytes").as_int64(), bytes);
}

TEST_F(CharlmCheckpoint, RefusesEveryDamagedByte) {
  save(2);
  const std::filesystem::path shard = step_dir() / "shard-00001-of-00002.bin";
  const std::string whole = slurp(shard);
  for (std::size_t at = 0; at < whole.size(); at += 13) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    spill(shard, damaged);
    expect_refused("checksum");
  }
  spill(shard, whole);
  EXPECT_NO_THROW(load_checkpoint(step_dir(), kIdentity, kParameters));
}

TEST_F(CharlmCheckpoint, RefusesATruncatedOrMissingShard) {
  save(2);
  const std::filesystem::path shard = step_dir() / "shard-00000-of-00002.bin";
  const std::string whole = slurp(shard);
  for (const std::size_t size : {whole.size() - 1, whole.size() / 2, std::size_t{90}, std::size_t{0}}) {
    spill(shard, whole.substr(0, size));
    expect_refused("truncated");
  }
  std::filesystem::remove(shard);
  expect_refused("missing");
}

TEST_F(CharlmCheckpoint, RefusesWhatWasNeverFinished) {
  save(2);
  std::filesystem::remove(step_dir() / "COMPLETE.json");
  expect_refused("never finished");
  spill(step_dir() / "COMPLETE.json", "{\"step\": 40, \"sha");
  expect_refused("makes no sense");
}

TEST_F(CharlmCheckpoint, RefusesShardsOfAnotherRunOrStep) {
  save(2);
  expect_refused("another model", {.model = 1, .text = 22, .seed = 33});
  expect_refused("another text", {.model = 11, .text = 1, .seed = 33});
  expect_refused("another seed", {.model = 11, .text = 22, .seed = 1});
  write_shard(step_dir(), some_state(39), kIdentity, 1, 2);
  expect_refused("does not belong");
}

TEST_F(CharlmCheckpoint, ReplacesThatOfAnEarlierEpochAndItsShards) {
  save(4, 5);
  save(2, 6);
  EXPECT_FALSE(std::filesystem::exists(step_dir() / "shard-00003-of-00004.bin"));
  EXPECT_NO_THROW(load_checkpoint(step_dir(), kIdentity, kParameters));
}

TEST_F(CharlmCheckpoint, NeverTouchesThatOfALaterEpoch) {
  save(1, 6);
  const std::string before = slurp(step_dir() / "COMPLETE.json");
  ThreadGang late(1);
  late.run([&](Collective& me) { save_checkpoint(me, dir_, some_state(), kIdentity, 5); });
  EXPECT_EQ(late.failures(), 1);
  EXPECT_EQ(slurp(step_dir() / "COMPLETE.json"), before);
}

TEST_F(CharlmCheckpoint, IsNotMadeOfRanksThatDisagree) {
  ThreadGang gang(2);
  gang.run([&](Collective& me) {
    TrainingState state = some_state();
    if (me.rank() == 1) state.parameters[50] += 1e-7F;
    save_checkpoint(me, dir_, state, kIdentity, 5);
  });
  EXPECT_EQ(gang.failures(), 2);
  EXPECT_FALSE(std::filesystem::exists(step_dir() / "COMPLETE.json"));
}

}  // namespace
}  // namespace tutti::charlm
