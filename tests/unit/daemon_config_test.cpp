// Flags, environment and file together: which wins, and what is said of a wrong file.
#include "daemon/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

namespace tutti::daemon {
namespace {

class Variable {
 public:
  Variable(std::string name, const std::string& value) : name_(std::move(name)) {
    ::setenv(name_.c_str(), value.c_str(), 1);
  }
  ~Variable() { ::unsetenv(name_.c_str()); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  std::string name_;
};

struct Program {
  std::string listen = "127.0.0.1:7070", db, policy = "fair";
  double lease = 6;
  bool embedded = false;
  std::vector<std::string> labels;
  CLI::App app{"a program"};
  std::unique_ptr<Configuration> configuration;

  Program() {
    app.add_option("--listen", listen, "ADDRESS:PORT for REST and workers")->capture_default_str();
    app.add_option("--lease", lease, "seconds")->check(CLI::Range(1.0, 60.0))->capture_default_str();
    app.add_option("--lease-margin", margin, "seconds")->check(CLI::Range(0.0, 9.0))->capture_default_str();
    app.add_option("--policy", policy, "which")
        ->check(CLI::IsMember({"fair", "fifo"}))
        ->capture_default_str();
    auto* with = app.add_option("--db", db, "connection string");
    app.add_flag("--embedded-db", embedded, "a private one")->excludes(with);
    app.add_option("--label", labels, "KEY=VALUE; may be repeated");
    configuration = std::make_unique<Configuration>(app, "tutti-trial");
  }
  double margin = 1;

