// The private PostgreSQL: starts, keeps data, dies with its owner, refuses what is not its own.
#include "db/embedded/embedded_postgres.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "db/embedded/postgres_files.h"
#include "tests/store/pg_fixture.h"

namespace tutti::db {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

class EmbeddedPostgresTest : public testing::Test {
 protected:
  EmbeddedPostgresTest() { ::chmod(directory_.path().c_str(), 0711); }

  EmbeddedOptions options(const std::string& name = "pg") const {
    EmbeddedOptions o;
    o.directory = directory_.path() + "/" + name;
    o.fsync = false;
    o.start_timeout = std::chrono::seconds(30);
    return o;
  }
  static std::string query(const EmbeddedPostgres& pg, const char* text) {
    PGconn* c = PQconnectdb(pg.connection_string().c_str());
    PGresult* r = PQexec(c, text);
    std::string out = PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : PQresultErrorMessage(r);
    PQclear(r);
    PQfinish(c);
    return out;
  }
  test::TemporaryDirectory directory_;
};

TEST_F(EmbeddedPostgresTest, KeepsItsDataOverARestart) {
  EmbeddedPostgres pg(options());
  pg.start();
  EXPECT_TRUE(pg.running());
  query(pg, "CREATE TABLE kept AS SELECT 42 AS x");
  pg.stop();
  EXPECT_FALSE(pg.running());
  EXPECT_EQ(pg.pid(), 0);
  pg.start();
  EXPECT_EQ(query(pg, "SELECT x FROM kept"), "42");
  EXPECT_EQ(query(pg, "SHOW fsync"), "off");
  EXPECT_EQ(query(pg, "SHOW listen_addresses"), "");
}

TEST_F(EmbeddedPostgresTest, StartFromAThreadThatEndsKeepsTheServer) {
  EmbeddedPostgres pg(options());
  std::thread([&] { pg.start(); }).join();
  EXPECT_EQ(query(pg, "SELECT 1"), "1");
}

TEST_F(EmbeddedPostgresTest, FsyncIsOnUnlessRefused) {
  auto o = options();
  o.fsync = true;
  o.settings["work_mem"] = "5MB";
  EmbeddedPostgres pg(o);
  pg.start();
  EXPECT_EQ(query(pg, "SHOW fsync"), "on");
  EXPECT_EQ(query(pg, "SHOW full_page_writes"), "on");
  EXPECT_EQ(query(pg, "SHOW work_mem"), "5MB");
}

// The owner is a process of its own, killed so that it cannot clean up.
TEST_F(EmbeddedPostgresTest, DiesWithItsKilledOwnerAndStartsAgain) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    EmbeddedPostgres pg(options());
    pg.start();
    query(pg, "CREATE TABLE kept AS SELECT 7 AS x");
    const int pid = pg.pid();
    if (::write(ready[1], &pid, sizeof pid) != sizeof pid) ::_exit(1);
    while (true) ::pause();
  }
  ::close(ready[1]);
  int server = 0;
  ASSERT_EQ(::read(ready[0], &server, sizeof server), static_cast<ssize_t>(sizeof server));
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, server, 0));
  ASSERT_GE(fd, 0);
  ::kill(owner, SIGKILL);
  ::waitpid(owner, nullptr, 0);

  EmbeddedPostgres pg(options());  // at once: the old server may still be on its way out
  pg.start();
  EXPECT_EQ(query(pg, "SELECT x FROM kept"), "7");
  pollfd p{fd, POLLIN, 0};
  EXPECT_EQ(::poll(&p, 1, 0), 1) << "the old server still runs";
  ::close(fd);
  ::close(ready[0]);
}

TEST_F(EmbeddedPostgresTest, SecondOwnerOfARunningClusterIsRefused) {
  EmbeddedPostgres first(options());
  first.start();
  EXPECT_THAT([&] { wait_until_unlocked(directory_.path() + "/pg/data", std::chrono::milliseconds(50)); },
              ThrowsMessage<EmbeddedError>(HasSubstr("in use by process " + std::to_string(first.pid()))));
}

TEST_F(EmbeddedPostgresTest, LockFileOfAStrangerIsRemoved) {
  EmbeddedPostgres pg(options());
  pg.start();
  pg.stop();
  std::ofstream(directory_.path() + "/pg/data/postmaster.pid") << ::getpid() << "\n";  // we are no PostgreSQL
  pg.start();
  EXPECT_TRUE(pg.running());
}

TEST_F(EmbeddedPostgresTest, ClusterOfAnotherVersionIsRefused) {
  const std::string data = directory_.path() + "/pg/data";
  ASSERT_EQ(::mkdir((directory_.path() + "/pg").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(data.c_str(), 0755), 0);
  std::ofstream(data + "/PG_VERSION") << "9\n";
  EmbeddedPostgres pg(options());
  EXPECT_THAT([&] { pg.start(); }, ThrowsMessage<EmbeddedError>(HasSubstr("made by PostgreSQL 9")));
}

TEST_F(EmbeddedPostgresTest, LongSocketPathIsRefusedAtOnce) {
  auto o = options(std::string(90, 'x'));
  EXPECT_THAT([&] { EmbeddedPostgres pg(o); }, ThrowsMessage<EmbeddedError>(HasSubstr("too long")));
}

TEST_F(EmbeddedPostgresTest, BadSettingSaysWhatTheServerSaid) {
  auto o = options();
  o.settings["no_such_setting"] = "1";
  EmbeddedPostgres pg(o);
  EXPECT_THAT([&] { pg.start(); }, ThrowsMessage<EmbeddedError>(HasSubstr("no_such_setting")));
  EXPECT_FALSE(pg.running());
}

TEST_F(EmbeddedPostgresTest, NoBinariesIsSaid) {
  auto o = options();
  o.bin_directory = "/nonexistent";
  EmbeddedPostgres pg(o);
  EXPECT_THAT([&] { pg.start(); }, ThrowsMessage<EmbeddedError>(HasSubstr("no PostgreSQL 15 or newer")));
}

}  // namespace
}  // namespace tutti::db
