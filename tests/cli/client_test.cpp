// What the client makes of answers, and how it waits; events cut out of a stream.
#include "cli/client.h"

#include <gtest/gtest.h>

#include "cli/children.h"
#include "cli/event_stream.h"

namespace tutti::cli {
namespace {

using std::chrono::milliseconds;

HttpReply reply(int status, std::string body) {
  HttpReply r;
  r.status = status;
  r.body = std::move(body);
  return r;
}

TEST(Client, AProblemBecomesOneLineAHintAndAnExitStatus) {
  const Failure failure = failure_of(reply(404, R"({"code":"job_not_found","title":"Not Found",
      "detail":"job 42 does not exist","hint":"tutti ls -a"})"));
  EXPECT_STREQ(failure.what(), "job 42 does not exist");
  EXPECT_EQ(failure.hint, "tutti ls -a");
  EXPECT_EQ(failure.exit, Exit::not_found);
  EXPECT_EQ(failure.problem.at("code").as_string(), "job_not_found");
}

TEST(Client, BadFieldsAreAllNamed) {
  const Failure failure = failure_of(reply(422, R"({"detail":"the job is not valid","errors":[
      {"field":"resources.gpus","message":"must be at least 0"},{"field":"nodse","message":"unknown field"}]})"));
  EXPECT_STREQ(failure.what(),
               "the job is not valid\n  resources.gpus: must be at least 0\n  nodse: unknown field");
  EXPECT_EQ(failure.exit, Exit::failed);
}

TEST(Client, NothingIsSaidTwiceAndHintsNameVerbs) {
  const Failure once = failure_of(reply(422, R"({"detail":"key was used","errors":[
      {"field":"Idempotency-Key","message":"key was used"},{"field":"nodse","message":"unknown","hint":"did you mean?"}],
      "hint":"did you mean?"})"));
  EXPECT_STREQ(once.what(), "key was used\n  nodse: unknown (did you mean?)");
  EXPECT_EQ(once.hint, "");
  const Failure missing =
      failure_of(reply(404, R"({"detail":"no job 9","hint":"GET /v1/jobs lists the jobs there are"})"));
  EXPECT_EQ(missing.hint, "tutti ls -a lists the jobs there are");
}

TEST(Client, StatusesBecomeExitStatuses) {
  for (const auto& [status, exit] : {std::pair{400, Exit::failed},
                                     {401, Exit::refused},
                                     {403, Exit::refused},
                                     {404, Exit::not_found},
                                     {409, Exit::failed},
                                     {429, Exit::refused},
                                     {500, Exit::failed},
                                     {503, Exit::unreachable},
                                     {302, Exit::failed}})
    EXPECT_EQ(failure_of(reply(status, "<html>")).exit, exit) << status;
}

TEST(Client, PausesDoubleAndHonourRetryAfter) {
  EXPECT_EQ(retry_pause(0, "", 1.0), milliseconds(200));
  EXPECT_EQ(retry_pause(3, "", 1.0), milliseconds(1600));
  EXPECT_EQ(retry_pause(30, "", 1.0), milliseconds(5000));
  EXPECT_EQ(retry_pause(0, "", 0.0), milliseconds(20));
  EXPECT_EQ(retry_pause(0, "2", 0.5), milliseconds(2000));
  EXPECT_EQ(retry_pause(0, "Fri, 31 Dec", 1.0), milliseconds(200));
}

TEST(Client, KeysDiffer) {
  EXPECT_NE(make_key(), make_key());
  EXPECT_EQ(make_key().size(), 36U);
}

TEST(Client, PathsAreEncoded) { EXPECT_EQ(percent_encode("a/b c:é"), "a%2Fb%20c%3A%C3%A9"); }

TEST(EventParser, CutsEventsWhereverTheBytesAreCut) {
  const std::string stream =
      ": hello\nid: 1\nevent: job\ndata: {\"a\":\ndata: 1}\n\n:beat\n\nid:2\r\ndata:x\r\n\r\nid: 3\ndata: "
      "half";
  for (std::size_t step = 1; step < 9; ++step) {
    EventParser parser;
    for (std::size_t at = 0; at < stream.size(); at += step) parser.feed(stream.substr(at, step));
    ServerEvent event;
    ASSERT_TRUE(parser.next(event));
    EXPECT_EQ(event.id, "1");
    EXPECT_EQ(event.type, "job");
    EXPECT_EQ(event.data, "{\"a\":\n1}");
    ASSERT_TRUE(parser.next(event));
    EXPECT_EQ(event.id, "2");
    EXPECT_EQ(event.type, "message");
    EXPECT_EQ(event.data, "x");
    EXPECT_FALSE(parser.next(event)) << "an event is over only at its empty line";
  }
}

TEST(RestartPause, IsNothingAtFirstThenDoublesToTenSeconds) {
  EXPECT_EQ(restart_pause(1), milliseconds(0));
  EXPECT_EQ(restart_pause(2), milliseconds(200));
  EXPECT_EQ(restart_pause(3), milliseconds(400));
  EXPECT_EQ(restart_pause(40), milliseconds(10'000));
}

}  // namespace
}  // namespace tutti::cli
