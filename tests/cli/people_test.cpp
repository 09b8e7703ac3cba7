// user, token, join-token, audit, usage, webhook, secret, explain --at, logs --first-failure: what is asked
// for and shown.
#include <gtest/gtest.h>

#include "tests/cli/fake_scheduler.h"
#include "tests/cli/pty_process.h"

namespace tutti::cli::test {
namespace {

json::value body_of(const FakeScheduler& scheduler, const std::string& method, const std::string& target) {
  const auto asked = scheduler.asked(method, target);
  return asked.empty() ? json::value() : json::parse(asked.back().body);
}

TEST(Users, AreListedAddedChangedAndRemoved) {
  FakeScheduler scheduler;
  const json::object ann{{"name", "ann"},
                         {"roles", json::object{{"*", "viewer"}, {"nlp", "member"}}},
                         {"has_password", true},
                         {"disabled", false},
                         {"created_by", "root"}};
  scheduler.routes.get("/v1/users", [&](const Request&) {
    return http::json(200, json::object{{"users", json::array{ann}}});
  });
  scheduler.routes.post("/v1/users", [&](const Request&) { return http::json(201, ann); });
  scheduler.routes.patch("/v1/users/{name}", [&](const Request&) { return http::json(200, ann); });
  scheduler.routes.del("/v1/users/{name}", [](const Request&) { return http::no_content(); });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"user", "list"}).out,
            "USER  ROLES                 PASSWORD  DISABLED  CREATED  BY\n"
            "ann   *=viewer, nlp=member  true      false              root\n");
  const Finished added = scheduler.run(
      {"user", "add", "ann", "--role", "nlp=member", "--role", "viewer", "--password-stdin"}, "pw one\n");
  EXPECT_EQ(added.out, "user ann is added\n") << added.err;
  EXPECT_EQ(body_of(scheduler, "POST", "/v1/users"),
            json::parse(R"({"name":"ann","password":"pw one","roles":{"nlp":"member","*":"viewer"}})"));
  EXPECT_EQ(scheduler.run({"user", "set", "ann", "--role", "nlp=none", "--disable"}).status, 0);
  EXPECT_EQ(body_of(scheduler, "PATCH", "/v1/users/ann"),
            json::parse(R"({"roles":{"nlp":null},"disabled":true})"));
  EXPECT_EQ(scheduler.run({"user", "set", "ann", "--no-password"}).status, 0);
  EXPECT_EQ(body_of(scheduler, "PATCH", "/v1/users/ann"), json::parse(R"({"password":""})"));
  EXPECT_EQ(scheduler.run({"user", "set", "ann"}).status, 2) << "nothing to change";
  EXPECT_EQ(scheduler.run({"user", "set", "ann", "--role", "=x"}).status, 2);
  EXPECT_EQ(scheduler.run({"user", "add", "bob"}).status, 2) << "no terminal to ask for a password";
  EXPECT_EQ(scheduler.run({"user", "remove", "ann"}).status, 2) << "nobody to ask";
  EXPECT_TRUE(scheduler.asked("DELETE", "/v1/users/ann").empty());
  EXPECT_EQ(scheduler.run({"user", "remove", "ann", "--dry-run"}).out, "would remove user ann\n");
  EXPECT_EQ(scheduler.run({"user", "remove", "ann", "-y"}).status, 0);
  EXPECT_EQ(scheduler.asked("DELETE", "/v1/users/ann").size(), 1U);
}

TEST(Users, APasswordIsAskedForTwice) {
  FakeScheduler scheduler;
  scheduler.routes.post("/v1/users",
                        [](const Request&) { return http::json(201, json::object{{"name", "bob"}}); });
  scheduler.start();
  PtyProcess tutti({"user", "add", "bob"}, scheduler.environment());
  tutti.wait_for_output("new password of bob: ");
  tutti.type("one\r");
  tutti.wait_for_output("once more: ");
  tutti.type("two\r");
  EXPECT_EQ(tutti.wait(), 2);
  EXPECT_TRUE(scheduler.asked().empty());
}

