// Shells between people and workers: no bytes are kept, and nobody waits for ever.
#include "scheduler/service/shell_relay.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>

#include "api/wire/tar_gz.h"

namespace tutti {
namespace {

class ShellRelayTest : public ::testing::Test {
 protected:
  const NodeId n1{1}, n2{2};
  boost::asio::io_context io;
  std::vector<std::pair<NodeId, protocol::ToWorker>> sent;
  bool linked = true;
  ShellRelay relay{io.get_executor(),
                   {[this](NodeId) { return linked; },
                    [this](NodeId n, const protocol::ToWorker& m) { sent.emplace_back(n, m); }}};
  std::string output;
  std::int64_t room = 0;
  std::vector<protocol::ShellClosed> closed;

  std::int64_t open(NodeId node) {
    const auto number =
        relay.open(node, {},
                   {.on_output = [this](const std::string& b) { output += b; },
                    .on_room = [this](std::int64_t n) { room += n; },
                    .on_closed = [this](const protocol::ShellClosed& c) { closed.push_back(c); }});
    EXPECT_TRUE(number);
    return number ? *number : 0;
  }
  template <class T>
  const T* last() const {
    return sent.empty() ? nullptr : std::get_if<T>(&sent.back().second);
  }
};

TEST_F(ShellRelayTest, PassesBytesAndRoomOnToItsOwn) {
  const auto a = open(n1), b = open(n2);
  EXPECT_NE(a, b);
  relay.on_output(n1, {a, wire::to_base64("hello"), 100});
  relay.on_output(n2, {a, wire::to_base64("of another node"), 1});
  relay.on_output(n1, {99, wire::to_base64("of nobody"), 1});
  EXPECT_EQ(output, "hello");
  EXPECT_EQ(room, 100);
  relay.input(a, "typed", true);
  ASSERT_NE(last<protocol::ShellInput>(), nullptr);
  EXPECT_EQ(last<protocol::ShellInput>()->data, wire::to_base64("typed"));
  EXPECT_TRUE(last<protocol::ShellInput>()->end);
  relay.grant(a, 5);
  EXPECT_EQ(last<protocol::ShellInput>()->credit, 5);
  relay.resize(b, 10, 20);
  EXPECT_EQ(sent.back().first, n2);
  relay.on_closed(n1, {a, 3, 0, ""});
  ASSERT_EQ(closed.size(), 1u);
  EXPECT_EQ(closed[0].exit_code, 3);
  const auto before = sent.size();
  relay.input(a, "late", false);
  relay.close(a);
  EXPECT_EQ(sent.size(), before) << "it is no more";
}

TEST_F(ShellRelayTest, EndsWhatIsLostIdleOrNeverAnswered) {
  const auto a = open(n1);
  relay.on_node_lost(n1);
  ASSERT_EQ(closed.size(), 1u);
  EXPECT_EQ(closed[0].shell, a);
  EXPECT_EQ(closed[0].error, "the connection to the node is lost");
  relay.set_idle(std::chrono::milliseconds(10));
  const auto b = open(n1);
  relay.on_output(n1, {b, "", 100});
  io.run_for(std::chrono::seconds(5));
  ASSERT_EQ(closed.size(), 2u);
  EXPECT_EQ(closed[1].error, "nothing was typed and nothing written for too long");
  ASSERT_NE(last<protocol::CloseShell>(), nullptr);
  EXPECT_EQ(last<protocol::CloseShell>()->shell, b);
  linked = false;
  EXPECT_EQ(relay.open(n1, {}, {}).error().code, Errc::unavailable);
}

TEST_F(ShellRelayTest, WhatCannotBeReadEndsIt) {
  const auto a = open(n1);
  relay.on_output(n1, {a, "no base64 *", 0});
  ASSERT_EQ(closed.size(), 1u);
  EXPECT_NE(last<protocol::CloseShell>(), nullptr);
}

TEST_F(ShellRelayTest, ThereIsABoundAndCloseIsSilent) {
  std::vector<std::int64_t> all;
  for (int i = 0; i < 256; ++i) all.push_back(open(n1));
  EXPECT_EQ(relay.open(n1, {}, {}).error().code, Errc::unavailable);
  relay.close(all.back());
  EXPECT_TRUE(closed.empty());
  open(n1);
  relay.close_all();
  EXPECT_EQ(closed.size(), 256u);
}

}  // namespace
}  // namespace tutti
