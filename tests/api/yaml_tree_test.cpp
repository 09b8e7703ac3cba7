#include "api/wire/yaml_tree.h"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

namespace tutti::wire {
namespace {

std::string tree(std::string_view text) {
  boost::json::value value;
  const auto error = parse_strict_yaml(text, value);
  return error ? "refused: " + error->message : boost::json::serialize(value);
}

bool refused(std::string_view text, std::string_view why) {
  return tree(text).starts_with("refused: " + std::string(why));
}

TEST(YamlTree, OnlyCanonicalScalarsAreMoreThanText) {
  EXPECT_EQ(tree("[1, -7, 0, true, false, null, ~, NULL]"), "[1,-7,0,true,false,null,null,null]");
  EXPECT_EQ(tree("[1.10, 010, 0x1F, +1, -0, 1e3, yes, True, 1_000]"),
            R"(["1.10","010","0x1F","+1","-0","1e3","yes","True","1_000"])");
  EXPECT_EQ(tree("['1', \"true\", !!str 2]"), R"(["1","true","2"])");
  EXPECT_EQ(tree("a:\nb: ''"), R"({"a":null,"b":""})");
  EXPECT_EQ(tree("{85: x, true: y}"), R"({"85":"x","true":"y"})");
  EXPECT_EQ(tree(""), "null");
}

TEST(YamlTree, AliasesAreCopied) {
  EXPECT_EQ(tree("a: &x {k: [1, 2]}\nb: *x"), R"({"a":{"k":[1,2]},"b":{"k":[1,2]}})");
}

TEST(YamlTree, ABillionLaughsAreNotExpanded) {
  std::string text = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const auto p = "*l" + std::to_string(i - 1);
    text += "l" + std::to_string(i) + ": &l" + std::to_string(i) + " [" + p;
    for (int k = 0; k < 9; ++k) text += ", " + p;
    text += "]\n";
  }
  EXPECT_TRUE(refused(text, "too large"));
  const std::string long_text(200 << 10, 'x');
  EXPECT_TRUE(refused("a: &a " + long_text + "\nb: [*a, *a, *a, *a, *a, *a]", "too large"));
}

TEST(YamlTree, BoundsDepth) {
  EXPECT_TRUE(refused(std::string(33, '[') + std::string(33, ']'), "nested deeper"));
  EXPECT_TRUE(tree(std::string(32, '[') + std::string(32, ']')).starts_with("[["));
  EXPECT_TRUE(refused(std::string(100'000, '['), "")) << "however deep";
  // An alias inside deep nesting is deep, too.
  const auto half = std::string(20, '[') + "x" + std::string(20, ']');
  EXPECT_TRUE(refused("a: &a " + half + "\nb: " + std::string(20, '[') + "*a" + std::string(20, ']'),
                      "nested deeper"));
}

TEST(YamlTree, RefusesWhatIsAmbiguous) {
  EXPECT_TRUE(refused("a: 1\na: 2", "key 'a' is given twice"));
  EXPECT_TRUE(refused("1: x\n'1': y", "key '1' is given twice"));
  EXPECT_TRUE(refused("base: &b {x: 1}\nc:\n  <<: *b", "merge keys"));
  EXPECT_TRUE(refused("--- a\n--- b", "only one YAML document"));
  EXPECT_TRUE(refused("a: !Secret x", "tag"));
  EXPECT_TRUE(refused("[a]: b", "a key must be text"));
  EXPECT_TRUE(refused("a: &a [*a]", "")) << "an alias inside its own anchor";
  EXPECT_TRUE(refused("a: *nothing", ""));
  EXPECT_TRUE(refused("a: \"x\\0\"", "text must not hold NUL"));
  EXPECT_TRUE(refused(std::string_view("a: x\0y", 6), "the text holds NUL"));
  EXPECT_TRUE(refused("a: \xff", "the text is not UTF-8"));
  EXPECT_TRUE(refused("a: [", ""));
}

}  // namespace
}  // namespace tutti::wire
