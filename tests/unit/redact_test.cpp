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

TEST(Redact, KnowsOptionsAndUrls) {
  const Redactor r({}, {});
  EXPECT_EQ(r.text("train --hf-token hf_abc --lr 0.1"), "train --hf-token [redacted] --lr 0.1");
  EXPECT_EQ(r.text(R"(["--api-key", "abc", "--x"])"), R"(["--api-key", "[redacted]", "--x"])");
  EXPECT_EQ(r.text("--use-auth --lr 0.1"), "--use-auth --lr 0.1");
  EXPECT_EQ(r.text("https://ada:pw1@host/x and git@host"), "https://ada:[redacted]@host/x and git@host");
  EXPECT_EQ(r.text("https://ghp_0123456789abcdef@github.com/a"), "https://[redacted]@github.com/a");
  EXPECT_EQ(r.text("https://git@github.com/a?b=c@d"), "https://git@github.com/a?b=c@d");
  EXPECT_EQ(r.text("http://host:80/a@b"), "http://host:80/a@b");
}

TEST(Redact, ValidJsonStaysValid) {
  const Redactor r({}, {});
  EXPECT_EQ(r.text(R"({"api_key": 123, "b": 1})"), R"({"api_key": "[redacted]", "b": 1})");
  EXPECT_EQ(r.text(R"({"password":null})"), R"({"password":null})");
  EXPECT_EQ(r.text(R"({"token": {"secret": "x"}})"), R"({"token": {"secret": "[redacted]"}})");
  EXPECT_EQ(r.text(R"({"last":"{\"token\": 12}"})"), R"({"last":"{\"token\": \"[redacted]\"}"})");
  EXPECT_EQ(r.text(R"({"max_tokens": 512, "TOKENS": 3})"), R"({"max_tokens": 512, "TOKENS": 3})");
}

}  // namespace
}  // namespace tutti
