// Webhooks: what operators set up, what is sent of what happens, and what becomes of it, over a real control
// plane and store in memory, with a server that a test plays.
#include "db/memory/memory_webhooks.h"

#include <sodium.h>

#include <boost/asio/io_context.hpp>
#include <boost/json/parse.hpp>
#include <deque>

#include "api_rig.h"
#include "scheduler/service/webhooks.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

/// Keeps what is sent until the test answers.
struct TestServer final : Poster {
  struct Sent {
    HttpPost post;
    std::function<void(HttpPostAnswer)> done;
    std::string header(std::string_view name) const {
      for (const auto& [key, value] : post.headers)
        if (key == name) return value;
      return "";
    }
  };
  std::deque<Sent> open;
  std::vector<std::string> bodies;  // of all that ever came
  int answer_at_once = 0;           // != 0: with this status
  void post(HttpPost post, std::function<void(HttpPostAnswer)> done) override {
    bodies.push_back(post.body);
    if (answer_at_once != 0)
      return done({.status = answer_at_once, .error = "", .took = {}, .retry_after = {}});
    open.push_back({std::move(post), std::move(done)});
  }
  void answer(HttpPostAnswer with) {
    ASSERT_FALSE(open.empty());
    auto one = std::move(open.front());
    open.pop_front();
    one.done(std::move(with));
  }
  void answer(int status) { answer({.status = status, .error = "", .took = {}, .retry_after = {}}); }
};

struct HookRig {
  HookRig() : rig([this](TestBackend& backend) { return serve(backend); }) {
    rig.put("/v1/projects/nlp", "{}");
    hooks->start();
    settle();
  }
  ~HookRig() { hooks.reset(); }