TEST(Users, ChangeTheirOwnPassword) {
  FakeScheduler scheduler;
  scheduler.routes.put("/v1/me/password", [](const Request&) { return http::no_content(); });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"password", "--password-stdin"}, "old one\nnew one\n").out,
            "your password is changed\n");
  EXPECT_EQ(body_of(scheduler, "PUT", "/v1/me/password"),
            json::parse(R"({"old":"old one","new":"new one"})"));
  EXPECT_EQ(scheduler.run({"password", "--password-stdin"}, "old one\n").status, 2);
}

TEST(Tokens, OnlyTheTokenIsOnStandardOutput) {
  FakeScheduler scheduler;
  scheduler.routes.post("/v1/tokens", [](const Request&) {
    return http::json(201,
                      json::object{{"id", 9}, {"token", "tutti_x"}, {"expires_at", "2030-01-01T00:00:00Z"}});
  });
  scheduler.routes.get("/v1/tokens", [](const Request&) {
    return http::json(
        200, json::object{{"tokens", json::array{json::object{{"id", 9},
                                                              {"user", "ann"},
                                                              {"name", "ci"},
                                                              {"scopes", json::array{"read", "submit"}},
                                                              {"expires_at", "2030-01-01T00:00:00Z"},
                                                              {"last_used_from", "10.0.0.7"}}}}});
  });
  scheduler.routes.del("/v1/tokens/{id}", [](const Request& request) {
    return request.param("id") == "404" ? http::problem(404, "not_found", "no token 404")
                                        : http::no_content();
  });
  scheduler.routes.post("/v1/join-tokens", [](const Request&) {
    return http::json(201, json::object{{"id", 3}, {"token", "join_x"}});
  });
  scheduler.start();
  const Finished made =
      scheduler.run({"token", "create", "ci", "--scopes", "read,submit", "--expires-in", "90d"});
  EXPECT_EQ(made.out, "tutti_x\n");
  EXPECT_NE(made.err.find("shown this once"), std::string::npos);
  EXPECT_EQ(body_of(scheduler, "POST", "/v1/tokens"),
            json::parse(R"({"name":"ci","scopes":["read","submit"],"expires_in":"90d"})"));
  EXPECT_EQ(scheduler.run({"token", "create", "ci", "--scopes", "everything"}).status, 2);
  EXPECT_NE(scheduler.run({"token", "list", "--utc"}).out.find("read, submit"), std::string::npos);
  EXPECT_NE(scheduler.run({"token", "list", "-o", "wide"}).out.find("10.0.0.7"), std::string::npos);
  const Finished revoked = scheduler.run({"token", "revoke", "404", "9"});
  EXPECT_EQ(revoked.status, 3);
  EXPECT_EQ(revoked.out, "token 9 is revoked\n");
  EXPECT_EQ(scheduler.run({"join-token", "create", "--node", "n7", "--uses", "2", "--expires-in", "1h"}).out,
            "join_x\n");
  EXPECT_EQ(body_of(scheduler, "POST", "/v1/join-tokens"),
            json::parse(R"({"node":"n7","uses":2,"expires_in":"1h"})"));
}

TEST(Audit, CollectsPagesWithItsConditions) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/audit", [](const Request& request) {
    const bool second = request.query_param("page_token").has_value();
    return http::json(
        200, json::object{{"entries", json::array{json::object{{"id", second ? 1 : 2},
                                                               {"at", "2026-11-25T01:02:03Z"},
                                                               {"who", "ann"},
                                                               {"action", "jobs.cancel"},
                                                               {"target", "job 7"},
                                                               {"from", "10.0.0.7"},
                                                               {"before", json::object{{"state", "running"}}},
                                                               {"status", 200}}}},
                          {"next_page_token", second ? "" : "p 2"}});
  });
  scheduler.start();
  const Finished ended =
      scheduler.run({"audit", "--who", "ann", "--action", "jobs.cancel", "--since", "2026-11-01T00:00:00Z",
                     "--utc", "--columns", "id,who,target,before"});
  EXPECT_EQ(ended.out,
            "ID  WHO  TARGET  BEFORE\n 2  ann  job 7   {\"state\":\"running\"}\n 1  ann  job 7   "
            "{\"state\":\"running\"}\n")
      << ended.err;
  EXPECT_EQ(scheduler.asked().at(0).target,
            "/v1/audit?who=ann&action=jobs.cancel&since=2026-11-01T00%3A00%3A00.000000Z&page_size=100");
  EXPECT_NE(scheduler.asked().at(1).target.find("page_size=99&page_token=p%202"), std::string::npos);
}

