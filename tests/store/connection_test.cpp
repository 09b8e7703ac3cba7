// Which of several servers a session goes to when one of them has been silent: an old primary that nobody has
// stopped is read-write still, and stands first in the connection string.
#include "db/pg/connection.h"

#include <gtest/gtest.h>

#include <thread>

#include "db/pg/server_order.h"
#include "tests/store/cutting_proxy.h"
#include "tests/store/pg_fixture.h"

namespace tutti::db {
namespace {

using namespace tutti::test;
using std::chrono::milliseconds;

Connection::Deadline in(milliseconds t) { return std::chrono::steady_clock::now() + t; }

TEST(ServerOrder, IsThatOfTheStringWhileNobodyIsSilent) {
  const SilentServers silent;
  const HostLists hosts = silent_last("host=a,b,c port=1,2,3 dbname=x", silent);
  EXPECT_EQ(hosts.host, "a,b,c");
  EXPECT_EQ(hosts.port, "1,2,3");
  EXPECT_EQ(hosts.hostaddr, "");
}

TEST(ServerOrder, WhoWasSilentLastIsAskedLast) {
  SilentServers silent;
  silent.add("a:1");
  EXPECT_EQ(silent_last("host=a,b,c port=1,2,3", silent).host, "b,c,a");
  EXPECT_EQ(silent_last("host=a,b,c port=1,2,3", silent).port, "2,3,1");
  silent.add("b:2");
  EXPECT_EQ(silent_last("host=a,b,c port=1,2,3", silent).host, "c,a,b");
  silent.add("a:1");
  EXPECT_EQ(silent_last("host=a,b,c port=1,2,3", silent).host, "c,b,a");
}

TEST(ServerOrder, ServersOnOneHostAreToldApartByTheirPorts) {
  SilentServers silent;
  silent.add("127.0.0.1:5001");
  const HostLists hosts = silent_last("postgresql://127.0.0.1:5001,127.0.0.1:5002/tutti", silent);
  EXPECT_EQ(hosts.host, "127.0.0.1,127.0.0.1");
  EXPECT_EQ(hosts.port, "5002,5001");
}

TEST(ServerOrder, AddressesTravelWithTheirHosts) {
  SilentServers silent;
  silent.add(server_name("10.0.0.1", ""));
  const HostLists by_address = silent_last("hostaddr=10.0.0.1,10.0.0.2", silent);
  EXPECT_EQ(by_address.hostaddr, "10.0.0.2,10.0.0.1");
  EXPECT_EQ(by_address.host, "");
  silent.add("a:7");
  const HostLists both = silent_last("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=7", silent);
  EXPECT_EQ(both.host, "b,a");
  EXPECT_EQ(both.hostaddr, "10.0.0.2,10.0.0.1");
  EXPECT_EQ(both.port, "7,7");
}

TEST(ServerOrder, OneHostOrAWrongStringIsLeftToLibpq) {
  SilentServers silent;
  silent.add("a:1");
  for (const char* text : {"host=a port=1", "dbname=x", "host=a,b port=1,2,3", "host='a", "nonsense=1"})
    EXPECT_EQ(silent_last(text, silent).port, "") << text;
}

// Two ways to one server, of which the first one falls silent.
class SilentServer : public testing::Test {
 protected:
  ConnectOptions options(bool follows = false) const {
    const std::string real = TestPostgres::instance().socket_path();
    const std::string proxy = proxy_.connection_string("x");
    const auto directory = [](const std::string& path) { return path.substr(0, path.rfind('/')); };
    const std::size_t from = proxy.find('=') + 1;
    return {"host=" + proxy.substr(from, proxy.find(' ') - from) + "," + directory(real) +
                " port=5432 user=postgres target_session_attrs=read-write dbname=" + database_.name(),
            "connection_test", "", follows};
  }
  void fall_silent(Connection& connection) {
    proxy_.cut_at_next_commit(CuttingProxy::Cut::silence);
    EXPECT_THROW(connection.run_script("BEGIN", in(milliseconds(100))), ConnectionLost);
    EXPECT_FALSE(connection.alive());
  }

  TestDatabase database_ = TestPostgres::instance().create_empty_database();
  CuttingProxy proxy_{TestPostgres::instance().socket_path()};
};

TEST_F(SilentServer, IsNotTheOneThatTheNextSessionTakes) {
  Connection first(options());
  fall_silent(first);
  Connection second(options());
  EXPECT_NE(second.server(), first.server());
  EXPECT_NO_THROW(second.run_script("SELECT 1", in(std::chrono::seconds(10))));
}

TEST_F(SilentServer, IsLeftBySessionsThatFollowAndByNoOther) {
  Connection writer(options()), reader(options(true)), other(options());
  ASSERT_EQ(reader.server(), writer.server());
  EXPECT_FALSE(reader.closed_by_server());
  fall_silent(writer);
  EXPECT_TRUE(reader.closed_by_server());
  EXPECT_FALSE(reader.alive());
  EXPECT_FALSE(other.closed_by_server()) << "it may hold a lock there";
  Connection again(options(true));
  EXPECT_NE(again.server(), writer.server());
  EXPECT_FALSE(again.closed_by_server()) << "what was silent before it came is another server";
}

// One silent session says nothing about the others, if there is nowhere else to go.
TEST_F(SilentServer, IsNotLeftWhenItIsTheOnlyOne) {
  ConnectOptions only = options(true);
  only.connection_string = database_.connection_string();
  Connection reader(only);
  SilentServers::of_process().add(reader.server());
  EXPECT_FALSE(reader.closed_by_server());
  EXPECT_NO_THROW(reader.run_script("SELECT 1", in(std::chrono::seconds(10))));
}

// A reader that waits for a server that others have given up does not wait for its own, longer time.
TEST_F(SilentServer, IsNotWaitedForByAFollowerThatAlreadyAsks) {
  Connection reader(options(true));
  std::thread silence([server = reader.server()] { SilentServers::of_process().add(server); });
  const auto began = std::chrono::steady_clock::now();
  EXPECT_THROW(reader.run_script("SELECT pg_sleep(60)", in(std::chrono::seconds(50))), ConnectionLost);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(30));
  silence.join();
}

}  // namespace
}  // namespace tutti::db
