// Everything that openapi.json lets a stranger say, said with malice, through the real router and handlers:
// wrong types in every field, strings that would break out of SQL, paths, shells, headers and pages in every
// text, numbers that fit nowhere, keys given twice, text that is no text. Each answer is checked against the
// document (ApiRig::call), is never a 5xx, and says no to what the document says no to. The suite says how
// many inputs it has tried.
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/json/serialize.hpp>
#include <iostream>

#include "api/wire/utf8.h"
#include "api_rig.h"
#include "db/memory/memory_series.h"
#include "db/memory/memory_webhooks.h"
#include "scheduler/service/series_record.h"
#include "scheduler/service/webhooks.h"
#include "tests/api/hostile_inputs.h"
#include "tests/api/hostile_operations.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

int& tried() {
  static int count = 0;
  return count;
}
class Count : public ::testing::Environment {
  void TearDown() override {
    std::cout << "[inputs] " << tried() << " hostile inputs tried through the API\n";
  }
};
const auto* const kCount = ::testing::AddGlobalTestEnvironment(new Count);

/// Takes what webhooks send.
struct Sink final : Poster {
  void post(HttpPost, std::function<void(HttpPostAnswer)> done) override {
    done({.status = 204, .error = "", .took = {}, .retry_after = {}});
  }
};

/// A rig with one of everything.
struct World {
  boost::asio::io_context io{1};
  Sink sink;
  std::unique_ptr<Webhooks> webhooks;
  std::unique_ptr<SeriesRecord> series;
  ApiRig rig{[this](TestBackend& backend) {
    webhooks = std::make_unique<Webhooks>(
        io.get_executor(), backend,
        [](const std::function<void()>& work, const std::function<void(std::exception_ptr)>& done) {
          std::exception_ptr failure;
          try {
            work();
          } catch (...) {
            failure = std::current_exception();
          }
          done(failure);
        },
        std::make_shared<db::MemoryWebhooks>(), sink, Sealer("key", "webhooks"), WebhookSettings{});
    const Aside at_once = [](const std::function<void()>& work,
                             const std::function<void(std::exception_ptr)>& done) {
      work();
      done(nullptr);
    };
    const SeriesAside rows{at_once, std::make_shared<db::MemorySeries>()};
    series = std::make_unique<SeriesRecord>(backend, rows, rows);
    Services services;
    services.webhooks = webhooks.get();
    services.series = series.get();
    return services;
  }};
  ~World() { webhooks.reset(); }
  void settle() {
    for (int i = 0; i < 5; ++i) {
      webhooks->step();
      io.restart();
      io.poll();
    }
  }
  World() {
    webhooks->start();
    settle();
    for (int rank = -2; rank < 8; ++rank)
      rig.backend.logs[rank] = {"a line\n", true};  // nobody waits for more
    rig.backend.add_node("n1");
    rig.submit();
    rig.submit(R"({"name":"waits","run":"x","resources":{"gpus":8}})");
  }

  /// The status; the rig holds the answer against the document.
  int ask(const Operation& op, std::string target, std::string body = {}, http::Headers headers = {}) {
    ++tried();
    const auto call = rig.call(op.method, std::move(target), std::move(body), std::move(headers));
    settle();
    if (!call.response) return 0;
    EXPECT_LT(call.status(), 500) << call.response->body;
    EXPECT_TRUE(wire::is_utf8(call.response->body));
    for (const auto& header : call.response->headers)
      EXPECT_EQ(header.value.find_first_of(std::string_view("\r\n\0", 3)), std::string::npos) << header.name;
    return op.name() == "jobs.submit_batch" && call.status() == 200 ? worst_of(call.body()) : call.status();
  }

 private:
  static int worst_of(const json::value& batch) {
    int worst = 200;
    for (const auto& result : batch.at("results").as_array())
      worst = std::max(worst, static_cast<int>(result.at("status").as_int64()));
    EXPECT_LT(worst, 500) << json::serialize(batch);
    return worst;
  }
};

bool is_system(const Operation& op) { return op.pattern == "/metrics"; }

std::string full_spec() {
  return R"({"apiVersion":"v1","name":"llama-sft","project":"default","queue":"default","priority":50,"nodes":1,)"
         R"("resources":{"gpus":"H100:8","cpus":64,"memory":"800GB"},"launcher":"torchrun","labels":{"a":"b"},)"
         R"("run":"train.py --resume \"$RESUME_CHECKPOINT\"","time_limit":"24h","env":{"X":"é"},)"
         R"("checkpoint":{"dir":"/ckpt/llama-sft"},"retry":{"budget":{"user":0,"gpu":10,"preempted":-1}}})";
}

Operation submit_operation() {
  for (const auto& op : operations())
    if (op.name() == "jobs.submit") return op;
  throw std::runtime_error("jobs.submit is not in openapi.json");
}