  void parse(std::vector<std::string> words) {
    std::vector<const char*> argv{"tutti-trial"};
    for (const auto& word : words) argv.push_back(word.c_str());
    configuration->parse_again(static_cast<int>(argv.size()), argv.data());
  }
  std::string complaint(const std::vector<std::string>& words) {
    try {
      parse(words);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  }
};

class Config : public testing::Test {
 protected:
  Config()
      : path_(std::filesystem::temp_directory_path() /
              ("tutti-config-" + std::to_string(::getpid()) + ".toml")) {}
  ~Config() override { std::filesystem::remove(path_); }
  std::vector<std::string> file(const std::string& text) {
    std::ofstream(path_) << text;
    return {"--config", path_.string()};
  }
  std::string at(int line) const { return path_.string() + ":" + std::to_string(line); }
  std::filesystem::path path_;
  Program program_;
};

TEST_F(Config, KeysAreFlags) {
  program_.parse(
      file("# ours\nlisten = \"[::]:1\"\nlease = 7\nembedded-db = true\nlabel = [\"a=b\", \"c=d\"]\n"));
  EXPECT_EQ(program_.listen, "[::]:1");
  EXPECT_EQ(program_.lease, 7);
  EXPECT_TRUE(program_.embedded);
  EXPECT_EQ(program_.labels, (std::vector<std::string>{"a=b", "c=d"}));
  EXPECT_EQ(program_.policy, "fair");
}

TEST_F(Config, AFlagWinsOverTheEnvironmentAndThatOverTheFile) {
  const Variable listen("TUTTI_TRIAL_LISTEN", "environment:1"), lease("TUTTI_TRIAL_LEASE", "8");
  auto words = file("listen = \"file:1\"\nlease = 7\npolicy = \"fifo\"\n");
  words.insert(words.end(), {"--listen", "flag:1"});
  program_.parse(words);
  EXPECT_EQ(program_.listen, "flag:1");
  EXPECT_EQ(program_.lease, 8);
  EXPECT_EQ(program_.policy, "fifo");
}

TEST_F(Config, AnUnknownKeyIsNamedWithItsLineAndTheNearestOne) {
  EXPECT_EQ(program_.complaint(file("lease = 7\nlisen = \"x:1\"\n")),
            at(2) + ": there is no key 'lisen'; did you mean 'listen'?");
}
TEST_F(Config, AKeyLikeNoOtherPointsToTheListOfThem) {
  EXPECT_EQ(program_.complaint(file("zzzzzzzzzzzz = 1\n")),
            at(1) + ": there is no key 'zzzzzzzzzzzz'; --print-config writes all of them");
}
TEST_F(Config, OnlyFlagsThatMakeSenseInAFileAreKeys) {
  for (const char* key : {"help", "config", "check-config", "print-config"})
    EXPECT_NE(program_.complaint(file(std::string(key) + " = true\n")).find("there is no key"),
              std::string::npos)
        << key;
}
TEST_F(Config, AValueOfAnotherKindIsRefused) {
  EXPECT_EQ(program_.complaint(file("lease = \"7\"\n")),
            at(1) + ": 'lease' must be a number, without quotes");
  EXPECT_EQ(program_.complaint(file("listen = 7070\n")), at(1) + ": 'listen' must be a string, in quotes");
  EXPECT_EQ(program_.complaint(file("embedded-db = 1\n")), at(1) + ": 'embedded-db' must be true or false");
  EXPECT_EQ(program_.complaint(file("listen = [\"a:1\", \"b:1\"]\n")),
            at(1) + ": 'listen' must be a string, in quotes");
}
TEST_F(Config, ARangeIsComplainedOfAtItsLine) {
  const auto text = program_.complaint(file("\n\nlease = 900\n"));
  EXPECT_NE(text.find("--lease"), std::string::npos) << text;
  EXPECT_NE(text.find("(" + at(3) + ")"), std::string::npos) << text;
}
TEST_F(Config, TheLineOfAnotherKeyWithTheSameBeginningIsNotNamed) {
  const auto text = program_.complaint(file("lease = 7\nlease-margin = 900\n"));
  EXPECT_NE(text.find("(" + at(2) + ")"), std::string::npos) << text;
}
TEST_F(Config, AWrongVariableIsNamed) {
  const Variable lease("TUTTI_TRIAL_LEASE", "900");
  const auto text = program_.complaint({});
  EXPECT_NE(text.find("(TUTTI_TRIAL_LEASE)"), std::string::npos) << text;
}
TEST_F(Config, SectionsAndBrokenFilesAreRefused) {
  EXPECT_NE(
      program_.complaint(file("lease = 7\n[http]\nlisten = \"x:1\"\n")).find(at(2) + ": 'http' is a section"),
      std::string::npos);
  EXPECT_EQ(program_.complaint(file("lease = \n")).rfind(at(1) + ": ", 0), 0U);
}
TEST_F(Config, AFileThatIsNotThereIsAnError) {
  EXPECT_NE(program_.complaint({"--config", "/nowhere/at.toml"}).find("/nowhere/at.toml"), std::string::npos);
}
TEST_F(Config, WhatExcludesEachOtherDoesSoInTheFileToo) {
  EXPECT_NE(program_.complaint(file("db = \"dbname=x\"\nembedded-db = true\n")), "");
}

TEST_F(Config, ThePageSaysEveryKeyAndCanBeReadAgain) {
  program_.parse({"--listen", "a\"b\\c:1", "--label", "x=y", "--label", "z=1"});
  const std::string page = config_page(program_.app, "tutti-trial");
  EXPECT_NE(page.find("\nlisten = \"a\\\"b\\\\c:1\"\n"), std::string::npos) << page;
  EXPECT_NE(page.find("\nlabel = [\"x=y\", \"z=1\"]\n"), std::string::npos) << page;
  EXPECT_NE(page.find("\n# seconds (1 to 60)\n# lease = 6\n"), std::string::npos) << page;
  EXPECT_NE(page.find("\n# which (one of fair, fifo)\n# policy = \"fair\"\n"), std::string::npos) << page;
  EXPECT_NE(page.find("\n# embedded-db = false\n"), std::string::npos) << page;
  EXPECT_EQ(page.find("config ="), std::string::npos) << page;
  Program again;
  again.parse(file(page));
  EXPECT_EQ(again.listen, "a\"b\\c:1");
  EXPECT_EQ(again.labels, program_.labels);
  EXPECT_EQ(again.configuration->values(), program_.configuration->values());
}

TEST_F(Config, ValuesShowWhatHasChanged) {
  program_.parse(file("lease = 7\n"));
  Program other;
  other.parse(file("lease = 8\n"));
  auto before = program_.configuration->values(), after = other.configuration->values();
  EXPECT_EQ(before.at("lease"), "7");
  EXPECT_EQ(after.at("lease"), "8");
  before.erase("lease"), after.erase("lease");
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace tutti::daemon
