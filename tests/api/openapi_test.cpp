// openapi.json says what the routes are; the other tests hold every answer against it.
#include <set>

#include "api/wire/job_spec_codec.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

TEST(OpenApi, RoutesAndDocumentAgreeBothWays) {
  ApiRig rig;
  std::set<std::string> routes, described;
  for (const auto& route : rig.router.routes())
    routes.insert(lower(http::to_string(route.method)) + " " + route.pattern + " " + route.name);
  for (const auto& path : openapi().at("paths").as_object())
    for (const auto& operation : path.value().as_object())
      described.insert(std::string(operation.key()) + " " + std::string(path.key()) + " " +
                       std::string(operation.value().at("operationId").as_string()));
  EXPECT_EQ(routes, described);
}

TEST(OpenApi, PathParametersAreDescribed) {
  for (const auto& path : openapi().at("paths").as_object()) {
    std::set<std::string> in_pattern, described;
    const std::string_view pattern = path.key();
    for (auto at = pattern.find('{'); at != pattern.npos; at = pattern.find('{', at + 1))
      in_pattern.emplace(pattern.substr(at + 1, pattern.find('}', at) - at - 1));
    for (const auto& operation : path.value().as_object()) {
      described.clear();
      if (const auto* parameters = operation.value().as_object().if_contains("parameters"))
        for (const auto& parameter : parameters->as_array())
          if (parameter.at("in") == "path") described.emplace(parameter.at("name").as_string());
      EXPECT_EQ(in_pattern, described) << pattern;
    }
  }
}

/// Every "$ref" of the document has a target.
void check_references(const json::value& value, const SchemaChecker& checker) {
  if (const auto* array = value.if_array())
    for (const auto& item : *array) check_references(item, checker);
  if (const auto* object = value.if_object()) {
    if (object->contains("$ref")) EXPECT_NO_THROW(checker.resolve(value));
    for (const auto& member : *object) check_references(member.value(), checker);
  }
}

TEST(OpenApi, ReferencesHaveTargets) { check_references(openapi(), SchemaChecker(openapi())); }

TEST(OpenApi, IsServed) {
  ApiRig rig;
  EXPECT_EQ(rig.get("/openapi.json").body(), openapi());
}

TEST(OpenApi, NamesOfStatesAndCausesAreThoseOfTheCode) {
  const auto& schemas = openapi().at("components").at("schemas");
  for (const auto state : kJobStates) {
    const auto& names = schemas.at("JobState").at("enum").as_array();
    EXPECT_NE(std::ranges::find(names, json::value(name(state))), names.end()) << name(state);
  }
  EXPECT_EQ(schemas.at("JobState").at("enum").as_array().size(), kJobStates.size());
  EXPECT_EQ(schemas.at("Cause").at("enum").as_array().size(), kCauseCount) << "null instead of none";
  for (const auto& cause : schemas.at("Cause").at("enum").as_array())
    if (cause.is_string()) EXPECT_TRUE(parse_cause(cause.get_string())) << cause;
}

TEST(OpenApi, TheSpecSchemaKnowsExactlyTheFieldsOfTheCodec) {
  const auto& properties =
      openapi().at("components").at("schemas").at("JobSpec").at("properties").as_object();
  for (const auto& property : properties) {
    const json::value spec = {{"name", "a"}, {"run", "x"}};
    auto tree = spec;
    if (property.key() != "name" && property.key() != "run") tree.as_object()[property.key()] = nullptr;
    EXPECT_TRUE(wire::parse_spec(tree, Now{}).ok()) << property.key();
  }
  JobSpec spec;
  spec.image = "/images/train";  // without one there are no mounts either
  const auto encoded = json::parse(wire::encode_spec(spec));
  for (const auto& member : encoded.as_object())
    EXPECT_TRUE(properties.contains(member.key())) << member.key();
  EXPECT_EQ(encoded.as_object().size() + 1, properties.size()) << "all but matrix, which becomes tasks";
}

TEST(SchemaCheck, FindsWhatIsWrong) {
  const auto document = json::parse(R"({"s":{"type":"object","required":["a"],"additionalProperties":false,
    "properties":{"a":{"type":["integer","null"],"minimum":1},"b":{"type":"array","items":{"enum":["x"]}}}}})");
  const SchemaChecker checker(document);
  const auto errors = [&](std::string_view text) {
    return checker.check(json::parse(text), json::parse(R"({"$ref":"#/s"})")).size();
  };
  EXPECT_EQ(errors(R"({"a":1,"b":["x"]})"), 0u);
  EXPECT_EQ(errors(R"({"a":null})"), 0u);
  EXPECT_EQ(errors(R"({})"), 1u);
  EXPECT_EQ(errors(R"({"a":1.5})"), 1u);
  EXPECT_EQ(errors(R"({"a":0})"), 1u);
  EXPECT_EQ(errors(R"({"a":1,"c":1})"), 1u);
  EXPECT_EQ(errors(R"({"a":1,"b":["x","y"]})"), 1u);
  EXPECT_EQ(errors(R"([])"), 1u);
}

}  // namespace
}  // namespace tutti::testing
