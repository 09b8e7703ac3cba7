// Which server, and which token goes to it.
#include "cli/connection.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cli/failure.h"

namespace tutti::cli {
namespace {

class ConnectionTest : public testing::Test {
 protected:
  ConnectionTest() {
    char name[] = "/tmp/tutti-cli-XXXXXX";
    folder_ = mkdtemp(name);
    for (const char* variable : {"TUTTI_SERVER", "TUTTI_TOKEN", "TUTTI_CONTEXT"}) unsetenv(variable);
    setenv("XDG_CONFIG_HOME", folder_.c_str(), 1);
    setenv("XDG_DATA_HOME", (folder_ + "/data").c_str(), 1);
  }
  ~ConnectionTest() override {
    for (const char* variable : {"TUTTI_SERVER", "TUTTI_TOKEN", "TUTTI_CONTEXT"}) unsetenv(variable);
    std::filesystem::remove_all(folder_);
  }
  std::string folder_;
};

TEST_F(ConnectionTest, TheContextFileGivesServerAndToken) {
  write_context(default_context_path(), "http://a:7070", "secret");
  const Connection connection = find_connection({});
  EXPECT_EQ(connection.server, "http://a:7070");
  EXPECT_EQ(connection.token, "secret");
  struct stat status{};
  ASSERT_EQ(stat(default_context_path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(ConnectionTest, WithoutAnythingElseTheClusterOfTuttiUpIsFound) {
  write_context(default_data_directory() + "/context.json", "http://here:7070", "secret");
  EXPECT_EQ(find_connection({}).server, "http://here:7070");
  EXPECT_EQ(find_connection({}).token, "secret");
  write_context(default_context_path(), "http://a:7070", "other");
  EXPECT_EQ(find_connection({}).server, "http://a:7070");
}

TEST_F(ConnectionTest, AContextTokenNeverGoesToAnotherServer) {
  write_context(default_context_path(), "http://a:7070", "secret");
  ConnectionFlags flags;
  flags.server = "http://b:7070";
  EXPECT_EQ(find_connection(flags).token, "");
  flags.server = "http://a:7070/";
  EXPECT_EQ(find_connection(flags).token, "secret");
}

TEST_F(ConnectionTest, FlagsWinOverTheEnvironmentAndThatOverTheFile) {
  write_context(default_context_path(), "http://a:7070", "secret");
  setenv("TUTTI_SERVER", "http://c", 1);
  setenv("TUTTI_TOKEN", "mine", 1);
  EXPECT_EQ(find_connection({}).server, "http://c");
  EXPECT_EQ(find_connection({}).token, "mine");
  ConnectionFlags flags;
  flags.server = "http://d";
  EXPECT_EQ(find_connection(flags).server, "http://d");
}

TEST_F(ConnectionTest, ATokenFileIsReadToItsFirstLine) {
  std::ofstream(folder_ + "/token") << "abc\n";
  ConnectionFlags flags;
  flags.server = "http://a";
  flags.token_file = folder_ + "/token";
  EXPECT_EQ(find_connection(flags).token, "abc");
}

TEST_F(ConnectionTest, UnixSocketsAreServersToo) {
  const Connection connection = parse_server("http+unix:///run/tutti.sock");
  EXPECT_EQ(connection.unix_socket, "/run/tutti.sock");
  EXPECT_EQ(connection.server, "http://localhost");
}

TEST_F(ConnectionTest, WhatIsNoServerIsRefused) {
  for (const char* url : {"", "a:7070", "ftp://a", "http://", "http+unix://relative"})
    EXPECT_THROW(parse_server(url), Failure) << url;
  EXPECT_THROW(find_connection({}), Failure);
  setenv("TUTTI_CONTEXT", "/nonexistent", 1);
  EXPECT_THROW(find_connection({}), Failure);
}

}  // namespace
}  // namespace tutti::cli
