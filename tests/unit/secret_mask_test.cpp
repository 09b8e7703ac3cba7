#include "scheduler/model/secret_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "scheduler/model/redact.h"

namespace tutti {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::map<std::string, std::string> kSecrets = {{"HF_TOKEN", "hf_AbC/012+xyz"},
                                                     {"WANDB", "wandb-99-key"}};

// As a reader of a log does: piece by piece, wherever the borders fall, with what open_tail() says held back.
std::string in_pieces(const SecretMask& mask, const std::string& whole,
                      const std::vector<std::size_t>& borders) {
  std::string out;
  std::size_t from = 0;
  for (std::size_t border : borders) {
    border = std::max(border, from);
    // So far has the file been written: nothing behind the border can be seen yet.
    const std::string_view written = std::string_view(whole).substr(0, border);
    const std::size_t to = std::max(from, written.size() - mask.open_tail(written));
    const std::size_t begin = from - std::min(from, mask.reach());
    out += mask.text(written.substr(begin), from - begin, to - begin, false);
    from = to;
  }
  const std::size_t begin = from - std::min(from, mask.reach());
  return out + mask.text(std::string_view(whole).substr(begin), from - begin);
}

TEST(SecretMask, TakesValuesOutByName) {
  const SecretMask mask(kSecrets);
  EXPECT_EQ(mask.text("a hf_AbC/012+xyz b wandb-99-key."), "a ‹secret HF_TOKEN› b ‹secret WANDB›.");
  EXPECT_EQ(mask.text("hf_AbC/012+xyzwandb-99-key"), "‹secret HF_TOKEN›");
  EXPECT_EQ(mask.text("nothing"), "nothing");
  EXPECT_EQ(SecretMask().text("hf_AbC/012+xyz"), "hf_AbC/012+xyz");
  EXPECT_EQ(mask.binary("x wandb-99-key"), "x ************");
}

TEST(SecretMask, ShortValuesAreNotLookedFor) {
  EXPECT_TRUE(SecretMask({{"PIN", "12345"}}).empty());
  EXPECT_FALSE(SecretMask({{"PIN", "123456"}}).empty());
}

TEST(SecretMask, KnowsThemInJsonUrlsAndBase64) {
  const SecretMask mask({{"S", "pa\"ss/w\\rd+1"}});
  EXPECT_THAT(mask.text(R"({"p":"pa\"ss/w\\rd+1"})"), Not(HasSubstr("rd+1")));
  EXPECT_THAT(mask.text("https://x/?p=pa%22ss%2Fw%5Crd%2B1&q"), Not(HasSubstr("ss%2F")));
  // base64 of the value alone, and of "user:" + value, "a:" + value, "ab:" + value
  for (const std::string encoded :
       {"cGEic3Mvd1xyZCsx", "dXNlcjpwYSJzcy93XHJkKzE=", "YTpwYSJzcy93XHJkKzE=", "YWI6cGEic3Mvd1xyZCsx"}) {
    const auto text = mask.text("Authorization: Basic " + encoded);
    EXPECT_THAT(text, HasSubstr("‹secret S›")) << encoded;
    EXPECT_LE(text.size(), 21 + 14 + 9u) << text;  // but a character at its edges, which depends on others
  }
}

TEST(SecretMask, AValueOfSeveralLinesIsFoundLineByLine) {
  const SecretMask mask(
      {{"KEY", "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA7bq\nqwertyuiopasdfghjkl\n-----END KEY-----\n"}});
  EXPECT_THAT(mask.text("[0] MIIEpAIBAAKCAQEA7bq\n[0] qwertyuiopasdfghjkl\n"),
              testing::AllOf(Not(HasSubstr("MIIE")), Not(HasSubstr("qwerty"))));
}

TEST(SecretMask, AValueCutOffAtTheEndIsTakenOutToo) {
  const SecretMask mask(kSecrets);
  EXPECT_EQ(mask.text("token=hf_AbC/0"), "token=‹secret›");
  EXPECT_EQ(mask.text("wan"), "wan") << "a few letters say nothing";
}

TEST(SecretMask, BordersOfPiecesHideNothingAndShowNothing) {
  const SecretMask mask(kSecrets);
  const std::string text = "one hf_AbC/012+xyz two hf_hf_AbC/012+xyz wandb-99-keyhf_AbC/012+xyz\nend hf_Ab";
  const auto expected = mask.text(text);
  for (std::size_t a = 0; a <= text.size(); ++a)
    for (std::size_t b = a; b <= text.size(); ++b)
      ASSERT_EQ(in_pieces(mask, text, {a, b}), expected) << a << " " << b;
}

TEST(SecretMask, RandomTextsAndBorders) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    const auto letters = [&](std::size_t n) {
      std::string s;
      for (std::size_t i = 0; i < n; ++i) s += static_cast<char>('a' + random() % 2);  // overlaps and periods
      return s;
    };
    const std::string secret = letters(6 + random() % 6);
    const SecretMask mask({{"S", secret}});
    std::string text =
        letters(random() % 40) + secret + letters(random() % 10) + secret + letters(random() % 40);
    std::vector<std::size_t> borders;
    for (int i = 0; i < 3; ++i) borders.push_back(random() % (text.size() + 1));
    std::ranges::sort(borders);
    const auto masked = in_pieces(mask, text, borders);
    ASSERT_EQ(masked, mask.text(text)) << secret << " in " << text;
    ASSERT_EQ(masked.find(secret), std::string::npos) << secret << " in " << text;
  }
}

TEST(SecretMask, ASecretThatRepeatsItselfCostsNoTime) {
  const SecretMask mask({{"S", std::string(60'000, 'a')}, {"T", std::string(60'000, 'a') + "b"}});
  const std::string text(1 << 20, 'a');
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(mask.text(text), "‹secret S›");
  EXPECT_GT(mask.open_tail(text), 0u);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
}

TEST(Redactor, LeavesMasksWhole) {
  const Redactor redactor({}, {}, SecretMask(kSecrets));
  EXPECT_EQ(redactor.text("HF_TOKEN=hf_AbC/012+xyz x"), "HF_TOKEN=‹secret HF_TOKEN› x");
  EXPECT_EQ(redactor.text(R"({"api_key": "wandb-99-key"})"), R"({"api_key": "‹secret WANDB›"})");
  EXPECT_EQ(redactor.text("Authorization: Bearer hf_AbC/012+xyz"), "Authorization: Bearer ‹secret HF_TOKEN›");
  EXPECT_EQ(redactor.text("--api-key wandb-99-key"), "--api-key ‹secret WANDB›");
}

}  // namespace
}  // namespace tutti