TEST(Usage, IsATableInHoursWithATotal) {
  FakeScheduler scheduler;
  const auto row = [](const char* user, double gpu_seconds) {
    json::object row;
    if (*user != '\0') row["user"] = user;
    row["jobs"] = 3;
    row["gpu_seconds"] = gpu_seconds;
    row["node_seconds"] = 3600;
    row["lost_gpu_seconds"] = 360.0;
    row["lost_by_cause"] = json::object{{"gpu", 360.0}};
    row["wait_p50_seconds"] = 90;
    return row;
  };
  scheduler.routes.get("/v1/usage", [row](const Request&) {
    return http::json(200, json::object{{"since", "2026-11-01T00:00:00Z"},
                                        {"until", "2026-12-01T00:00:00Z"},
                                        {"group_by", json::array{"user"}},
                                        {"rows", json::array{row("ann", 7200), row("bob", 3600)}},
                                        {"total", row("", 10800)},
                                        {"cut", false}});
  });
  scheduler.start();
  const Finished ended = scheduler.run({"usage", "--group-by", "user,day", "--project", "nlp"});
  EXPECT_EQ(ended.out,
            "USER   JOBS  GPU HOURS  LOST GPU HOURS  WAIT P50\n"
            "ann       3        2.0             0.1        1m\n"
            "bob       3        1.0             0.1        1m\n"
            "total     3        3.0             0.1        1m\n")
      << ended.err;
  EXPECT_NE(ended.err.find("from 2026-11-01T00:00 to 2026-12-01T00:00 UTC"), std::string::npos) << ended.err;
  EXPECT_EQ(scheduler.asked().at(0).target, "/v1/usage?project=nlp&group_by=user%2Cday");
  EXPECT_EQ(scheduler.run({"usage", "-o", "csv", "--columns", "user,gpu hours"}).out,
            "USER,GPU HOURS\r\nann,2.0\r\nbob,1.0\r\n");
  EXPECT_EQ(scheduler.run({"usage", "--group-by", "colour"}).status, 2);
}

TEST(Webhooks, ASecretIsReadOrMadeAndNeverAnArgument) {
  FakeScheduler scheduler;
  scheduler.routes.put("/v1/webhooks/{name}", [](const Request& request) {
    const bool given = json::parse(request.body).as_object().contains("secret");
    return http::json(200,
                      json::object{{"name", "ops"}, {"secret", given ? json::value() : json::value("made")}});
  });
  scheduler.routes.post("/v1/webhooks/{name}:test", [](const Request& request) {
    const bool good = request.param("name") == "ops";
    return http::json(200, json::object{{"delivered", good}, {"status", good ? 204 : 500}, {"error", ""}});
  });
  scheduler.start();
  const Finished set =
      scheduler.run({"webhook", "set", "ops", "--url", "https://x/y", "--events", "failed,started", "--kind",
                     "slack", "--projects", "nlp", "--set", "enabled=false", "--secret-stdin"},
                    "sign me\n");
  EXPECT_EQ(set.out, "webhook ops is set\n") << set.err;
  EXPECT_EQ(
      body_of(scheduler, "PUT", "/v1/webhooks/ops"),
      json::parse(R"({"url":"https://x/y","kind":"slack","events":["failed","started"],"projects":["nlp"],
                            "enabled":false,"secret":"sign me"})"));
  EXPECT_EQ(scheduler.run({"webhook", "set", "ops", "--url", "https://x"}).out,
            "webhook ops is set\nits secret, shown this once: made\n");
  EXPECT_EQ(scheduler.run({"webhook", "set", "ops", "--kind", "slack"}).status, 2) << "no URL";
  const Finished good = scheduler.run({"webhook", "test", "ops"});
  EXPECT_EQ(good.out, "webhook ops: the test message was taken; its answer: 204\n");
  EXPECT_EQ(scheduler.run({"webhook", "test", "bad"}).status, 1);
}

