// Fields read tolerantly, and JSON written as YAML.
#include "cli/documents.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "api/wire/yaml_tree.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

TEST(Documents, MissingAndForeignFieldsAreNothing) {
  const json::object o = json::parse(R"({"n":7,"s":"x","null":null,"l":[1],"d":2.5,"b":true})").as_object();
  EXPECT_EQ(text_of(o, "n"), "7");
  EXPECT_EQ(text_of(o, "d"), "2.5");
  EXPECT_EQ(text_of(o, "null"), "");
  EXPECT_EQ(text_of(o, "l"), "");
  EXPECT_EQ(integer_of(o, "n"), 7);
  EXPECT_EQ(integer_of(o, "s"), std::nullopt);
  EXPECT_EQ(integer_of(o, "absent"), std::nullopt);
  EXPECT_TRUE(flag_of(o, "b"));
  EXPECT_FALSE(flag_of(o, "n"));
  EXPECT_EQ(array_of(o, "s").size(), 0U);
  EXPECT_EQ(object_of(o, "l").size(), 0U);
}

TEST(Documents, YamlReadsBackAsTheSameTree) {
  const json::value tree = json::parse(R"({
    "id": 7, "name": "llama", "nothing": null, "yes": true, "negative": -4,
    "texts": ["true", "no", "7", "1.10", "", "~", "null", "a: b", "# c", "- d", "two\nlines", "tab\there", "0x1f",
              "2026-11-25T01:02:03Z", "m\u00fcller", "'quoted'", "\"double\"", "{a}", "*x", "&y", "!z", "|", "%"],
    "empty": [], "none": {}, "nested": {"list": [{"a": 1}, {"b": [1, [2]]}]}, "no": "key", "a b": 1})");
  json::value back;
  const auto error = wire::parse_strict_yaml(to_yaml(tree), back);
  ASSERT_FALSE(error) << error->message << "\n" << to_yaml(tree);
  EXPECT_EQ(back, tree) << to_yaml(tree);
}

TEST(Documents, YamlIsForPeople) {
  EXPECT_EQ(to_yaml(json::parse(R"({"id":7,"name":"llama-sft","gpus":[0,1],"version":"1.10"})")),
            "id: 7\nname: llama-sft\ngpus:\n  - 0\n  - 1\nversion: \"1.10\"\n");
}

}  // namespace
}  // namespace tutti::cli
