#include "api/http/router.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace tutti::http {
namespace {

SyncHandler named(std::string name) {
  return [name = std::move(name)](const Request& request) {
    std::string body = name;
    for (const auto& param : request.params) body += " " + param.name + "=" + param.value;
    return text(200, body);
  };
}

Router job_routes() {
  Router router;
  // Worst order on purpose: the most general first.
  router.get("/{file*}", named("console"));
  router.get("/v1/jobs/{id}", named("get"), "jobs.get");
  router.post("/v1/jobs/{id}:cancel", named("cancel"), "jobs.cancel");
  router.post("/v1/jobs/{id}:hold", named("hold"), "jobs.hold");
  router.get("/v1/jobs/summary", named("summary"));
  router.get("/v1/jobs", named("list"), "jobs.list");
  router.post("/v1/jobs", named("submit"), "jobs.submit");
  router.post("/v1/jobs:batch", named("batch"), "jobs.batch");
  router.get("/v1/jobs/{id}/attempts/{n}/logs", named("logs"));
  router.patch("/v1/jobs/{id}", named("patch"));
  return router;
}

Response call(const Router& router, Method method, std::string target) {
  Response answer;
  router.dispatch(Request::make(method, std::move(target)),
                  Responder::to([&answer](Response response) { answer = std::move(response); }));
  return answer;
}

TEST(Router, PrefersTheMoreExactRouteWhateverTheOrder) {
  const auto router = job_routes();
  EXPECT_EQ(call(router, Method::get, "/v1/jobs").body, "list");
  EXPECT_EQ(call(router, Method::get, "/v1/jobs/summary").body, "summary");
  EXPECT_EQ(call(router, Method::get, "/v1/jobs/42").body, "get id=42");
  EXPECT_EQ(call(router, Method::get, "/assets/a/b.js").body, "console file=assets/a/b.js");
  EXPECT_EQ(call(router, Method::get, "/").body, "console file=");
}

TEST(Router, KnowsVerbs) {
  const auto router = job_routes();
  EXPECT_EQ(call(router, Method::post, "/v1/jobs/42:cancel").body, "cancel id=42");
  EXPECT_EQ(call(router, Method::post, "/v1/jobs/42:hold").body, "hold id=42");
  EXPECT_EQ(call(router, Method::post, "/v1/jobs:batch").body, "batch");
  EXPECT_EQ(call(router, Method::post, "/v1/jobs/42:dance").status, 404);
  EXPECT_EQ(call(router, Method::post, "/v1/jobs/:cancel").status, 404) << "no id";
  EXPECT_EQ(call(router, Method::post, "/v1/jobs/1:2:cancel").status, 404) << "a ':' in an id is written %3A";
  EXPECT_EQ(call(router, Method::post, "/v1/jobs/1%3A2:cancel").body, "cancel id=1:2");
}

TEST(Router, DecodesParametersAfterSplitting) {
  const auto router = job_routes();
  EXPECT_EQ(call(router, Method::get, "/v1/jobs/a%2Fb/attempts/1/logs").body, "logs id=a/b n=1");
  EXPECT_EQ(call(router, Method::get, "/v1/jobs/%zz").status, 400);
}

TEST(Router, SaysWhatIsAllowed) {
  const auto router = job_routes();
  const auto refused = call(router, Method::del, "/v1/jobs");
  EXPECT_EQ(refused.status, 405);
  EXPECT_EQ(*find_header(refused.headers, "Allow"), "GET, HEAD, POST, OPTIONS");
  const auto options = call(router, Method::options, "/v1/jobs/42:cancel");
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(*find_header(options.headers, "Allow"), "POST, OPTIONS");
  EXPECT_EQ(call(router, Method::head, "/v1/jobs").status, 200) << "HEAD is answered by GET";
  EXPECT_EQ(call(router, Method::post, "/nowhere").status, 404) << "a catch-all GET does not make it 405";
}

TEST(Router, EnumeratesItsRoutes) {
  const auto router = job_routes();
  ASSERT_EQ(router.routes().size(), 10u);
  const auto& cancel = router.routes()[2];
  EXPECT_EQ(cancel.method, Method::post);
  EXPECT_EQ(cancel.pattern, "/v1/jobs/{id}:cancel");
  EXPECT_EQ(cancel.name, "jobs.cancel");
}

TEST(Router, RefusesTwoMeaningsForOneUrl) {
  auto router = job_routes();
  EXPECT_THROW(router.get("/v1/jobs/{name}", named("again")), std::invalid_argument);
  EXPECT_THROW(router.get("/v1/{x", named("broken")), std::invalid_argument);
  EXPECT_THROW(router.get("/v1/{x*}/more", named("tail first")), std::invalid_argument);
  EXPECT_THROW(router.get("v1", named("relative")), std::invalid_argument);
}

}  // namespace
}  // namespace tutti::http