  Services serve(TestBackend& backend) {
    [[maybe_unused]] static const int ready = sodium_init();
    make(backend);
    return {.webhooks = hooks.get()};
  }
  void make(TestBackend& backend) {
    WebhookSettings settings;
    settings.max_attempts = 3;
    settings.burst = 5;
    settings.most_waiting = 50;
    settings.gap = {};  // time stands still while the test does not move it
    hooks = std::make_unique<Webhooks>(
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
        store, server, Sealer("key", "webhooks"), settings);
  }
  /// Everything that does not wait for time or for an answer.
  void settle() {
    for (int i = 0; i < 20; ++i) {
      hooks->step();
      io.restart();
      io.poll();
    }
  }
  void pass(Duration d) {
    rig.backend.tick(d);
    settle();
  }
  void put(const std::string& name, const std::string& more, int status = 200) {
    const auto made = rig.put("/v1/webhooks/" + name, R"({"url":"http://hooks.test/x")" + more + "}");
    EXPECT_EQ(made.status(), status) << made.response->body;
    settle();
  }
  json::value sent(std::size_t i) { return json::parse(server.open.at(i).post.body); }
  std::string state_of_newest(const std::string& name) {
    const auto all = rig.get("/v1/webhooks/" + name + "/deliveries").body().at("deliveries").as_array();
    return all.empty() ? "none" : std::string(all.front().at("state").as_string());
  }

  boost::asio::io_context io{1};
  std::shared_ptr<db::MemoryWebhooks> store = std::make_shared<db::MemoryWebhooks>();
  TestServer server;
  std::unique_ptr<Webhooks> hooks;
  ApiRig rig;
};

TEST(WebhookApi, ASecretIsShownOnceAndNeverAgain) {
  HookRig t;
  const auto made = t.rig.put("/v1/webhooks/ops", R"({"url":"https://hooks.test/x","events":["failed"]})");
  ASSERT_EQ(made.status(), 200) << made.response->body;
  const std::string secret(made.body().at("secret").as_string());
  EXPECT_TRUE(secret.starts_with("whsec_"));
  EXPECT_EQ(t.store->webhooks().front().secret.find(secret), std::string::npos) << "sealed at rest";
  EXPECT_EQ(Sealer("key", "webhooks").open(t.store->webhooks().front().secret), secret);
  EXPECT_EQ(Sealer("other", "webhooks").open(t.store->webhooks().front().secret), std::nullopt);
  EXPECT_EQ(t.rig.get("/v1/webhooks/ops").body().at("secret"), nullptr);
  const auto again = t.rig.put("/v1/webhooks/ops", R"({"url":"https://hooks.test/y","kind":"slack"})");
  EXPECT_EQ(again.body().at("secret"), nullptr) << "it stays";
  EXPECT_EQ(Sealer("key", "webhooks").open(t.store->webhooks().front().secret), secret);
  const auto given =
      t.rig.put("/v1/webhooks/ops", R"({"url":"https://hooks.test/y","secret":"0123456789abcdef"})");
  EXPECT_EQ(given.body().at("secret"), nullptr);
  EXPECT_EQ(Sealer("key", "webhooks").open(t.store->webhooks().front().secret), "0123456789abcdef");
  const auto list = t.rig.get("/v1/webhooks").body().at("webhooks").as_array();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].at("changed_by"), "admin");
  EXPECT_EQ(t.rig.del("/v1/webhooks/ops").status(), 200);
  EXPECT_EQ(t.rig.del("/v1/webhooks/ops").status(), 404);
  EXPECT_EQ(t.rig.get("/v1/webhooks/ops").status(), 404);
}

TEST(WebhookApi, ReadsTheBodyStrictly) {
  HookRig t;
  for (const auto body :
       {R"({})", R"([])", R"({"url":"ftp://x"})", R"({"url":"x"})", R"({"url":"http://"})",
        R"({"url":"http://u:p@x/"})", R"({"url":"http://x/#f"})", R"({"url":"http://x","kind":"xml"})",
        R"({"url":"http://x","events":["fialed"]})", R"({"url":"http://x","events":"failed"})",
        R"({"url":"http://x","secret":"short"})", R"({"url":"http://x","enabled":"yes"})",
        R"({"url":"http://x","headers":{}})", R"({"url":"http://x","projects":[1]})"})
    EXPECT_EQ(t.rig.put("/v1/webhooks/ops", body).status(), 422) << body;
  EXPECT_EQ(t.rig.put("/v1/webhooks/ops", R"({"url":"http://x","events":["fialed"]})").body().at("hint"),
            "did you mean 'failed'?");
  EXPECT_EQ(t.rig.put("/v1/webhooks/ops", "{").status(), 400);
  EXPECT_EQ(t.rig.put("/v1/webhooks/a%2Fb", R"({"url":"http://x"})").status(), 422);
  EXPECT_EQ(t.rig.get("/v1/webhooks/ops/deliveries").status(), 404);
  EXPECT_EQ(t.rig.post("/v1/webhooks/ops:test").status(), 404);
  t.put("ops", "");
  EXPECT_EQ(t.rig.get("/v1/webhooks/ops/deliveries?state=x").status(), 422);
  EXPECT_EQ(t.rig.get("/v1/webhooks/ops/deliveries?page_token=x").status(), 422);
  t.store->break_it(true);
  EXPECT_EQ(t.rig.put("/v1/webhooks/ops", R"({"url":"http://x"})").status(), 503);
  EXPECT_EQ(t.rig.del("/v1/webhooks/ops").status(), 503);
  EXPECT_EQ(t.rig.get("/v1/webhooks/ops/deliveries").status(), 503);
}

TEST(WebhookApi, IsForOperators) {
  HookRig t;
  t.put("ops", "");
  t.rig.sign_in(user("ada", {{"nlp", Role::operator_}}));
  EXPECT_EQ(t.rig.get("/v1/webhooks").status(), 403);
  EXPECT_EQ(t.rig.get("/v1/webhooks/ops").status(), 403);
  EXPECT_EQ(t.rig.put("/v1/webhooks/ops", R"({"url":"http://x"})").status(), 403);
  EXPECT_EQ(t.rig.del("/v1/webhooks/ops").status(), 403);
  EXPECT_EQ(t.rig.post("/v1/webhooks/ops:test").status(), 403);
  t.rig.sign_in(user("olga", {{"*", Role::operator_}}));
  EXPECT_EQ(t.rig.get("/v1/webhooks").status(), 200);
}

TEST(WebhookApi, WithoutTheServiceSaysSo) {
  ApiRig rig;
  EXPECT_EQ(rig.get("/v1/webhooks").status(), 501);
}

TEST(WebhookMessages, TellWhatWasAskedForAndSignIt) {
  HookRig t;
  t.put("ops", R"(,"events":["cancelled"],"secret":"0123456789abcdef")");
  t.rig.submit(R"({"name":"a","run":"x","project":"nlp","labels":{"k":"v"}})", {{"Tutti-User", "ada"}});
  t.settle();
  EXPECT_TRUE(t.server.open.empty()) << "nobody asked for queued";
  t.rig.post("/v1/jobs/1:cancel", R"({"reason":"<typo>"})");
  t.settle();
  ASSERT_EQ(t.server.open.size(), 1u);
  const auto& post = t.server.open[0].post;
  const auto body = t.sent(0);
  EXPECT_EQ(post.url, "http://hooks.test/x");
  EXPECT_EQ(body.at("notice"), "cancelled");
  EXPECT_EQ(body.at("event").at("from"), "queued");
  EXPECT_EQ(body.at("event").at("detail"), "cancelled by admin: <typo>");
  EXPECT_EQ(body.at("job").at("id"), 1);
  EXPECT_EQ(body.at("job").at("name"), "a");
  EXPECT_EQ(body.at("job").at("owner"), "ada");
  EXPECT_EQ(body.at("job").at("state"), "cancelled");
  EXPECT_EQ(body.at("job").at("labels").at("k"), "v");
  EXPECT_EQ(t.server.open[0].header("Tutti-Event"), "cancelled");
  EXPECT_EQ(t.server.open[0].header("Tutti-Delivery"), body.at("delivery").as_string().c_str());
  const auto signed_as = t.server.open[0].header("Tutti-Signature");
  const auto comma = signed_as.find(',');
  const auto time = signed_as.substr(2, comma - 2);
  EXPECT_EQ(signed_as.substr(comma), ",v1=" + hmac_sha256("0123456789abcdef", time + "." + post.body));
  t.server.answer(204);
  t.settle();
  EXPECT_EQ(t.state_of_newest("ops"), "delivered");
  EXPECT_TRUE(t.server.open.empty());
}

// As `printf 't.body' | openssl dgst -sha256 -hmac key` has it.
TEST(WebhookMessages, TheSignatureIsHmacSha256) {
  EXPECT_EQ(hmac_sha256("key", "The quick brown fox jumps over the lazy dog"),
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
  EXPECT_EQ(signature("key", Instant(std::chrono::seconds(5)), "x"), "t=5,v1=" + hmac_sha256("key", "5.x"));
}

TEST(WebhookMessages, AreWhatSlackReads) {
  HookRig t;
  t.put("ops", R"(,"events":["held"],"kind":"slack")");
  t.rig.submit(R"({"name":"a<b>&`c`","run":"x"})");
  t.rig.post("/v1/jobs/1:hold", R"({"reason":"see <http://x|y>"})");
  t.settle();
  ASSERT_EQ(t.server.open.size(), 1u);
  const auto body = t.sent(0);
  EXPECT_EQ(body.at("text"), "*held* job 1 `a&lt;b&gt;&amp;'c'`\nheld by admin: see &lt;http://x|y&gt;");
  EXPECT_EQ(body.at("blocks").at(0).at("type"), "section");
  EXPECT_EQ(body.at("blocks").at(0).at("text").at("type"), "mrkdwn");
  EXPECT_EQ(body.at("blocks").at(1).at("type"), "context");
  EXPECT_FALSE(body.as_object().contains("delivery"));
}

TEST(WebhookMessages, OfAJobThatAsksForThem) {
  HookRig t;
  t.put("mine", "");
  const auto made = t.rig.post(
      "/v1/jobs", R"({"name":"a","run":"x","notify":[{"on":["held","ended"],"to":"webhook:mine"}]})");
  ASSERT_EQ(made.status(), 201) << made.response->body;
  EXPECT_EQ(made.header("Tutti-Warning").find("webhook"), std::string::npos);
  EXPECT_EQ(made.body().at("spec").at("notify").at(0).at("to"), "webhook:mine");
  t.rig.submit();
  t.rig.post("/v1/jobs/1:hold");
  t.rig.post("/v1/jobs/2:hold");
  t.rig.post("/v1/jobs/1:cancel");
  t.settle();
  ASSERT_EQ(t.server.bodies.size(), 2u) << "job 2 asks for nothing";
  EXPECT_EQ(t.sent(0).at("notice"), "held");
  EXPECT_EQ(t.sent(1).at("notice"), "cancelled") << "also of one that is over by now";
}

TEST(WebhookMessages, UnknownWebhooksAreAWarning) {
  HookRig t;
  const std::string spec = R"({"name":"a","run":"x","notify":[{"on":"failed","to":"webhook:nobody"}]})";
  EXPECT_NE(t.rig.post("/v1/jobs", spec).header("Tutti-Warning").find("webhook 'nobody' does not exist"),
            std::string::npos);
  t.put("nobody", R"(,"enabled":false)");
  EXPECT_NE(t.rig.post("/v1/jobs", spec).header("Tutti-Warning").find("is not enabled"), std::string::npos);
  t.put("nobody", R"(,"projects":["nlp"])");
  EXPECT_NE(t.rig.post("/v1/jobs", spec).header("Tutti-Warning").find("not told of project 'default'"),
            std::string::npos);
  for (const auto notify :
       {R"([{"on":["fialed"],"to":"webhook:x"}])", R"([{"on":["failed"],"to":"mailto:x"}])",
        R"([{"on":["failed"]}])", R"([{"to":"webhook:x"}])", R"({"on":"failed"})",
        R"([{"on":["node_dead"],"to":"webhook:x"}])", R"([{"on":["failed"],"to":"webhook:a b"}])"})
    EXPECT_EQ(
        t.rig.post("/v1/jobs", R"({"name":"a","run":"x","notify":)" + std::string(notify) + "}").status(),
        422)
        << notify;
}

TEST(WebhookMessages, OfProjectsAndNodes) {
  HookRig t;
  t.put("nlp", R"(,"events":["queued","node_quarantined"],"projects":["nlp"])");
  t.put("all", R"(,"events":["node_quarantined"])");
  t.rig.submit();
  t.rig.submit(R"({"name":"b","run":"x","project":"nlp"})");
  t.rig.backend.add_node("n1");
  t.rig.post("/v1/nodes/n1:quarantine", R"({"reason":"smoke"})");
  t.settle();
  ASSERT_EQ(t.server.bodies.size(), 2u);
  auto of_job = json::parse(t.server.bodies[0]), node = json::parse(t.server.bodies[1]);
  if (of_job.at("webhook") != "nlp") std::swap(of_job, node);  // two webhooks, in any order
  EXPECT_EQ(of_job.at("job").at("name"), "b");
  EXPECT_EQ(node.at("webhook"), "all");
  EXPECT_EQ(node.at("event").at("node"), "n1");
  EXPECT_EQ(node.at("job"), nullptr);
}

TEST(WebhookDelivery, IsTriedAgainLaterAndGivenUp) {
  HookRig t;
  t.put("ops", R"(,"events":["queued"])");
  t.rig.submit();
  t.settle();
  const std::string body = t.server.open.at(0).post.body;
  t.server.answer({.status = 500, .error = "oops", .took = {}, .retry_after = {}});
  t.settle();
  EXPECT_TRUE(t.server.open.empty()) << "not at once";
  auto row = t.store->deliveries("ops", {}, EventId(0), 1).front();
  EXPECT_EQ(row.error, "answered 500: oops");
  const Duration wait = row.next_at - t.rig.backend.now().wall;
  EXPECT_GE(wait, 2s);
  EXPECT_LE(wait, 5s);
  t.pass(6s);
  ASSERT_EQ(t.server.open.size(), 1u);
  EXPECT_EQ(t.server.open[0].post.body, body) << "the same again";
  t.server.answer({.status = 0, .error = "connection refused", .took = {}, .retry_after = {}});
  t.settle();
  EXPECT_GE(t.store->deliveries("ops", {}, EventId(0), 1).front().next_at - t.rig.backend.now().wall, 4900ms)
      << "twice as long";
  t.pass(11s);
  t.server.answer(302);
  t.settle();
  row = t.store->deliveries("ops", {}, EventId(0), 1).front();
  EXPECT_EQ(row.state, DeliveryState::dead);
  EXPECT_EQ(row.attempts, 3);
  EXPECT_EQ(
      row.error,
      "given up after 3 attempts; the last one: answered 302: redirects are not followed, set the new URL");
  t.pass(24h);
  EXPECT_TRUE(t.server.open.empty());
  const auto shown = t.rig.get("/v1/webhooks/ops/deliveries?state=dead").body().at("deliveries").at(0);
  EXPECT_EQ(shown.at("status"), 302);
  EXPECT_EQ(shown.at("next_at"), nullptr);
}

TEST(WebhookDelivery, AServerMaySayWhenToComeAgain) {
  HookRig t;
  t.put("ops", R"(,"events":["queued"])");
  t.rig.submit();
  t.settle();
  t.server.answer({.status = 429, .error = "", .took = {}, .retry_after = 90s});
  t.pass(60s);
  EXPECT_TRUE(t.server.open.empty());
  t.pass(31s);
  EXPECT_EQ(t.server.open.size(), 1u);
}

TEST(WebhookDelivery, LosesNothingOverARestart) {
  HookRig t;
  t.put("ops", R"(,"events":["queued"])");
  t.rig.submit();
  t.settle();
  ASSERT_EQ(t.server.open.size(), 1u);
  const auto first = t.server.open[0].header("Tutti-Delivery");
  // This process goes, with a message under way; while nobody pumps, another job comes.
  t.hooks->stop();
  t.server.open.clear();
  t.rig.submit();
  t.hooks = nullptr;
  t.make(t.rig.backend);
  t.hooks->start();
  t.settle();
  ASSERT_EQ(t.server.open.size(), 2u);
  EXPECT_EQ(t.server.open[0].header("Tutti-Delivery"), first) << "the same again: the receiver can tell";
  EXPECT_EQ(t.sent(1).at("job").at("id"), 2);
  t.server.answer(200);
  t.server.answer(200);
  t.settle();
  t.pass(1h);
  EXPECT_EQ(t.server.bodies.size(), 3u) << "and nothing else";
}

TEST(WebhookDelivery, WaitsForAStoreThatIsAway) {
  HookRig t;
  t.put("ops", R"(,"events":["queued"])");
  t.rig.submit();
  t.settle();
  t.store->break_it(true);
  t.server.answer(200);
  t.rig.submit();
  t.pass(10s);
  EXPECT_TRUE(t.server.open.empty()) << "what is not recorded is not sent again";
  t.store->break_it(false);
  t.pass(10s);
  ASSERT_EQ(t.server.open.size(), 1u);
  EXPECT_EQ(t.sent(0).at("job").at("id"), 2);
  EXPECT_EQ(t.server.bodies.size(), 2u);
}

TEST(WebhookDelivery, IsBoundedPerWebhook) {
  HookRig t;
  t.put("slow", R"(,"events":["queued"])");
  t.put("fast", R"(,"events":["queued"])");
  for (int i = 0; i < 80; ++i) t.rig.submit();
  t.settle();
  ASSERT_EQ(t.server.open.size(), 4u) << "two under way to each";
  // The bucket holds five, and leaks ten a second.
  for (int i = 0; i < 10 && !t.server.open.empty(); ++i) {
    t.server.answer(200);
    t.settle();
  }
  EXPECT_EQ(t.server.bodies.size(), 10u);
  EXPECT_TRUE(t.server.open.empty());
  t.pass(100ms);
  EXPECT_EQ(t.server.open.size(), 2u) << "one more of each";
  const auto dead = t.store->deliveries("slow", DeliveryState::dead, EventId(0), 100);
  EXPECT_EQ(dead.size(), 30u) << "of 80 the newest 50 are kept";
}

TEST(WebhookDelivery, OneThatWasOffIsNotToldLaterOfWhatItMissed) {
  HookRig t;
  t.put("ops", R"(,"events":["queued"])");
  t.put("ops", R"(,"events":["queued"],"enabled":false)");
  t.rig.submit();
  t.pass(10s);
  t.put("ops", R"(,"events":["queued"])");
  t.pass(10s);
  EXPECT_TRUE(t.server.bodies.empty());
  t.rig.submit();
  t.settle();
  ASSERT_EQ(t.server.bodies.size(), 1u);
  EXPECT_EQ(t.sent(0).at("job").at("id"), 2);
}

TEST(WebhookDelivery, ATestIsSentOnceAndNow) {
  HookRig t;
  t.put("ops", R"(,"enabled":false)");
  const auto call = t.rig.start(http::Method::post, "/v1/webhooks/ops:test");
  ASSERT_EQ(t.server.open.size(), 1u);
  EXPECT_EQ(t.sent(0).at("notice"), "test");
  EXPECT_EQ(t.server.open[0].header("Tutti-Event"), "test");
  t.server.answer({.status = 404, .error = "no such hook", .took = 12ms, .retry_after = {}});
  EXPECT_EQ(call->status(), 200);
  EXPECT_EQ(call->body().at("delivered"), false);
  EXPECT_EQ(call->body().at("status"), 404);
  EXPECT_EQ(call->body().at("error"), "no such hook");
  t.server.answer_at_once = 200;
  const auto good = t.rig.post("/v1/webhooks/ops:test");
  EXPECT_EQ(good.body().at("delivered"), true);
  EXPECT_TRUE(t.store->deliveries("ops", {}, EventId(0), 9).empty());
}

TEST(WebhookDelivery, PagesOfDeliveries) {
  HookRig t;
  t.server.answer_at_once = 200;
  t.put("ops", R"(,"events":["queued"])");
  for (int i = 0; i < 3; ++i) {
    t.rig.submit();
    t.settle();
  }
  const auto page = t.rig.get("/v1/webhooks/ops/deliveries?page_size=2").body();
  EXPECT_EQ(page.at("deliveries").as_array().size(), 2u);
  EXPECT_EQ(page.at("deliveries").at(0).at("job_id"), 3);
  const std::string next(page.at("next_page_token").as_string());
  const auto last = t.rig.get("/v1/webhooks/ops/deliveries?page_token=" + next).body();
  EXPECT_EQ(last.at("deliveries").as_array().size(), 1u);
  EXPECT_EQ(last.at("next_page_token"), "");
}

}  // namespace
}  // namespace tutti::testing