TEST(HostileApi, MaliceInEveryParameterOfEveryRoute) {
  for (const auto& op : operations()) {
    if (is_system(op)) continue;
    SCOPED_TRACE(op.name());
    World world;
    const auto* schema = op.body_schema();
    const auto body = schema == nullptr ? std::string() : json::serialize(baseline(op));
    for (const auto& text : malice()) {
      for (const auto& p : op.parameters("path")) {
        if (text.empty()) continue;  // no such segment: another route
        const auto status = world.ask(op, op.target(std::string_view(p.at("name").as_string()), text), body);
        EXPECT_TRUE(status >= 200 && status < 500) << text;
      }
      for (const auto& p : op.parameters("query")) {
        const std::string name(p.at("name").as_string());
        const auto status = world.ask(
            op, op.target() + "?" + http::percent_encode(name) + "=" + http::percent_encode(text), body);
        const auto* type = p.at("schema").as_object().if_contains("type");
        const bool number = type != nullptr && *type == "integer";
        const bool is_number =
            !text.empty() && text.find_first_not_of("-0123456789") == std::string::npos && text.size() < 19;
        // A request that does not upgrade is told so first.
        if (number && !is_number)
          EXPECT_TRUE(status == 422 || status == 426) << name << "=" << text << ": " << status;
      }
      for (const auto& p : op.parameters("header")) {
        // What could come through a socket: no line breaks, no controls.
        if (std::ranges::any_of(text,
                                [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }))
          continue;
        world.ask(op, op.target(), body, {{std::string(p.at("name").as_string()), text}});
      }
    }
  }
}

TEST(HostileApi, MaliceInEveryTextOfEveryBody) {
  for (const auto& op : operations()) {
    const auto* schema = op.body_schema();
    if (schema == nullptr) continue;
    SCOPED_TRACE(op.name());
    for (const auto& path : fields_of(*schema)) {
      SCOPED_TRACE(name_of(path));
      World world;
      for (const auto& text : malice()) {
        auto body = baseline(op);
        put(body, path, 0, json::value(text));
        const auto status = world.ask(op, op.target(), json::serialize(body));
        if (!checker().check(body, *schema).empty())
          EXPECT_TRUE(status >= 400) << text << ": the document forbids it";
      }
    }
  }
}

TEST(HostileApi, AKeyOfAMapIsNoBetter) {
  const auto op = submit_operation();
  for (const char* map :
       {"env", "labels", "retry.budget", "retry.backoff", "retry.exit_codes", "matrix", "array.matrix"}) {
    SCOPED_TRACE(map);
    World world;
    for (const auto& text : malice()) {
      json::object spec{{"name", "a"}, {"run", "x"}};
      json::object entries{{text, "1"}};
      const std::string path(map);
      if (const auto dot = path.find('.'); dot != std::string::npos)
        spec[path.substr(0, dot)] = json::object{{path.substr(dot + 1), std::move(entries)}};
      else
        spec[path] = std::move(entries);
      const auto status = world.ask(op, "/v1/jobs", json::serialize(spec));
      EXPECT_TRUE(status == 201 || status == 422) << text << ": " << status;
    }
  }
}

TEST(HostileApi, EveryValueInEveryFieldOfEveryBody) {
  for (const auto& op : operations()) {
    const auto* schema = op.body_schema();
    if (schema == nullptr) continue;
    SCOPED_TRACE(op.name());
    for (const auto& path : fields_of(*schema)) {
      SCOPED_TRACE(name_of(path));
      World world;
      for (const auto& value : values()) {
        auto body = baseline(op);
        put(body, path, 0, value);
        const auto text = json::serialize(body);
        const auto status = world.ask(op, op.target(), text);
        if (!checker().check(body, *schema).empty())
          EXPECT_TRUE(status >= 400) << text << ": the document forbids it";
      }
    }
  }
}

TEST(HostileApi, WhatIsNoJsonIsRefusedInEveryFieldOfEveryBody) {
  for (const auto& op : operations()) {
    const auto* schema = op.body_schema();
    if (schema == nullptr) continue;
    SCOPED_TRACE(op.name());
    for (const auto& path : fields_of(*schema)) {
      SCOPED_TRACE(name_of(path));
      World world;
      for (const auto& raw : raw_values()) {
        auto body = baseline(op);
        put(body, path, 0, "@@");
        auto text = json::serialize(body);
        text.replace(text.find("\"@@\""), 4, raw);
        json::error_code error;
        json::parse(text, error);
        const auto status = world.ask(op, op.target(), text);
        if (error) EXPECT_TRUE(status == 400 || status == 422) << text;
      }
    }
  }
}

TEST(HostileApi, EveryPrefixOfASpecIsRefused) {
  World world;
  const auto op = submit_operation();
  const auto spec = full_spec();
  ASSERT_EQ(world.ask(op, "/v1/jobs", spec), 201);
  for (std::size_t n = 0; n < spec.size(); ++n)
    EXPECT_EQ(world.ask(op, "/v1/jobs", spec.substr(0, n)), 400) << n;
}

TEST(HostileApi, AnyOtherByteInASpecIsNeverAnErrorOfOurs) {
  const auto op = submit_operation();
  const auto spec = full_spec();
  for (std::size_t at = 0; at < spec.size(); ++at) {
    if (at % 50 != 0) continue;
    World world;
    for (std::size_t i = at; i < std::min(at + 50, spec.size()); ++i)
      for (const char byte : {'\0', '"', '\\', '{', ']', ',', '\xff', '9'}) {
        auto text = spec;
        text[i] = byte;
        world.ask(op, "/v1/jobs", text);
      }
  }
}

