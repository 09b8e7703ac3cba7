#include "api/access/forward_mark.h"

#include <gtest/gtest.h>
#include <sodium.h>

namespace tutti {
namespace {

using std::chrono::seconds;

struct ForwardMarkTest : ::testing::Test {
  ForwardMark mark{"the secret that they share"};
  std::string made;

  void SetUp() override {
    ASSERT_GE(sodium_init(), 0);
    made = mark.make({"10.0.0.7:5123", "POST", "/v1/jobs?x=1"}, seconds(1'000'000));
  }
  std::optional<std::string> read(const std::string& text, seconds now = seconds(1'000'001)) const {
    return mark.peer_of(text, "POST", "/v1/jobs?x=1", now);
  }
};

TEST_F(ForwardMarkTest, NamesTheClient) {
  EXPECT_EQ(read(made), "10.0.0.7:5123");
  EXPECT_EQ(read(made, seconds(1'000'000 - 100)), "10.0.0.7:5123") << "clocks differ";
}

TEST_F(ForwardMarkTest, HoldsForOneRequestAndAWhile) {
  EXPECT_FALSE(mark.peer_of(made, "DELETE", "/v1/jobs?x=1", seconds(1'000'001)));
  EXPECT_FALSE(mark.peer_of(made, "POST", "/v1/jobs?x=2", seconds(1'000'001)));
  EXPECT_FALSE(read(made, seconds(1'000'200)));
  EXPECT_FALSE(read(made, seconds(999'000)));
}

TEST_F(ForwardMarkTest, NobodyElseMakesOne) {
  const ForwardMark other("another secret");
  EXPECT_FALSE(read(other.make({"10.0.0.7:5123", "POST", "/v1/jobs?x=1"}, seconds(1'000'000))));
  for (std::size_t i = 0; i < made.size(); ++i) {
    std::string bent = made;
    bent[i] = bent[i] == '1' ? '2' : '1';
    EXPECT_FALSE(read(bent)) << i;
  }
  for (std::size_t i = 0; i < made.size(); ++i) {
    EXPECT_FALSE(read(made.substr(0, i))) << i;
  }
  EXPECT_FALSE(read(made + std::string(200, '1')));
}

TEST_F(ForwardMarkTest, APrintTellsWhetherBothSecretsAreTheSame) {
  EXPECT_EQ(key_print("a", "b"), key_print("a", "b"));
  EXPECT_NE(key_print("a", "b"), key_print("a", "c"));
  EXPECT_NE(key_print("a", "b"), key_print("c", "b"));
  EXPECT_EQ(key_print("a", "b").size(), 16u);
}

TEST(TermMarkTest, SaysWhoLeadsForAWhileAndNobodyElseMakesOne) {
  ASSERT_GE(sodium_init(), 0);
  const TermMark mark("the secret that they share");
  const std::string made = mark.make({7, "host b:12"}, seconds(1'000'000));
  const auto says = mark.read(made, seconds(1'000'001));
  ASSERT_TRUE(says);
  EXPECT_EQ(says->term, 7);
  EXPECT_EQ(says->holder, "host b:12");
  EXPECT_FALSE(mark.read(made, seconds(1'000'200)));
  EXPECT_FALSE(TermMark("another secret").read(made, seconds(1'000'001)));
  for (std::size_t i = 0; i < made.size(); ++i) {
    std::string bent = made;
    bent[i] = bent[i] == '1' ? '2' : '1';
    EXPECT_FALSE(mark.read(bent, seconds(1'000'001))) << i;
  }
  EXPECT_FALSE(mark.read("", seconds(1'000'001)));
}

// A client chooses what a standby puts a ForwardMark on.
TEST(TermMarkTest, IsNotMadeOutOfAForwardedRequest) {
  ASSERT_GE(sodium_init(), 0);
  const ForwardMark forwarded("the secret that they share");
  const TermMark mark("the secret that they share");
  const auto made = forwarded.make({"9 x", "POST", "/internal/term"}, seconds(1'000'000));
  EXPECT_FALSE(mark.read(made, seconds(1'000'000)));
}

}  // namespace
}  // namespace tutti
