// The training loop over several ranks, and what ranks without MPI need to find each other.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/json.hpp>

#include "tests/training/charlm_fixture.h"
#include "tests/training/thread_gang.h"
#include "training/charlm/checkpoint.h"
#include "training/charlm/progress.h"
#include "training/charlm/rendezvous.h"
#include "training/charlm/train.h"

namespace tutti::charlm {
namespace {

class CharlmGang : public CharlmDir {
 protected:
  // Runs the gang with checkpoints under `name`; what each rank's environment holds beyond that is up to
  // `edit`.
  std::vector<Exit> run(
      int ranks, const Options& options, const std::string& name, const std::filesystem::path& resume = {},
      const std::function<void(int, Environment&)>& edit = [](int, Environment&) {}) {
    std::vector<Exit> exits(static_cast<std::size_t>(ranks), Exit::io);
    ThreadGang gang(ranks);
    gang.run([&](Collective& me) {
      Environment env;
      env.checkpoint_dir = dir_ / name;
      env.resume_checkpoint = resume;
      env.epoch = 1;
      edit(me.rank(), env);
      exits[static_cast<std::size_t>(me.rank())] = train(options, env, me);
    });
    EXPECT_EQ(gang.failures(), 0);
    return exits;
  }

  // All shards of a checkpoint, one after the other: every bit of the training state.
  [[nodiscard]] std::string bits(const std::string& name, std::uint64_t step, int ranks) const {
    std::string all;
    for (int rank = 0; rank < ranks; ++rank) {
      std::array<char, 64> shard{};
      std::snprintf(shard.data(), shard.size(), "shard-%05d-of-%05d.bin", rank, ranks);
      all += slurp(dir_ / name / ("step-" + std::to_string(step)) / shard.data());
    }
    return all;
  }

  [[nodiscard]] Options checkpointing(std::uint64_t steps) const {
    Options options = small_run(steps);
    options.checkpoint_every = 10;
    return options;
  }
};

TEST_F(CharlmGang, TwoRunsOfOneSeedEndInTheSameBits) {
  run(3, checkpointing(20), "one");
  run(3, checkpointing(20), "two");
  ASSERT_FALSE(bits("one", 20, 3).empty());
  EXPECT_EQ(bits("one", 20, 3), bits("two", 20, 3));

  Options other = checkpointing(20);
  other.seed = 2;
  run(3, other, "other");
  EXPECT_NE(bits("one", 20, 3), bits("other", 20, 3));
}

TEST_F(CharlmGang, AResumedRunEndsInTheBitsOfAnUninterruptedOne) {
  run(3, checkpointing(30), "whole");
  run(3, checkpointing(10), "first");
  run(3, checkpointing(30), "second", dir_ / "first" / "step-10");
  ASSERT_FALSE(bits("whole", 30, 3).empty());
  EXPECT_EQ(bits("whole", 30, 3), bits("second", 30, 3));
}

TEST_F(CharlmGang, ResumesWithAnotherNumberOfRanks) {
  run(4, checkpointing(10), "four");
  const std::vector<Exit> exits = run(2, checkpointing(20), "two", dir_ / "four" / "step-10");
  EXPECT_EQ(exits, std::vector<Exit>(2, Exit::done));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "two" / "step-20" / "COMPLETE.json"));
}

TEST_F(CharlmGang, OneRankAskedToStopStopsAllAfterTheSameStep) {
  spill(dir_ / "stop", "");
  const auto only_rank_one = [&](int rank, Environment& env) {
    if (rank == 1) env.stop_file = dir_ / "stop";
  };
  const std::vector<Exit> exits = run(3, small_run(30), "stopped", {}, only_rank_one);
  EXPECT_EQ(exits, std::vector<Exit>(3, Exit::restart_me));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "stopped" / "step-1" / "COMPLETE.json"));

  run(3, checkpointing(30), "whole");
  run(3, checkpointing(30), "again", dir_ / "stopped" / "step-1");
  EXPECT_EQ(bits("whole", 30, 3), bits("again", 30, 3));
}

