#include "api/wire/strict_json.h"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

namespace tutti::wire {
namespace {

std::string refusal(std::string_view text) {
  boost::json::value value;
  const auto error = parse_strict_json(text, value);
  return error ? std::to_string(error->line) + ":" + std::to_string(error->column) + " " + error->message
               : "";
}

TEST(StrictJson, ReadsJson) {
  boost::json::value value;
  EXPECT_FALSE(parse_strict_json(" {\"a\":[1,2.5,\"x:{\\\"y\\\":\",null,true]}\n", value));
  EXPECT_EQ(boost::json::serialize(value), R"({"a":[1,2.5E0,"x:{\"y\":",null,true]})");
  EXPECT_FALSE(parse_strict_json("7", value));
  EXPECT_EQ(value, 7);
}

TEST(StrictJson, RefusesKeysGivenTwice) {
  EXPECT_EQ(refusal("{\"a\":1,\n\"b\":{\"a\":1},\n \"a\":2}"), "3:2 key 'a' is given twice");
  EXPECT_EQ(refusal(R"([{"x":{"k":1,"k":1}}])"), "1:14 key 'k' is given twice");
  EXPECT_EQ(refusal(R"({"a":1,"\u0061":2})"), "1:8 key 'a' is given twice") << "however it is written";
  EXPECT_EQ(refusal(R"([{"a":1},{"a":1}])"), "");
  EXPECT_EQ(refusal(R"({"a":"\"a\":1","b":":::"})"), "") << "colons inside of strings do not count";
}

TEST(StrictJson, RefusesNulAndBrokenUtf8) {
  EXPECT_EQ(refusal(R"({"a":"x\u0000"})"), "1:8 strings must not hold NUL (\\u0000)");
  EXPECT_NE(refusal(R"({"a\u0000":1})"), "");
  EXPECT_EQ(refusal(R"({"a":"\\u0000"})"), "") << "a backslash and a word";
  EXPECT_NE(refusal("{\"a\":\"\xff\"}"), "");
  EXPECT_NE(refusal("{\"a\":\"\xed\xa0\x80\"}"), "") << "half a surrogate pair";
  EXPECT_NE(refusal(R"({"a":"\ud800"})"), "");
}

TEST(StrictJson, BoundsDepth) {
  const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_EQ(refusal(nested(kMaxJsonDepth)), "");
  EXPECT_NE(refusal(nested(kMaxJsonDepth + 1)).find("nested deeper"), std::string::npos);
}

TEST(StrictJson, SaysWhere) {
  EXPECT_TRUE(refusal("{\"a\":1,\n  }").starts_with("2:3 "));
  EXPECT_TRUE(refusal("{} x").starts_with("1:4 "));
  EXPECT_NE(refusal(""), "");
  EXPECT_NE(refusal("{\"a\":1"), "");
  EXPECT_NE(refusal("{'a':1}"), "");
  EXPECT_NE(refusal("// c\n{}"), "");
}

}  // namespace
}  // namespace tutti::wire