TEST(Secrets, ComeFromStandardInput) {
  FakeScheduler scheduler;
  scheduler.routes.put("/v1/secrets/{project}/{name}", [](const Request&) {
    return http::json(200, json::object{{"version", 1}, {"warnings", json::array{"it is short"}}});
  });
  scheduler.routes.del("/v1/secrets/{project}/{name}", [](const Request&) { return http::no_content(); });
  scheduler.start();
  const Finished secret =
      scheduler.run({"secret", "set", "HF_TOKEN", "--project", "n p"}, "hf_1\nline two\n");
  EXPECT_EQ(secret.out, "secret HF_TOKEN of project n p is set\n");
  EXPECT_EQ(secret.err, "warning: it is short\n");
  EXPECT_EQ(body_of(scheduler, "PUT", "/v1/secrets/n%20p/HF_TOKEN"),
            json::parse(R"({"value":"hf_1\nline two"})"));
  EXPECT_EQ(scheduler.run({"secret", "set", "HF_TOKEN"}, "x").status, 2) << "no project";
  EXPECT_EQ(scheduler.run({"secret", "set", "HF_TOKEN", "--project", "p"}, "").status, 2) << "no value";
  EXPECT_EQ(scheduler.run({"secret", "set", "HF_TOKEN", "value", "--project", "p"}, "x").status, 2);
  EXPECT_EQ(scheduler.run({"secret", "remove", "HF_TOKEN", "--project", "p", "--dry-run"}).out,
            "would remove secret HF_TOKEN of project p\n");
  EXPECT_TRUE(scheduler.asked("DELETE", "/v1/secrets/p/HF_TOKEN").empty());
}

TEST(Explain, OfThePast) {
  FakeScheduler scheduler;
  bool old = false;
  scheduler.routes.get("/v1/jobs/{id}/explain", [&](const Request& request) {
    json::object body{
        {"job_id", 7},
        {"state", "queued"},
        {"reasons", json::array{json::object{{"code", "gpus_busy"}, {"text", "8 of 8 GPUs are busy"}}}}};
    if (const auto at = request.query_param("at"); at && !old) {
      body["at"] = *at;
      body["recorded_at"] =
          *at == "2026-11-01T00:00:00.000000Z" ? json::value("2026-10-31T23:59:00Z") : json::value(nullptr);
    }
    return http::json(200, body);
  });
  scheduler.start();
  const Finished then = scheduler.run({"explain", "7", "--at", "2026-11-01T00:00:00Z", "--utc"});
  EXPECT_EQ(then.status, 0) << then.err;
  EXPECT_NE(then.out.find("job 7 was queued (recorded 2026-10-31T23:59:00Z)"), std::string::npos) << then.out;
  EXPECT_NE(then.out.find("8 of 8 GPUs are busy"), std::string::npos) << then.out;
  EXPECT_NE(scheduler.run({"explain", "7", "--at", "2h"}).out.find("why was not recorded"),
            std::string::npos);
  EXPECT_EQ(scheduler.run({"explain", "7", "--at", "yesterday"}).status, 2);
  old = true;
  const Finished silent = scheduler.run({"explain", "7", "--at", "2h"});
  EXPECT_EQ(silent.status, 1) << "the answer is of now: it is not taken for one of then";
  EXPECT_NE(silent.err.find("too old"), std::string::npos) << silent.err;
}

