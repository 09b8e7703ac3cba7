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

/// Fine UTF-8, bad intentions.
const std::vector<std::string>& malice() {
  static const std::vector<std::string> kAll = {
      "'; DROP TABLE job; --",
      "' OR '1'='1",
      "\" OR \"\"=\"",
      "1); DELETE FROM job; --",
      "\\'; SELECT pg_sleep(10); --",
      "$1",
      "$$; SELECT 1; $$",
      "%' AND 1=0 UNION SELECT token FROM api_token --",
      "\\x27",
      "../../../etc/passwd",
      "..\\..\\secret",
      "/etc/passwd",
      "%2e%2e%2f",
      "file:///etc/passwd",
      "a\r\nSet-Cookie: x=1",
      "a\nb",
      "<script>alert(1)</script>",
      "\"><img src=x onerror=alert(1)>",
      "{{7*7}}",
      "${jndi:ldap://x}",
      "$(id)",
      "`id`",
      "; id",
      "| id",
      "%s%n%x",
      "\xE2\x80\xAE"
      "txt",               // right to left
      "\xF0\x9F\x92\xA5",  // outside of the basic plane
      "\xEF\xBB\xBFx",     // a byte order mark
      "a\xCC\x81",         // a combining accent
      std::string(1, '\x01') + "\x7f\x1b[31m",
      " ",
      "",
      "null",
      "true",
      "NaN",
      "-1",
      "1e999",
      "0x10",
      "99999999999999999999",
      std::string(20'000, 'A'),
  };
  return kAll;
}

/// JSON values of every kind; a field takes few of them.
const std::vector<json::value>& values() {
  static const std::vector<json::value> kAll = {nullptr,
                                                true,
                                                false,
                                                0,
                                                -1,
                                                1,
                                                2147483648LL,
                                                std::int64_t{9223372036854775807},
                                                std::uint64_t{18446744073709551615u},
                                                1.5,
                                                -1e300,
                                                1e308,
                                                "",
                                                "x",
                                                "24h",
                                                json::array{},
                                                json::array{nullptr},
                                                json::array{1, "a"},
                                                json::array{json::array{json::array{}}},
                                                json::object{},
                                                json::object{{"x", 1}},
                                                json::object{{"", nullptr}},
                                                json::array{json::object{{"job", "x"}, {"when", 5}}}};
  return kAll;
}

/// What is written instead of a value; not all of it is JSON.
const std::vector<std::string>& raw_values() {
  static const std::vector<std::string> kAll = {"1e999",
                                                "-1e999",
                                                "1e-999",
                                                "123456789012345678901234567890",
                                                "-9223372036854775809",
                                                "0.1e1",
                                                "-0",
                                                "01",
                                                "+1",
                                                "1.",
                                                ".5",
                                                "0x10",
                                                "NaN",
                                                "Infinity",
                                                "nul",
                                                "True",
                                                "'x'",
                                                "\"\xff\"",
                                                "\"\xc0\xaf\"",
                                                "\"\xed\xa0\x80\"",
                                                "\"\\ud800\"",
                                                "\"\\udc00x\"",
                                                "\"\\u0000\"",
                                                "\"a\nb\"",
                                                "\"\\q\"",
                                                "\"",
                                                "[",
                                                "{",
                                                "[1,]",
                                                "{\"a\":1,}",
                                                "{\"a\":1,\"a\":2}",
                                                "{a:1}",
                                                "// x",
                                                "/**/1",
                                                "1 2",
                                                ""};
  return kAll;
}

const SchemaChecker& checker() {
  static const SchemaChecker kChecker(openapi());
  return kChecker;
}

using Path = std::vector<std::string>;  // "[]" is an item of a list

std::string name_of(const Path& path) {
  std::string out;
  for (const auto& part : path) out += (out.empty() || part == "[]" ? "" : ".") + part;
  return out;
}

/// The paths of all fields that a schema describes, members of maps and items of lists included.
void collect(const json::value& raw, const Path& at, std::vector<Path>& out, int depth = 0) {
  const auto& schema = checker().resolve(raw).as_object();
  if (!at.empty()) out.push_back(at);
  if (depth > 6) return;
  const auto into = [&](const std::string& part, const json::value& next) {
    auto path = at;
    path.push_back(part);
    collect(next, path, out, depth + 1);
  };
  if (const auto* properties = schema.if_contains("properties"))
    for (const auto& member : properties->as_object()) into(std::string(member.key()), member.value());
  if (const auto* more = schema.if_contains("additionalProperties"); more != nullptr && more->is_object())
    into("KEY", *more);
  if (const auto* items = schema.if_contains("items")) into("[]", *items);
  if (const auto* choices = schema.if_contains("anyOf"))
    for (const auto& choice : choices->as_array()) collect(choice, at, out, depth + 1);
}

std::vector<Path> fields_of(const json::value& schema) {
  std::vector<Path> all;
  collect(schema, {}, all);
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void put(json::value& into, const Path& path, std::size_t at, const json::value& value) {
  if (at == path.size()) {
    into = value;
    return;
  }
  if (path[at] == "[]") {
    if (!into.is_array()) into = json::array{nullptr};
    if (into.get_array().empty()) into.get_array().push_back(nullptr);
    return put(into.get_array()[0], path, at + 1, value);
  }
  if (!into.is_object()) into = json::object{};
  put(into.get_object()[path[at]], path, at + 1, value);
}

/// The least that satisfies the schema.
json::value least(const json::value& raw) {
  const auto& schema = checker().resolve(raw).as_object();
  if (const auto* values = schema.if_contains("enum")) return values->as_array().front();
  if (const auto* choices = schema.if_contains("anyOf")) return least(choices->as_array().front());
  const auto* types = schema.if_contains("type");
  const std::string type(types == nullptr     ? "object"
                         : types->is_string() ? types->get_string()
                                              : types->as_array().front().as_string());
  if (type == "string") return "x";
  if (type == "integer" || type == "number") return 1;
  if (type == "boolean") return true;
  if (type == "array") return json::array{};
  json::object out;
  if (const auto* required = schema.if_contains("required"))
    for (const auto& key : required->as_array())
      out[key.as_string()] = least(schema.at("properties").at(key.as_string()));
  return out;
}

struct Operation {
  http::Method method;
  std::string pattern;
  const json::object* described;

  std::string name() const { return std::string(described->at("operationId").as_string()); }
  const json::value* body_schema() const {
    const auto* body = described->if_contains("requestBody");
    if (body == nullptr) return nullptr;
    const auto* type = checker().resolve(*body).at("content").as_object().if_contains("application/json");
    return type == nullptr ? nullptr : &type->at("schema");
  }
  std::vector<json::object> parameters(std::string_view in) const {
    std::vector<json::object> out;
    if (const auto* all = described->if_contains("parameters"))
      for (const auto& parameter : all->as_array())
        if (const auto& p = checker().resolve(parameter).as_object(); p.at("in").as_string() == in)
          out.push_back(p);
    return out;
  }
  /// With real things in its path, so that a request comes as far as it can; `name` and `value`: one of them
  /// other.
  std::string target(std::string_view name = {}, std::string_view value = {}) const {
    std::string out;
    for (std::size_t at = 0; at < pattern.size();) {
      if (pattern[at] != '{') {
        out += pattern[at++];
        continue;
      }
      const auto end = pattern.find('}', at);
      const auto parameter = pattern.substr(at + 1, end - at - 1);
      out += http::percent_encode(parameter == name ? std::string(value) : real(parameter));
      at = end + 1;
    }
    return out;
  }

 private:
  std::string real(const std::string& parameter) const {
    if (parameter == "id" || parameter == "n") return "1";
    if (pattern.starts_with("/v1/nodes")) return "n1";
    return "default";
  }
};

std::vector<Operation> operations() {
  std::vector<Operation> out;
  for (const auto& path : openapi().at("paths").as_object())
    for (const auto& operation : path.value().as_object()) {
      std::string method(operation.key());
      for (char& c : method) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      out.push_back({http::method_from(method), std::string(path.key()), &operation.value().as_object()});
    }
  return out;
}

/// A body that would be taken, but for what a test puts into it.
json::value baseline(const Operation& op) {
  auto body = least(*op.body_schema());
  if (op.name() == "jobs.submit_batch")
    body = json::object{{"jobs", json::array{json::object{{"name", "x"}, {"run", "x"}}}}};
  return body;
}

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
