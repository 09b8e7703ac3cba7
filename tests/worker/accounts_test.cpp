// Accounts as this machine's user database has them, asked by tutti-node-check.
#include "worker/service/accounts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tutti::worker {
namespace {

using ::testing::HasSubstr;

class AccountsTest : public ::testing::Test {
 protected:
  AccountsTest() {
    settings.node = "n1";
    settings.node_check = std::string(std::getenv("TUTTI_BIN")) + "/tutti-node-check";
    settings.accounts.run_as = AccountPolicy::RunAs::owner;
  }
  Result<Account> find(Accounts& accounts, const std::string& owner) {
    std::optional<Result<Account>> out;
    accounts.find(owner, [&out](Result<Account> r) { out = std::move(r); });
    io.restart();
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!out && std::chrono::steady_clock::now() < until) io.run_one_for(std::chrono::milliseconds(50));
    if (!out) throw std::runtime_error("no answer about " + owner);
    return *out;
  }
  boost::asio::io_context io;
  Settings settings;
};

TEST_F(AccountsTest, AreLookedUpByName) {
  settings.accounts.allow_root = true;
  Accounts accounts(io, settings);
  const auto root = find(accounts, "root");
  ASSERT_TRUE(root) << root.error().message;
  EXPECT_EQ(root->uid, 0u);
  EXPECT_FALSE(root->groups.empty());
  const auto nobody = find(accounts, "nobody");
  ASSERT_TRUE(nobody) << nobody.error().message;
  EXPECT_EQ(nobody->uid, 65534u);
  EXPECT_THAT(find(accounts, "no-such-user-here").error().message,
              HasSubstr("user no-such-user-here has no account"));
  EXPECT_THAT(find(accounts, "0").error().message, HasSubstr("user 0 has no account"))
      << "a number is no name";
}

TEST_F(AccountsTest, ADirectoryThatHangsIsGivenUpAndTheAnswerKept) {
  char pattern[] = "/tmp/tutti-accounts-XXXXXX";
  const std::string dir = mkdtemp(pattern);
  const std::string helper = dir + "/helper";
  // Hangs at first, then answers once, then would say something else.
  std::ofstream(helper) << "#!/bin/sh\nif [ ! -e " << dir << "/heal ]; then exec sleep 1000; fi\n"
                        << "if [ -e " << dir << "/asked ]; then echo none; exit 1; fi\ntouch " << dir
                        << "/asked\n"
                        << "printf '1001\\t1001\\t1001\\tada\\t/home/ada\\t/bin/sh\\n'\n";
  chmod(helper.c_str(), 0755);
  settings.node_check = helper;
  settings.account_deadline = std::chrono::milliseconds(300);
  Accounts accounts(io, settings);
  const auto hung = find(accounts, "ada");
  ASSERT_FALSE(hung);
  EXPECT_EQ(hung.error().code, Errc::unavailable);
  std::ofstream(dir + "/heal").close();
  settings.account_deadline = std::chrono::seconds(20);
  Result<Account> found = hung;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!found && std::chrono::steady_clock::now() < until)
    found = find(accounts, "ada");  // the killed one may not be gone yet
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(find(accounts, "ada")->uid, 1001u) << "from memory";
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace tutti::worker
