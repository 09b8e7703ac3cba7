#include "api/http/message.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "api/http/response_head.h"
#include "api/http/sse.h"

namespace tutti::http {
namespace {

TEST(Request, DecodesQueryParameters) {
  const auto request = Request::make(Method::get, "/v1/jobs?state=running&user=a%26b+c&follow&x=1%zz");
  EXPECT_EQ(request.path, "/v1/jobs");
  EXPECT_EQ(request.query_param("state"), "running");
  EXPECT_EQ(request.query_param("user"), "a&b c");
  EXPECT_EQ(request.query_param("follow"), "");
  EXPECT_EQ(request.query_param("x"), "1%zz") << "a broken escape is left as sent";
  EXPECT_EQ(request.query_param("absent"), std::nullopt);
  EXPECT_EQ(request.query_params().size(), 4u);
}

TEST(Request, FindsHeadersInAnyCase) {
  const auto request = Request::make(Method::get, "/", {}, {{"IDEMPOTENCY-key", "k1"}});
  EXPECT_EQ(request.header("Idempotency-Key"), "k1");
  EXPECT_FALSE(request.header("If-Match"));
}

TEST(Problem, HasTheMembersOfRfc9457AndOurs) {
  Problem what;
  what.status = 422;
  what.code = "invalid_spec";
  what.detail = "the job spec has 1 problem";
  what.hint = "see /openapi.json";
  what.errors.push_back({"resources.gpus", "must be at least 0"});
  what.extra["retryable"] = false;
  const auto response = problem(what);
  EXPECT_EQ(*find_header(response.headers, "content-type"), "application/problem+json");
  const auto body = boost::json::parse(response.body).as_object();
  EXPECT_EQ(body.at("type").as_string(), "urn:tutti:problem:invalid_spec");
  EXPECT_EQ(body.at("title").as_string(), "Unprocessable Content");
  EXPECT_EQ(body.at("status").as_int64(), 422);
  EXPECT_EQ(body.at("code").as_string(), "invalid_spec");
  EXPECT_EQ(body.at("errors").as_array().at(0).as_object().at("field").as_string(), "resources.gpus");
  EXPECT_EQ(body.at("retryable").as_bool(), false);
}

TEST(Responder, AnswersFiveHundredWhenItIsDroppedUnused) {
  std::vector<int> statuses;
  {
    auto responder = Responder::to([&](Response r) { statuses.push_back(r.status); });
  }
  EXPECT_EQ(statuses, std::vector<int>{500});
}

TEST(Responder, AnswersOnce) {
  std::vector<int> statuses;
  {
    auto responder = Responder::to([&](Response r) { statuses.push_back(r.status); });
    EXPECT_TRUE(responder.pending());
    responder.respond(text(200, "first"));
    EXPECT_FALSE(responder.pending());
    responder.respond(text(201, "second"));
    EXPECT_TRUE(responder.stream(200, {})->closed());
  }
  EXPECT_EQ(statuses, std::vector<int>{200});
}

TEST(Sse, PrefixesEveryLineOfTheData) {
  EXPECT_EQ(sse_event("7", "job", "a\nb\r\nc\rd"),
            "id: 7\nevent: job\ndata: a\ndata: b\ndata: c\ndata: d\n\n");
  EXPECT_EQ(sse_event("", "", ""), "data: \n\n");
}

TEST(Sse, CannotBeTrickedIntoMoreFields) {
  EXPECT_EQ(sse_event("1\ndata: forged", "e\r\n\r\n", "x"), "id: 1data: forged\nevent: e\ndata: x\n\n");
  EXPECT_EQ(sse_comment("a\nb"), ": a\n: b\n\n");
}

TEST(ResponseHead, TurnsLineBreaksInHeadersIntoSpaces) {
  std::string head;
  HeadOptions options;
  options.content_length = 2;
  write_head(head, 200, {{"X-Name", "a\r\nSet-Cookie: b"}, {"Content-Length", "99"}}, options);
  EXPECT_NE(head.find("X-Name: a  Set-Cookie: b\r\n"), std::string::npos);
  EXPECT_EQ(head.find("99"), std::string::npos) << "the length is ours to say";
  EXPECT_NE(head.find("Content-Length: 2\r\n"), std::string::npos);
}

}  // namespace
}  // namespace tutti::http
