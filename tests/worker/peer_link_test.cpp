// Two workers' links over loopback: what is signed arrives, what is not does not.
#include "worker/service/peer_link.h"

#include <gtest/gtest.h>

#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "api/wire/messages.h"

namespace tutti::worker {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;

const AttemptKey kKey{JobId(7), Epoch(2)};

struct Side {
  Side(asio::io_context& io, const std::string& file)
      : link(io, "127.0.0.1", 0, file,
             {[this](const protocol::PeerPing& p) -> std::optional<protocol::PeerAck> {
                pings.push_back(p);
                return protocol::PeerAck{p.to, p.from, p.sent_us, p.attempts};
              },
              [this](const protocol::PeerAck& a) { acks.push_back(a); }}) {}
  std::vector<protocol::PeerPing> pings;
  std::vector<protocol::PeerAck> acks;
  PeerLink link;
};

struct PeerLinkTest : testing::Test {
  PeerLinkTest()
      : dir(testing::TempDir() + "/peer_link_" + std::to_string(getpid())),
        a((std::filesystem::create_directories(dir), io), dir + "/a"),
        b(io, dir + "/b") {}
  ~PeerLinkTest() override { std::filesystem::remove_all(dir); }
  template <class Done>
  bool run_until(Done done, std::chrono::milliseconds limit = std::chrono::seconds(5)) {
    const auto until = std::chrono::steady_clock::now() + limit;
    while (!done() && std::chrono::steady_clock::now() < until) io.run_one_for(std::chrono::milliseconds(10));
    return done();
  }
  void ping(Side& from, const std::string& to_name, std::uint16_t port) {
    from.link.send({"a", to_name, 5, {kKey}}, "127.0.0.1", port);
  }
  asio::io_context io;
  std::string dir;
  Side a, b;
};

TEST_F(PeerLinkTest, APingIsAnswered) {
  a.link.set_secret("s");
  b.link.set_secret("s");
  ping(a, "b", b.link.port());
  ASSERT_TRUE(run_until([&] { return !a.acks.empty(); }));
  EXPECT_EQ(a.acks[0].from, "b");
  EXPECT_EQ(a.acks[0].sent_us, 5);
  EXPECT_EQ(a.acks[0].attempts, std::vector{kKey});
}

TEST_F(PeerLinkTest, NothingIsBelievedThatAnotherClusterSays) {
  a.link.set_secret("s");
  b.link.set_secret("other");
  ping(a, "b", b.link.port());
  // A second one under the right name proves that the first would have arrived by now.
  Side c(io, dir + "/c");
  c.link.set_secret("other");
  ping(c, "b", b.link.port());
  ASSERT_TRUE(run_until([&] { return !c.acks.empty(); }));
  EXPECT_EQ(b.pings.size(), 1u);
  EXPECT_TRUE(a.acks.empty());
}

TEST_F(PeerLinkTest, GarbageIsDropped) {
  a.link.set_secret("s");
  b.link.set_secret("s");
  udp::socket raw(io, udp::endpoint(udp::v4(), 0));
  const udp::endpoint to(asio::ip::make_address("127.0.0.1"), b.link.port());
  const auto good = wire::encode(protocol::PeerMessage(protocol::PeerPing{"x", "b", 5, {kKey}}));
  for (const std::string& text : {std::string(), std::string("x"), std::string(64, 'a') + " " + good,
                                  std::string(64, '\0') + " ", std::string(60'000, 'z'), good})
    raw.send_to(asio::buffer(text), to);
  ping(a, "b", b.link.port());
  ASSERT_TRUE(run_until([&] { return !a.acks.empty(); }));
  EXPECT_EQ(b.pings.size(), 1u);
}

TEST_F(PeerLinkTest, APeerIsFoundWhereItLastSpokeFrom) {
  a.link.set_secret("s");
  b.link.set_secret("s");
  ping(a, "b", b.link.port());
  ASSERT_TRUE(run_until([&] { return !a.acks.empty(); }));
  b.link.send({"b", "a", 6, {kKey}}, "127.0.0.1", 9);  // told another port than it has now
  ASSERT_TRUE(run_until([&] { return !b.acks.empty(); }));
}

TEST_F(PeerLinkTest, ItComesBackOnTheSamePort) {
  std::uint16_t first = 0;
  {
    Side c(io, dir + "/c");
    first = c.link.port();
  }
  io.run_for(std::chrono::milliseconds(1));
  Side c(io, dir + "/c");
  EXPECT_EQ(c.link.port(), first);
  // While somebody else has it: another, rather than none.
  Side d(io, dir + "/c");
  EXPECT_NE(d.link.port(), first);
  EXPECT_NE(d.link.port(), 0);
}

}  // namespace
}  // namespace tutti::worker
