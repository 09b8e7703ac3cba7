// --set, --env and --name, and when a file is sent as it is.
#include "cli/spec_file.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <sstream>

#include "cli/failure.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string after_set(const char* tree_text, const char* assignment) {
  json::value tree = json::parse(tree_text);
  apply_set(tree, assignment);
  return json::serialize(tree);
}

std::string usage_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.exit, Exit::usage);
    return failure.what();
  }
  return "no failure";
}

TEST(SpecEdits, SetChangesANestedFieldAndKeepsItsNeighbours) {
  EXPECT_EQ(after_set(R"({"resources":{"gpus":2,"cpus":8}})", "resources.gpus=4"),
            R"({"resources":{"gpus":4,"cpus":8}})");
}

TEST(SpecEdits, SetMakesWhatIsMissing) {
  EXPECT_EQ(after_set("{}", "retry.budget.user=3"), R"({"retry":{"budget":{"user":3}}})");
  EXPECT_EQ(after_set(R"({"retry":null})", "retry.budget.user=3"), R"({"retry":{"budget":{"user":3}}})");
}

TEST(SpecEdits, SetReadsValuesAsYamlWould) {
  EXPECT_EQ(after_set("{}", "a=true"), R"({"a":true})");
  EXPECT_EQ(after_set("{}", "a=2..4"), R"({"a":"2..4"})");
  EXPECT_EQ(after_set("{}", "a=1.10"), R"({"a":"1.10"})");
  EXPECT_EQ(after_set("{}", "a=[n1, n2]"), R"({"a":["n1","n2"]})");
  EXPECT_EQ(after_set("{}", "a='4'"), R"({"a":"4"})");
  EXPECT_EQ(after_set("{}", "a="), R"({"a":null})");
}

TEST(SpecEdits, ACommandLineStaysTextWhateverYamlWouldMakeOfIt) {
  EXPECT_EQ(after_set("{}", "run=echo a: b # c"), R"({"run":"echo a: b # c"})");
  EXPECT_EQ(after_set("{}", "run=train.py --lr=0.1"), R"({"run":"train.py --lr=0.1"})");
  EXPECT_EQ(after_set("{}", "run=*glob"), R"({"run":"*glob"})");
}

TEST(SpecEdits, SetReachesIntoListsAndAppends) {
  EXPECT_EQ(after_set(R"({"notify":[{"to":"a"}]})", "notify.0.to=b"), R"({"notify":[{"to":"b"}]})");
  EXPECT_EQ(after_set(R"({"exclude_nodes":["n1"]})", "exclude_nodes.1=n2"),
            R"({"exclude_nodes":["n1","n2"]})");
  EXPECT_NE(usage_of([] { after_set(R"({"l":[1]})", "l.2=x"); }).find("1 items"), std::string::npos);
}

TEST(SpecEdits, ADotInAKeyIsEscaped) {
  EXPECT_EQ(after_set("{}", R"(labels.a\.b=c)"), R"({"labels":{"a.b":"c"}})");
}

TEST(SpecEdits, RefusesWhatCannotBeMeant) {
  EXPECT_NE(usage_of([] { after_set("{}", "resources.gpus"); }).find("NAME=VALUE"), std::string::npos);
  EXPECT_NE(usage_of([] { after_set(R"({"run":"x"})", "run.y=1"); }).find("plain value"), std::string::npos);
  EXPECT_NE(usage_of([] { after_set("{}", "a..b=1"); }).find("empty"), std::string::npos);
  EXPECT_NE(usage_of([] { after_set("{}", "a=[1, 2"); }).find("--set"), std::string::npos);
}

TEST(SpecEdits, EnvIsAlwaysTextAndMayHoldEquals) {
  json::value tree = json::parse(R"({"env":{"A":"1"}})");
  apply_env(tree, "N=4");
  apply_env(tree, "URL=a=b");
  EXPECT_EQ(json::serialize(tree), R"({"env":{"A":"1","N":"4","URL":"a=b"}})");
}

TEST(SpecFile, WithoutEditsTheBytesAreSentAsTheyAre) {
  const std::string yaml = "# mine\nname:   x\nrun: {a: &b 1}\n";
  const SpecText sent = make_spec("job.yaml", yaml, {});
  EXPECT_EQ(sent.body, yaml);
  EXPECT_EQ(sent.content_type, "application/yaml");
  EXPECT_EQ(make_spec("job.json", "{}", {}).content_type, "application/json");
  EXPECT_EQ(make_spec("-", R"( {"run":"x"})", {}).content_type, "application/json");
  EXPECT_EQ(make_spec("-", "{run: x}", {}).content_type, "application/yaml");
}

TEST(SpecFile, WithEditsATreeIsSentAsJson) {
  SpecEdits edits;
  edits.set = {"nodes=2"};
  edits.env = {"LR=1.10"};
  edits.name = "new";
  const SpecText sent = make_spec("job.yaml", "name: old\nrun: x\nenv: {A: 1.10}\n", edits);
  EXPECT_EQ(sent.content_type, "application/json");
  EXPECT_EQ(json::parse(sent.body),
            json::parse(R"({"name":"new","run":"x","env":{"A":"1.10","LR":"1.10"},"nodes":2})"));
}

TEST(SpecFile, ABrokenFileIsNamedWithItsLine) {
  SpecEdits edits;
  edits.name = "n";
  EXPECT_NE(usage_of([&] { make_spec("job.yaml", "a: b\n c: d: e\n", edits); }).find("job.yaml:2:"),
            std::string::npos);
  EXPECT_NE(usage_of([&] { make_spec("-", "- a\n", edits); }).find("map"), std::string::npos);
}

TEST(SpecFile, IsBounded) {
  std::istringstream huge(std::string(kMaxSpecFile + 1, 'x')), empty(" \n");
  EXPECT_NE(usage_of([&] { read_spec_file("-", huge); }).find("1 MiB"), std::string::npos);
  EXPECT_NE(usage_of([&] { read_spec_file("-", empty); }).find("empty"), std::string::npos);
  EXPECT_NE(usage_of([&] { read_spec_file("/nonexistent/job.yaml", huge); }).find("cannot read"),
            std::string::npos);
}

}  // namespace
}  // namespace tutti::cli
