// Role x route x ownership: every route of the API asked by everybody, held against one table. A new route
// that is in no row of the table fails the test.
#include <map>
#include <set>

#include "api_rig.h"

namespace tutti::testing {
namespace {

// What a row of the table says of each of the callers below: a allowed, f forbidden (403), n not found (404).
struct Row {
  std::string_view callers;
  std::set<std::string> routes;
};

// nobody in particular, a viewer, a member and an operator of the job's project, its owner (a member); a
// member, an operator and an admin of another project; viewer, member, operator, admin everywhere.
const std::vector<std::string> kCallers = {"stranger",   "viewer",       "member",         "operator",
                                           "owner",      "other_member", "other_operator", "other_admin",
                                           "all_viewer", "all_member",   "all_operator",   "all_admin"};
const std::vector<Row> kTable = {
    {"aaaaaaaaaaaa",
     {"docs.page",        "docs.file",         "health.get",       "health.live",    "health.ready",
      "openapi.get",      "sessions.login",    "sessions.logout",  "nodes.join",     "me.get",
      "me.set_password",  "tokens.list",       "tokens.create",    "tokens.revoke",  "jobs.list",
      "queue.get",        "events.list",       "queues.list",      "queues.get",     "projects.list",
      "projects.get",     "reservations.list", "reservations.get", "nodes.list",     "nodes.get",
      "nodes.inspection", "gpus.list",         "faults.list",      "cluster.get",    "metrics.get",
      "secrets.list",     "usage.get",         "projects.usage",   "map.get",        "plan.get",
      "jobs.count",       "faults.summary",    "history.get",      "history.map",    "history.cluster",
      "history.queue",    "history.decisions", "nodes.score",      "nodes.attempts", "nodes.inspections",
      "projects.waits",   "nodes.metrics"}},
    {"naaaannnaaaa",
     {"jobs.get", "jobs.explain", "jobs.events", "attempts.list", "attempts.logs", "attempts.evidence",
      "attempts.metrics", "checkpoints.list", "jobs.simulate_change"}},
    {"nffaannnffaa",
     {"attempts.exec", "jobs.update", "jobs.cancel", "jobs.hold", "jobs.release", "jobs.requeue",
      "jobs.signal"}},
    {"ffaaaaaafaaa", {"jobs.bulk", "jobs.submit", "jobs.submit_batch", "jobs.simulate", "nodes.report"}},
    {"ffffffffffaa",
     {"queues.put",          "queues.delete",  "projects.put", "projects.delete",  "reservations.put",
      "reservations.delete", "nodes.cordon",   "nodes.drain",  "nodes.quarantine", "nodes.repair",
      "nodes.return",        "nodes.retire",   "nodes.resume", "nodes.inspect",    "nodes.off",
      "webhooks.list",       "webhooks.get",   "webhooks.put", "webhooks.delete",  "webhooks.test",
      "webhooks.deliveries", "history.replay", "report.get"}},
    {"fffaffffffaa", {"secrets.put", "secrets.delete"}},
    {"fffffffffffa",
     {"users.list", "users.create", "users.get", "users.change", "users.delete", "join_tokens.list",
      "join_tokens.create", "join_tokens.delete", "node_credentials.list", "node_credentials.revoke",
      "audit.list", "control_plane.get"}},
};

http::Headers headers_of(ApiRig& rig, const std::string& caller) {
  if (caller == "owner") return rig.user("owner", {{"nlp", Role::member}});
  if (caller == "stranger") return rig.user("stranger", {});
  const bool everywhere = caller.starts_with("all_"), other = caller.starts_with("other_");
  const auto role = parse_role(caller.substr(caller.find('_') + 1));
  return rig.user(caller, {{everywhere ? "*" : other ? "vision" : "nlp", role.value()}});
}

std::string path_of(std::string pattern, JobId job) {
  const std::map<std::string, std::string> values = {
      {"{id}", to_string(job)}, {"{n}", "1"}, {"{name}", "THING"}, {"{project}", "nlp"}};
  for (const auto& [name, value] : values)
    if (const auto at = pattern.find(name); at != pattern.npos) pattern.replace(at, name.size(), value);
  return pattern;
}

// What the door says; an endpoint that runs may find its body wrong, or nothing of that name.
char verdict(const http::Response& answer, std::string_view route) {
  if (answer.status == 403) return 'f';
  const bool about_job = route.starts_with("/v1/jobs/{id}");
  if (answer.status == 404 && about_job && answer.body.find("no job ") != std::string::npos) return 'n';
  return 'a';
}

TEST(AccessMatrix, EveryRouteAnswersEverybodyAsTheTableSays) {
  int tried = 0;
  std::set<std::string> in_table;
  for (const auto& row : kTable)
    for (const auto& name : row.routes) EXPECT_TRUE(in_table.insert(name).second) << name << " twice";
  std::set<std::string> routes;
  {
    const ApiRig rig;
    for (const auto& route : rig.router.routes()) routes.insert(route.name);
  }
  EXPECT_EQ(routes, in_table);

  for (const auto& row : kTable) {
    for (std::size_t c = 0; c < kCallers.size(); ++c) {
      ApiRig rig;  // a fresh one: some requests change what the next would find
      rig.backend.add_project("nlp");
      const auto headers = headers_of(rig, kCallers[c]);
      for (const auto& route : rig.router.routes()) {
        if (!row.routes.contains(route.name)) continue;
        const JobId job =
            rig.submit(R"({"name":"a","run":"true","project":"nlp"})", {{"Tutti-User", "owner"}});
        const auto call = rig.start(route.method, path_of(route.pattern, job), "", headers);
        ++tried;
        ASSERT_TRUE(call->response || call->stream) << route.name;
        EXPECT_EQ(verdict(*call->response, route.pattern), row.callers[c])
            << kCallers[c] << " on " << route.name << ": " << call->response->status << " "
            << call->response->body;
      }
    }
  }
  std::cout << tried << " combinations of role, route and ownership\n";
}

TEST(AccessMatrix, AJobOfAnotherProjectIsNotFoundByItsNameEither) {
  ApiRig rig;
  rig.backend.add_project("nlp");
  rig.backend.add_project("vision");
  const auto ada = rig.user("ada", {{"nlp", Role::member}});
  const auto old = rig.submit(R"({"name":"train","run":"true","project":"nlp"})");
  rig.submit(R"({"name":"train","run":"true","project":"vision"})");
  const auto mine = rig.get("/v1/jobs/train", ada);
  ASSERT_EQ(mine.status(), 200);
  EXPECT_EQ(mine.body().at("id"), old.value) << "the newest of those that she may see";
  EXPECT_EQ(mine.header("Tutti-Ambiguous"), "");
  EXPECT_EQ(rig.get("/v1/jobs/train").header("Tutti-Ambiguous"), "2");
  rig.submit(R"({"name":"secret-plan","run":"true","project":"vision"})");
  const auto hidden = rig.get("/v1/jobs/secret-plan", ada), missing = rig.get("/v1/jobs/secret-plam", ada);
  EXPECT_EQ(hidden.status(), 404);
  EXPECT_EQ(missing.status(), 404);
}

TEST(AccessMatrix, AFinishedJobIsGuardedAsALiveOne) {
  ApiRig rig;
  rig.backend.add_project("nlp");
  const auto job = rig.submit(R"({"name":"a","run":"true","project":"nlp"})");
  rig.post("/v1/jobs/" + to_string(job) + ":cancel");
  const auto path = "/v1/jobs/" + to_string(job);
  EXPECT_EQ(rig.get(path, rig.user("eve", {{"vision", Role::admin}})).status(), 404);
  EXPECT_EQ(rig.get(path, rig.user("vera", {{"nlp", Role::viewer}})).status(), 200);
}

}  // namespace
}  // namespace tutti::testing
