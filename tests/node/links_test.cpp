// Links: short flaps are waited out, long and repeated ones are told; what sysfs says is read as it is.
#include "worker/node/links.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "worker/node/sysfs.h"

namespace tutti::node {
namespace {

constexpr std::int64_t kSecond = 1'000'000;

struct Rig {
  LinkWatch watch;
  std::int64_t now = 1000 * kSecond;
  LinkSample link{"mlx5_0/1", true, "4: ACTIVE", 0, 0, false};
  std::vector<LinkFinding> all;

  void pass(int seconds) {
    for (int i = 0; i < seconds; ++i) {
      now += kSecond;
      for (auto& f : watch.on_sample(now, {link})) all.push_back(std::move(f));
    }
  }
  void down(int seconds) {
    link.up = false;
    ++link.downs;
    pass(seconds);
    link.up = true;
  }
  int count(const std::string& kind, bool holds = true) const {
    int n = 0;
    for (const auto& f : all) n += f.kind == kind && f.holds == holds;
    return n;
  }
};

TEST(Links, AShortFlapIsAnIncidentOnly) {
  Rig rig;
  rig.pass(5);
  rig.down(9);
  rig.pass(20);
  EXPECT_EQ(rig.count("link_flap"), 1);
  EXPECT_EQ(rig.count("link_down"), 0);
  EXPECT_EQ(rig.count("link_flapping"), 0);
}

TEST(Links, DownForTenSecondsIsAConditionThatEnds) {
  Rig rig;
  rig.pass(5);
  rig.down(15);
  EXPECT_EQ(rig.count("link_down"), 1);
  rig.pass(1);
  EXPECT_EQ(rig.count("link_down", false), 1);
}

TEST(Links, TwoFlapsInFiveMinutesAreFlappingUntilTheyAreOld) {
  Rig rig;
  rig.pass(5);
  rig.down(2);
  rig.pass(60);
  rig.down(2);
  rig.pass(1);
  EXPECT_EQ(rig.count("link_flapping"), 1);
  rig.pass(200);
  EXPECT_EQ(rig.count("link_flapping", false), 0);
  rig.pass(100);
  EXPECT_EQ(rig.count("link_flapping", false), 1);
}

TEST(Links, FlapsBetweenTwoSamplesShowInTheCounter) {
  Rig rig;
  rig.pass(5);
  rig.link.downs += 2;
  rig.pass(1);
  EXPECT_EQ(rig.count("link_flapping"), 1);
}

TEST(Links, TheCounterThatFollowsTheStateIsTheSameFall) {
  Rig rig;
  rig.pass(5);
  rig.link.up = false;
  rig.pass(1);
  ++rig.link.downs;
  rig.pass(1);
  rig.link.up = true;
  rig.pass(5);
  EXPECT_EQ(rig.count("link_flap"), 1);
  EXPECT_EQ(rig.count("link_flapping"), 0);
}

TEST(Links, OneThatWasUpAndIsGoneIsDown) {
  Rig rig;
  rig.pass(2);
  std::vector<LinkFinding> found;
  for (int i = 0; i < 12; ++i)
    for (auto& f : rig.watch.on_sample(rig.now += kSecond, {})) found.push_back(f);
  EXPECT_TRUE(std::ranges::any_of(found, [](const auto& f) { return f.kind == "link_down" && f.holds; }));
}

TEST(Links, APortWithoutACableIsNotDownUnlessItWasNamed) {
  Rig rig;
  rig.link.up = false;
  rig.pass(30);
  EXPECT_EQ(rig.count("link_down"), 0);
  Rig wanted;
  wanted.link.up = false;
  wanted.link.named = true;
  wanted.pass(30);
  EXPECT_EQ(wanted.count("link_down"), 1);
}

TEST(Links, SymbolErrorsCountFromWhereTheyWere) {
  Rig rig;
  rig.link.symbol_errors = 5000;
  rig.pass(5);
  EXPECT_EQ(rig.count("link_errors"), 0);
  rig.link.symbol_errors += 10;
  rig.pass(1);
  EXPECT_EQ(rig.count("link_errors"), 1);
  rig.pass(310);
  EXPECT_EQ(rig.count("link_errors", false), 1);
}

TEST(Sysfs, GivesNamedInterfacesAndAllInfinibandPorts) {
  std::string root = (std::filesystem::temp_directory_path() / "tutti-sysfs-XXXXXX").string();
  ASSERT_NE(mkdtemp(root.data()), nullptr);
  const auto put = [&](const std::string& file, const std::string& text) {
    const auto path = std::filesystem::path(root) / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  };
  put("class/net/eth0/operstate", "up");
  put("class/net/eth0/carrier_changes", "7");
  put("class/net/eth1/operstate", "down");
  put("class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE");
  put("class/infiniband/mlx5_0/ports/1/counters/link_downed", "3");
  put("class/infiniband/mlx5_0/ports/1/counters/symbol_error", "12");
  put("class/infiniband/mlx5_1/ports/1/state", "1: DOWN");
  const auto links = read_links(root, {"eth0", "eth9"});
  std::filesystem::remove_all(root);
  ASSERT_EQ(links.size(), 4U);
  EXPECT_EQ(std::tie(links[0].name, links[0].up, links[0].downs),
            std::make_tuple(std::string("eth0"), true, 3U));
  EXPECT_EQ(links[1].state, "gone");
  EXPECT_FALSE(links[1].up);
  EXPECT_EQ(links[2].name, "mlx5_0/1");
  EXPECT_EQ(std::tie(links[2].up, links[2].downs, links[2].symbol_errors), std::make_tuple(true, 3U, 12U));
  EXPECT_FALSE(links[3].up);
}

}  // namespace
}  // namespace tutti::node