TEST(HostileApi, EveryKeyGivenTwiceIsRefused) {
  World world;
  const auto op = submit_operation();
  const auto spec = full_spec();
  int keys = 0;
  for (auto at = spec.find("\":"); at != std::string::npos; at = spec.find("\":", at + 1)) {
    const auto begin = spec.rfind('"', at - 1);
    const auto key = spec.substr(begin, at + 1 - begin);
    if (key.find_first_of(" $") != std::string::npos) continue;
    auto text = spec;
    text.insert(begin, key + ":1,");
    EXPECT_EQ(world.ask(op, "/v1/jobs", text), 400) << text;
    ++keys;
  }
  EXPECT_GT(keys, 15);
}

TEST(HostileApi, DeepNestingIsRefusedInEveryLanguage) {
  World world;
  for (const auto& op : operations()) {
    const auto* schema = op.body_schema();
    if (schema == nullptr) continue;
    SCOPED_TRACE(op.name());
    for (const int depth : {33, 100, 10'000, 500'000}) {
      const auto n = static_cast<std::size_t>(depth);
      std::string objects;
      for (int i = 0; i < depth; ++i) objects += "{\"a\":";
      for (const auto& text : {std::string(n, '['), std::string(n, '[') + std::string(n, ']'), objects,
                               objects + "1" + std::string(n, '}')}) {
        const auto status = world.ask(op, op.target(), text);
        EXPECT_TRUE(status == 400 || status == 422) << depth << ": " << status;
      }
    }
  }
  const auto op = submit_operation();
  const http::Headers yaml = {{"Content-Type", "application/yaml"}};
  for (const int depth : {33, 1000, 20'000}) {
    const auto n = static_cast<std::size_t>(depth);
    EXPECT_GE(world.ask(op, "/v1/jobs", "env: " + std::string(n, '[') + std::string(n, ']'), yaml), 400);
    EXPECT_GE(world.ask(op, "/v1/jobs", "env: " + std::string(n, '{') + std::string(n, '}'), yaml), 400);
    std::string dashes;
    for (int i = 0; i < depth; ++i) dashes += "- ";
    EXPECT_GE(world.ask(op, "/v1/jobs", dashes + "x", yaml), 400);
  }
}

TEST(HostileApi, YamlThatGrowsOrRefersOrIsNoTextIsRefused) {
  World world;
  const auto op = submit_operation();
  std::string laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 12; ++i) {
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) laughs += (j == 0 ? "*a" : ",*a") + std::to_string(i - 1);
    laughs += "]\n";
  }
  for (const auto& text :
       {laughs, std::string("a: &a [*a]"), std::string("name: a\nname: b\nrun: x"),
        std::string("name: !!python/object:os.system x\nrun: x"), std::string("name: \xff\nrun: x"),
        std::string("name: \"a\\0b\"\nrun: x"), std::string("--- \nname: a\nrun: x\n---\nname: b\nrun: x"),
        std::string("name: a\nrun: x\n<<: {priority: 100}"), std::string("? [a]\n: b"),
        std::string("%YAML 9.9\n---\nname: a"), std::string("\tname: a"),
        std::string("name: a\0run: x", 14)}) {
    const auto status = world.ask(op, "/v1/jobs", text, {{"Content-Type", "application/yaml"}});
    EXPECT_TRUE(status == 400 || status == 422) << text.substr(0, 200) << ": " << status;
  }
}

TEST(HostileApi, WhatIsTakenIsKeptAsItWasSaid) {
  for (const auto& text : malice()) {
    World world;
    json::object spec{{"name", text},
                      {"run", text},
                      {"env", json::object{{"X", text}}},
                      {"labels", json::object{{"l", text}}}};
    ++tried();
    const auto made = world.rig.post("/v1/jobs", json::serialize(spec));
    if (made.status() != 201) {
      EXPECT_EQ(made.status(), 422) << text;
      continue;
    }
    const auto id = std::to_string(made.body().at("id").as_int64());
    const auto kept = world.rig.get("/v1/jobs/" + id).body().at("spec");
    EXPECT_EQ(kept.at("name"), json::value(text));
    EXPECT_EQ(kept.at("run"), json::value(text));
    EXPECT_EQ(kept.at("env").at("X"), json::value(text));
    const auto found =
        world.rig.get("/v1/jobs?name=" + http::percent_encode(text)).body().at("jobs").as_array();
    EXPECT_EQ(found.size(), 1u) << "and it is found by it: " << text;
  }
}

TEST(HostileApi, ContentTypesAndEncodingsThatWeDoNotReadAreRefused) {
  World world;
  const auto op = submit_operation();
  for (const char* type :
       {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/xml", "application/jsonp", "application/json/x", "image/svg+xml", "*/*", "\xff"})
    EXPECT_EQ(world.ask(op, "/v1/jobs", full_spec(), {{"Content-Type", type}}), 415) << type;
}

}  // namespace
}  // namespace tutti::testing
