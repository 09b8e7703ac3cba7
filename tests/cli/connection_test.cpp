// Which server, and which token goes to it.
#include "cli/connection.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cli/failure.h"
#include "cli/profile.h"

namespace tutti::cli {
namespace {

constexpr const char* kVariables[] = {"TUTTI_SERVER", "TUTTI_TOKEN", "TUTTI_CONTEXT",
                                      "TUTTI_CONFIG", "TUTTI_CA",    "TUTTI_CACERT"};

class ConnectionTest : public testing::Test {
 protected:
  ConnectionTest() {
    char name[] = "/tmp/tutti-cli-XXXXXX";
    folder_ = mkdtemp(name);
    for (const char* variable : kVariables) unsetenv(variable);
    setenv("XDG_CONFIG_HOME", folder_.c_str(), 1);
    setenv("XDG_DATA_HOME", (folder_ + "/data").c_str(), 1);
  }
  ~ConnectionTest() override {
    for (const char* variable : kVariables) unsetenv(variable);
    std::filesystem::remove_all(folder_);
  }
  std::string folder_;
};

void keep(const Context& context, bool use = true) {
  change_profile(profile_path(), [&](Profile& profile) {
    profile.at(context.name) = context;
    if (use) profile.current = context.name;
  });
}

TEST_F(ConnectionTest, TheContextInUseGivesServerTokenAndCa) {
  keep({.name = "lab", .server = "https://a:7443", .token = "secret", .ca = "/ca.pem", .project = "nlp"});
  keep({.name = "other", .server = "http://b", .token = "no"}, false);
  const Connection connection = find_connection({});
  EXPECT_EQ(connection.server, "https://a:7443");
  EXPECT_EQ(connection.token, "secret");
  EXPECT_EQ(connection.ca, "/ca.pem");
  EXPECT_EQ(connection.project, "nlp");
  EXPECT_EQ(connection.server_from, "context lab");
  ConnectionFlags flags;
  flags.context = "other";
  EXPECT_EQ(find_connection(flags).server, "http://b");
  setenv("TUTTI_CONTEXT", "other", 1);
  EXPECT_EQ(find_connection({}).token, "no");
}

TEST_F(ConnectionTest, TheProfileIsPrivateAndReplacedWhole) {
  keep({.name = "lab", .server = "http://a:7070", .token = "secret"});
  struct stat status{};
  ASSERT_EQ(stat(profile_path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  const auto before = status.st_ino;
  keep({.name = "b", .server = "http://b"}, false);
  ASSERT_EQ(stat(profile_path().c_str(), &status), 0);
  EXPECT_NE(status.st_ino, before) << "written beside it and renamed";
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/tutti"))
    files += entry.is_regular_file();
  EXPECT_EQ(files, 2U) << "the file and its lock, nothing half-written";
  const Profile profile = load_profile(profile_path());
  EXPECT_EQ(profile.current, "lab");
  ASSERT_EQ(profile.contexts.size(), 2U);
  EXPECT_EQ(profile.find("lab")->token, "secret");
}

TEST_F(ConnectionTest, AProfileWrittenByHandIsReadAsYaml) {
  setenv("TUTTI_CONFIG", (folder_ + "/mine.yaml").c_str(), 1);
  std::ofstream(folder_ + "/token") << "from file\n";
  std::ofstream(folder_ + "/mine.yaml")
      << "# mine\ncurrent: lab\ncontexts:\n  lab:\n    server: http://a:7070\n    token_file: " << folder_
      << "/token\n";
  EXPECT_EQ(find_connection({}).token, "from file");
}

TEST_F(ConnectionTest, ABrokenProfileIsNamedWithWhatIsWrong) {
  setenv("TUTTI_CONFIG", (folder_ + "/mine.yaml").c_str(), 1);
  for (const auto& [text, what] : std::initializer_list<std::pair<const char*, const char*>>{
           {"- a\n", "must be a map"},
           {"current: [a]\n", "'current' must be text"},
           {"contexts: {a: {token: t}}\n", "'a' has no server"},
           {"contexts: {a: {server: http://a, tokn: t}}\n", "unknown field 'tokn'"},
           {"colour: red\n", "unknown field 'colour'"},
           {"current: gone\n", "'gone', is not there"},
           {"contexts: {a: \n", "mine.yaml:"}}) {
    std::ofstream(folder_ + "/mine.yaml") << text;
    try {
      find_connection({});
      ADD_FAILURE() << text;
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit, Exit::usage);
      EXPECT_NE(std::string(failure.what()).find(what), std::string::npos) << failure.what();
    }
  }
  setenv("TUTTI_SERVER", "http://a", 1);
  setenv("TUTTI_TOKEN", "t", 1);
  EXPECT_EQ(find_connection({}).server, "http://a") << "it is not needed then";
}

TEST_F(ConnectionTest, WithoutAnythingElseTheClusterOfTuttiUpIsFound) {
  write_context(default_data_directory() + "/context.json", "http://here:7070", "secret");
  EXPECT_EQ(find_connection({}).server, "http://here:7070");
  EXPECT_EQ(find_connection({}).token, "secret");
  keep({.name = "a", .server = "http://a:7070", .token = "other"});
  EXPECT_EQ(find_connection({}).server, "http://a:7070");
  ConnectionFlags flags;
  flags.context = default_data_directory() + "/context.json";
  EXPECT_EQ(find_connection(flags).token, "secret") << "a context named with a slash is a file";
}

TEST_F(ConnectionTest, TheFileOfEarlierVersionsStillCounts) {
  write_context(folder_ + "/tutti/config.json", "http://old:7070", "secret");
  EXPECT_EQ(find_connection({}).server, "http://old:7070");
  keep({.name = "a", .server = "http://a:7070"});
  EXPECT_EQ(find_connection({}).server, "http://a:7070");
}

TEST_F(ConnectionTest, AContextTokenNeverGoesToAnotherServer) {
  keep({.name = "lab", .server = "http://a:7070", .token = "secret", .ca = "/ca.pem", .project = "nlp"});
  ConnectionFlags flags;
  flags.server = "http://b:7070";
  EXPECT_EQ(find_connection(flags).token, "");
  EXPECT_EQ(find_connection(flags).ca, "");
  EXPECT_EQ(find_connection(flags).project, "");
  flags.server = "http://a:7070/";
  EXPECT_EQ(find_connection(flags).token, "secret");
}

TEST_F(ConnectionTest, FlagsWinOverTheEnvironmentAndThatOverTheContext) {
  keep({.name = "lab", .server = "http://a:7070", .token = "secret"});
  keep({.name = "named", .server = "http://n", .token = "named token"}, false);
  std::ofstream(folder_ + "/token") << "of the flag\n";
  setenv("TUTTI_SERVER", "http://c", 1);
  setenv("TUTTI_TOKEN", "mine", 1);
  setenv("TUTTI_CACERT", "/old.pem", 1);
  EXPECT_EQ(find_connection({}).server, "http://c");
  EXPECT_EQ(find_connection({}).token, "mine");
  EXPECT_EQ(find_connection({}).ca, "/old.pem");
  setenv("TUTTI_CA", "/ca.pem", 1);
  EXPECT_EQ(find_connection({}).ca, "/ca.pem");
  ConnectionFlags flags;
  flags.context = "named";
  EXPECT_EQ(find_connection(flags).server, "http://n");
  EXPECT_EQ(find_connection(flags).token, "named token");
  flags.server = "http://d";
  flags.token_file = folder_ + "/token";
  flags.ca = "/flag.pem";
  EXPECT_EQ(find_connection(flags).server, "http://d");
  EXPECT_EQ(find_connection(flags).token, "of the flag");
  EXPECT_EQ(find_connection(flags).ca, "/flag.pem");
}

TEST_F(ConnectionTest, ATokenFileIsReadToItsFirstLine) {
  std::ofstream(folder_ + "/token") << "abc\n";
  ConnectionFlags flags;
  flags.server = "http://a";
  flags.token_file = folder_ + "/token";
  EXPECT_EQ(find_connection(flags).token, "abc");
}

TEST(Servers, SeveralAreDividedByCommas) {
  const Connection connection = parse_server("https://a:7443/, https://b ,https://a:7443");
  EXPECT_EQ(connection.server, "https://a:7443");
  EXPECT_EQ(connection.others, std::vector<std::string>{"https://b"});
  EXPECT_EQ(url_of(connection), "https://a:7443,https://b");
  for (const char* url : {"https://a,b", ",", "https://a,http+unix:///x"})
    EXPECT_THROW(parse_server(url), Failure) << url;
}

TEST(Servers, OneOfAContextsServersMayHaveItsToken) {
  EXPECT_TRUE(same_server("https://b", "https://a,https://b"));
  EXPECT_TRUE(same_server("https://b,https://a", "https://a,https://b"));
  EXPECT_FALSE(same_server("https://a,https://evil", "https://a,https://b"));
  EXPECT_FALSE(same_server("https://a,https://b", "https://a"));
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
  for (const char* context : {"/nonexistent", "unknown"}) {
    setenv("TUTTI_CONTEXT", context, 1);
    EXPECT_THROW(find_connection({}), Failure);
  }
  for (const char* name : {"", "a/b", "a b", "a\n"}) EXPECT_THROW(check_context_name(name), Failure) << name;
}

}  // namespace
}  // namespace tutti::cli
