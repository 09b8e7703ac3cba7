// Whom a job runs as: the policy alone.
#include "worker/core/account.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tutti::worker {
namespace {

using ::testing::HasSubstr;

const Account kJobUser{
    .name = "tutti-job", .home = "/tmp", .shell = "/bin/sh", .uid = 990, .gid = 990, .groups = {990}};
const Account kAda{
    .name = "ada", .home = "/home/ada", .shell = "/bin/bash", .uid = 1001, .gid = 1001, .groups = {1001, 27}};

AccountPolicy as_owner() { return {.run_as = AccountPolicy::RunAs::owner}; }
Result<Account> choose(const AccountPolicy& policy, const std::string& owner, const AccountAnswer& answer) {
  return choose_account(policy, kJobUser, owner, "n1", answer);
}

TEST(Account, EachJobRunsAsItsOwnerOrNotAtAll) {
  EXPECT_EQ(choose(as_owner(), "ada", {kAda, ""}).value(), kAda);
  const auto unknown = choose(as_owner(), "bob", {});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Errc::forbidden);
  EXPECT_THAT(unknown.error().message, HasSubstr("user bob has no account on node n1"));
}

TEST(Account, OneAccountForAllIsAskedOfNobody) {
  AccountPolicy policy;
  EXPECT_EQ(choose(policy, "ada", {kAda, ""}).value(), kJobUser)
      << "system accounts may be named by an operator";
  EXPECT_EQ(choose(policy, "nobody-knows", {{}, "the directory hangs"}).value(), kJobUser);
}

TEST(Account, TheUnknownMayHaveTheCommonOne) {
  auto policy = as_owner();
  policy.unknown_as_job_user = true;
  EXPECT_EQ(choose(policy, "bob", {}).value(), kJobUser);
  EXPECT_EQ(choose(policy, "ada", {kAda, ""}).value(), kAda);
  // Not because the directory cannot say who it is.
  const auto later = choose(policy, "ada", {{}, "no answer within 10 s"});
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().code, Errc::unavailable);
  EXPECT_THAT(later.error().message, HasSubstr("cannot be looked up: no answer within 10 s"));
}

TEST(Account, RootAndTheSystemsAccountsAreRefused) {
  auto policy = as_owner();
  policy.unknown_as_job_user = true;  // no way round it
  Account root = kAda;
  root.name = "root";
  root.uid = 0;
  EXPECT_THAT(choose(policy, "root", {root, ""}).error().message, HasSubstr("--allow-root-jobs"));
  policy.allow_root = true;
  EXPECT_EQ(choose(policy, "root", {root, ""}).value(), root);
  Account daemon = kAda;
  daemon.name = "daemon";
  daemon.uid = 999;
  EXPECT_THAT(choose(policy, "daemon", {daemon, ""}).error().message, HasSubstr("below its --min-uid 1000"));
  policy.min_uid = 500;
  EXPECT_TRUE(choose(policy, "daemon", {daemon, ""}));
}

TEST(Account, AnIdThatMeansLeaveItAsItIsIsRefused) {
  for (const auto field : {&Account::uid, &Account::gid}) {
    Account none = kAda;
    none.*field = static_cast<std::uint32_t>(-1);
    EXPECT_THAT(choose(as_owner(), "ada", {none, ""}).error().message,
                HasSubstr("no usable user or group id"));
  }
}

TEST(Account, AnotherSpellingIsAnotherPerson) {
  EXPECT_THAT(choose(as_owner(), "Ada", {kAda, ""}).error().message, HasSubstr("under another name: ada"));
}

TEST(Account, NamesThatAreNone) {
  for (const char* name : {"ada", "ada.lovelace", "ada@example.org", "EXAMPLE\\ada", "a"})
    EXPECT_TRUE(may_be_account(name)) << name;
  for (const char* name : {"", "-l", "../ada", "a/b", "a:b", "a b", "a\nb", "a\tb", ".", ".."})
    EXPECT_FALSE(may_be_account(name)) << name;
  EXPECT_FALSE(may_be_account(std::string(300, 'a')));
}

TEST(Account, ItsLineComesBack) {
  EXPECT_EQ(parse_account(format_account(kAda)), kAda);
  Account bare = kAda;
  bare.groups.clear();
  EXPECT_EQ(parse_account(format_account(bare)), bare);
  for (const char* line : {"", "none", "1001", "1001\t1001\t1001\tada\t/home/ada", "x\t1\t1\tada\t/\t/bin/sh",
                           "1\t1\t1,x\tada\t/\t/bin/sh", "1\t1\t1\t\t/\t/bin/sh", "-1\t1\t1\tada\t/\t/bin/sh",
                           "1\t1\t1\tada\t/\t/bin/sh\tmore"})
    EXPECT_EQ(parse_account(line), std::nullopt) << line;
}

TEST(Account, NobodyIsGivenAShellThatSaysGoodBye) {
  EXPECT_EQ(login_shell("/bin/bash"), "/bin/bash");
  for (const char* shell : {"/usr/sbin/nologin", "/bin/false", ""}) EXPECT_EQ(login_shell(shell), "/bin/sh");
}

}  // namespace
}  // namespace tutti::worker