TEST(Logs, TheRankThatFailedFirst) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs/{id}",
                       [](const Request&) { return http::json(200, job(7, "failed", {{"attempt", 2}})); });
  scheduler.routes.get("/v1/jobs/{id}/attempts", [](const Request&) {
    return http::json(200, json::parse(R"({"attempts":[{"number":2,"state":"ended","evidence":[
        {"kind":"exit","rank":0,"exit_code":0},{"kind":"exit","rank":5,"exit_code":1},{"kind":"exit","rank":3,"exit_code":1}]}]})"));
  });
  scheduler.routes.get("/v1/jobs/{id}/attempts/{n}/logs", [](const Request& request) {
    return http::text(200, "log of rank " + std::string(request.query_param("rank").value_or("?")) + "\n");
  });
  scheduler.start();
  const Finished ended = scheduler.run({"logs", "7", "--first-failure"});
  EXPECT_EQ(ended.out, "log of rank 5\n") << ended.err;
  EXPECT_EQ(ended.err, "rank 5 of attempt 2 failed first\n");
  EXPECT_EQ(scheduler.run({"logs", "7", "--first-failure", "--rank", "1"}).status, 2);
  EXPECT_EQ(scheduler.run({"logs", "7", "--first-failure", "-f"}).status, 2);
  EXPECT_EQ(scheduler.run({"logs", "7", "--first-failure", "--attempt", "1"}).status, 3);
}

TEST(Columns, AreChosenByTheirTitles) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs", [](const Request&) {
    return http::json(200, json::object{{"jobs", json::array{job(7, "queued")}}, {"next_page_token", ""}});
  });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"ls", "--columns", "state,ID,prio"}).out, "STATE   ID  PRIO\nqueued   7    50\n");
  EXPECT_EQ(scheduler.run({"ls", "--columns", "id", "-o", "csv"}).out, "ID\r\n7\r\n");
  const Finished unknown = scheduler.run({"ls", "--columns", "colour"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_NE(unknown.err.find("there are: id, name, state"), std::string::npos) << unknown.err;
  EXPECT_EQ(scheduler.run({"ls", "--columns", "id", "-o", "json"}).status, 2);
}

TEST(Sbatch, IsSubmittedAndSaysWhatItDidNotTake) {
  FakeScheduler scheduler;
  scheduler.routes.post("/v1/jobs", [](const Request&) { return http::json(201, job(7, "queued")); });
  scheduler.start();
  const std::string script = "#!/bin/sh\n#SBATCH -J a -N 2 --exclusive\necho \"$1\"\n";
  const Finished ended =
      scheduler.run({"sbatch", "-o", "out.txt", "--nodes=3", "-", "first argument"}, script);
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out, "job 7 (hello) queued\n");
  EXPECT_NE(ended.err.find("standard input:2: warning: --exclusive: "), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("sbatch: warning: --output: "), std::string::npos) << ended.err;
  const json::object sent = json::parse(scheduler.asked().at(0).body).as_object();
  EXPECT_EQ(sent.at("nodes").as_int64(), 3);
  EXPECT_EQ(sent.at("run").as_string(), "set -- 'first argument'\n" + script);
  EXPECT_EQ(scheduler.asked().at(0).key.size(), 36U);
  EXPECT_EQ(scheduler.run({"sbatch", "--parsable", "-"}, script).out, "7\n");
  EXPECT_EQ(json::parse(scheduler.run({"-o", "json", "sbatch", "--dry-run", "-"}, script).out)
                .as_object()
                .at("name")
                .as_string(),
            "a");
  const Finished wrong = scheduler.run({"sbatch", "-"}, "#!/bin/sh\n#SBATCH -N x\n#SBATCH --time=y\n");
  EXPECT_EQ(wrong.status, 2);
  EXPECT_NE(wrong.err.find("standard input:2: --nodes=x"), std::string::npos) << wrong.err;
  EXPECT_NE(wrong.err.find("standard input:3: --time=y"), std::string::npos) << wrong.err;
  EXPECT_EQ(scheduler.run({"sbatch", "/no/such/script"}).status, 2);
}

}  // namespace
}  // namespace tutti::cli::test
