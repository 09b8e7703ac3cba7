// What must not leave in a bundle, and what must stay readable.
#include "scheduler/model/redact.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

TEST(Redact, KnowsSecretNames) {
  for (const char* name : {"HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "token",
                           "api-key", "GITHUB_PAT", "MY_KEYS", "GOOGLE_APPLICATION_CREDENTIALS", "X-Auth"})
    EXPECT_TRUE(is_secret_name(name)) << name;
  for (const char* name : {"TOKENIZERS_PARALLELISM", "PATH", "PWD", "KEYBOARD", "MONKEY", "NCCL_DEBUG",
                           "TUTTI_ATTEMPT_KEY", "PATIENCE", "AUTHOR", "key", ""})
    EXPECT_FALSE(is_secret_name(name)) << name;
}

TEST(Redact, TakesOutValuesOfTheJobsSecretVariables) {
  const Redactor r({{"HF_TOKEN", "hf_abcdef123"}, {"MODE", "production"}, {"SHORT_KEY", "abc"}},
                   {"worker-token-1"});
  EXPECT_EQ(r.text("loading with hf_abcdef123 in production, abc, worker-token-1"),
            "loading with [redacted] in production, abc, [redacted]");
}

TEST(Redact, TakesOutWhatLooksLikeOne) {
  const Redactor r({}, {});
  EXPECT_EQ(r.text("export API_KEY=xyz; next"), "export API_KEY=[redacted]; next");
  EXPECT_EQ(r.text(R"({"password": "p w\"d", "user": "me"})"), R"({"password": "[redacted]", "user": "me"})");
  EXPECT_EQ(r.text(R"({"last":"{\"token\": \"abc\", \"n\": 1}"})"),
            R"({"last":"{\"token\": \"[redacted]\", \"n\": 1}"})");
  EXPECT_EQ(r.text("Authorization: Bearer eyJhbGciOi.x.y\nok"), "Authorization: [redacted]\nok");
  EXPECT_EQ(r.text("curl -H 'bearer abc123'"), "curl -H 'bearer [redacted]'");
  EXPECT_EQ(r.text("step 3 loss=0.25 lr: 1e-4"), "step 3 loss=0.25 lr: 1e-4");
  EXPECT_EQ(r.text("TOKEN="), "TOKEN=");
  EXPECT_EQ(r.text("token: "), "token: ");
  EXPECT_EQ(r.text(""), "");
}

TEST(Redact, FindsASecretInsideJson) {
  const Redactor r({{"DB_PASSWORD", "a\"b\\c\nde"}}, {});
  EXPECT_EQ(r.text(R"({"last":"saw a\"b\\c\nde here"})"), R"({"last":"saw [redacted] here"})");
}

TEST(Redact, KeepsTheLengthOfBinaryFiles) {
  const Redactor r({{"A_SECRET", "0123456789"}}, {});
  const std::string before(
      "x\0"
      "0123456789\xff",
      13);
  EXPECT_EQ(r.binary(before), std::string("x\0"
                                          "**********\xff",
                                          13));
}

}  // namespace
}  // namespace tutti