TEST_F(CharlmGang, RanksWithDifferentOptionsDoNotStart) {
  ThreadGang gang(2);
  gang.run([&](Collective& me) {
    Options options = small_run(5);
    options.learning_rate = me.rank() == 0 ? 0.01F : 0.02F;
    train(options, Environment{}, me);
  });
  EXPECT_EQ(gang.failures(), 2);
}

TEST_F(CharlmGang, EachRankReportsItsProgress) {
  run(2, small_run(25), "run", {},
      [&](int rank, Environment& env) { env.progress_file = dir_ / ("progress-" + std::to_string(rank)); });
  for (const char* name : {"progress-0", "progress-1"}) {
    const boost::json::object report = boost::json::parse(slurp(dir_ / name)).as_object();
    EXPECT_EQ(report.at("step").as_int64(), 25);
    EXPECT_EQ(report.at("total").as_int64(), 25);
    EXPECT_EQ(report.at("eta_s").as_double(), 0.0);
    EXPECT_GT(report.at("compute_s").as_double(), 0.0);
    EXPECT_GT(report.at("metrics").at("loss").as_double(), 0.0);
  }
}

TEST_F(CharlmGang, ProgressIsWrittenAtMostFiveTimesASecond) {
  const auto began = Progress::Clock::now();
  Progress progress(dir_ / "progress", 0, 500);
  int writes = 0;
  std::string seen;
  for (std::uint64_t step = 1; step <= 500; ++step) {
    progress.on_step(step, std::chrono::milliseconds(1), 1.0, step == 500);
    const std::string now = slurp(dir_ / "progress");
    writes += now == seen ? 0 : 1;
    seen = now;
  }
  const auto elapsed = Progress::Clock::now() - began;
  EXPECT_GE(writes, 2);  // the first and the last
  EXPECT_LE(writes, 2 + elapsed / std::chrono::milliseconds(200));
}

// A port nobody listens on; the kernel does not hand it out again at once.
std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  ::bind(fd, reinterpret_cast<sockaddr*>(&at), size);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
  ::close(fd);
  return ntohs(at.sin_port);
}

TEST(CharlmRendezvous, EveryRankGetsTheBytesOfRankZero) {
  constexpr int kRanks = 4;
  const std::uint16_t port = free_port();
  std::array<std::array<std::byte, 128>, kRanks> bytes{};
  bytes[0].fill(std::byte{0x5a});
  {
    std::vector<std::jthread> threads;
    for (int rank = kRanks - 1; rank >= 0; --rank) {  // rank 0 last: the others must try again
      threads.emplace_back([rank, port, &bytes] {
        const Meeting meeting{.address = "127.0.0.1", .port = port, .rank = rank, .size = kRanks, .gang = 9};
        broadcast_from_rank_zero(meeting, bytes[static_cast<std::size_t>(rank)]);
      });
    }
  }
  for (const auto& copy : bytes) EXPECT_EQ(copy, bytes[0]);
}

TEST(CharlmRendezvous, ARankOfAnotherGangGetsNothingAndNobodyWaitsForEver) {
  const std::uint16_t port = free_port();
  std::array<std::byte, 16> secret{};
  secret.fill(std::byte{1});
  std::array<std::byte, 16> stolen{};
  const auto meet = [port](int rank, std::uint64_t gang, std::array<std::byte, 16>& bytes) {
    const Meeting meeting{.address = "127.0.0.1",
                          .port = port,
                          .rank = rank,
                          .size = 2,
                          .gang = gang,
                          .patience = std::chrono::milliseconds(400)};
    try {
      broadcast_from_rank_zero(meeting, bytes);
      ADD_FAILURE() << "rank " << rank << " met someone";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit(), Exit::peer_lost);
    }
  };
  {
    std::jthread zero([&] { meet(0, 1, secret); });
    std::jthread stranger([&] { meet(1, 2, stolen); });
  }
  const std::array<std::byte, 16> nothing{};
  EXPECT_EQ(stolen, nothing);
}

}  // namespace
}  // namespace tutti::charlm
