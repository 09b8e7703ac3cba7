#include "worker/service/addresses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tutti::worker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Addresses, AreDividedByCommas) {
  EXPECT_THAT(split_addresses({"http://a:1,https://b:2/", " http://c:3 ,, "}),
              ElementsAre("http://a:1", "https://b:2", "http://c:3"));
  EXPECT_THAT(split_addresses({"", ","}), IsEmpty());
}

TEST(Addresses, HaveAHostAndAPort) {
  EXPECT_EQ(parse_address("http://sched-1.example:7070"), (Peer{"sched-1.example", 7070, false}));
  EXPECT_EQ(parse_address("https://[fd00::7]:443/"), (Peer{"fd00::7", 443, true}));
  EXPECT_EQ(parse_address("10.0.0.7:7070"), (Peer{"10.0.0.7", 7070, false}));
}

TEST(Addresses, ThatAreNoneAreNamed) {
  for (const char* bad : {"", "http://", "http://host", "http://host:", "http://:7070", "http://host:0",
                          "http://host:70700", "http://host:7070/path", "http://host:x"}) {
    try {
      parse_address(bad);
      ADD_FAILURE() << bad << " is taken for an address";
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(std::string(e.what()).find(bad), 0u) << e.what();
    }
  }
}

}  // namespace
}  // namespace tutti::worker
