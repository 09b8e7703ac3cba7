// Secrets that are shown once, and passwords.
#include "api/access/credentials.h"

#include <gtest/gtest.h>
#include <sodium.h>

#include <set>

namespace tutti {
namespace {

class Credentials : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_GE(sodium_init(), 0); }
};

TEST_F(Credentials, ASecretIsFoundByItsIdAndProvenByTheRest) {
  const auto made = make_secret(kTokenPrefix);
  const auto given = split_secret(kTokenPrefix, made.text);
  ASSERT_TRUE(given);
  EXPECT_EQ(given->id, made.id);
  EXPECT_TRUE(matches(given->secret, made.hash));
  EXPECT_EQ(made.hash.size(), 64U);
  EXPECT_EQ(made.text.find(made.hash), std::string::npos);
}

TEST_F(Credentials, NoOtherFormIsTaken) {
  const auto made = make_secret(kTokenPrefix);
  EXPECT_FALSE(split_secret(kJoinPrefix, made.text));
  EXPECT_FALSE(split_secret(kTokenPrefix, made.text + "x"));
  EXPECT_FALSE(split_secret(kTokenPrefix, made.text.substr(0, made.text.size() - 1)));
  EXPECT_FALSE(split_secret(kTokenPrefix, ""));
  EXPECT_FALSE(split_secret(kTokenPrefix, "tutti_"));
  EXPECT_FALSE(matches("", made.hash));
  EXPECT_FALSE(matches("x", ""));
}

TEST_F(Credentials, EachIsAnother) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(ids.insert(make_secret("a").id).second);
}

TEST_F(Credentials, APasswordMatchesItsHashAlone) {
  const auto hash = hash_password("correct horse");
  EXPECT_TRUE(hash.starts_with("$argon2id$"));
  EXPECT_NE(hash, hash_password("correct horse")) << "salted";
  EXPECT_TRUE(password_matches("correct horse", hash));
  EXPECT_FALSE(password_matches("correct horsf", hash));
  EXPECT_FALSE(password_matches("", "")) << "no password is not an empty one";
}

TEST_F(Credentials, WeakPasswordsAreNamed) {
  EXPECT_EQ(password_problem("correct horse", "ada"), "");
  EXPECT_NE(password_problem("short", "ada"), "");
  EXPECT_NE(password_problem(std::string(300, 'x') + "y", "ada"), "");
  EXPECT_NE(password_problem("alexandria", "alexandria"), "");
  EXPECT_NE(password_problem("aaaaaaaaaaaa", "ada"), "");
}

}  // namespace
}  // namespace tutti
