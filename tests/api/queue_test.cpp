// GET /v1/queue: pages, filters, sums by reason, and what could be had now.
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;
using Ids = std::vector<std::int64_t>;

Ids ids(const json::value& list) {
  Ids out;
  for (const auto& job : list.at("jobs").as_array()) out.push_back(job.at("id").as_int64());
  return out;
}

std::string spec(const std::string& name, const std::string& more = "") {
  return R"({"name":")" + name + R"(","run":"x")" + more + "}";
}

json::value by_reason(const json::value& queue, std::string_view code) {
  for (const auto& sum : queue.at("by_reason").as_array())
    if (sum.at("code").as_string() == code) return sum;
  return nullptr;
}

Ids all_pages(ApiRig& rig, const std::string& query, http::Headers headers = {}) {
  Ids all;
  std::string token;
  do {
    const auto page = rig.get("/v1/queue?" + query + "&page_token=" + token, headers).body();
    for (const auto id : ids(page)) all.push_back(id);
    token = page.at("next_page_token").as_string().c_str();
  } while (!token.empty() && all.size() < 10'000);
  return all;
}

TEST(QueuePages, AreTheQueueInPieces) {
  ApiRig rig;
  for (int i = 0; i < 5; ++i) rig.submit(spec("ready"));
  rig.submit(spec("later", R"(,"begin_time":"+1h")"));
  rig.submit(spec("held"));
  rig.submit(spec("urgent", R"(,"priority":95)"));
  rig.post("/v1/jobs/7:hold");
  const auto whole = rig.get("/v1/queue").body();
  EXPECT_EQ(ids(whole), (Ids{8, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(whole.at("total"), 8);
  EXPECT_EQ(whole.at("next_page_token"), "");
  for (const auto* size : {"1", "3", "5", "6", "7", "8"})
    EXPECT_EQ(all_pages(rig, "page_size=" + std::string(size)), ids(whole)) << size;
  const auto second = rig.get("/v1/queue?page_size=3&page_token=3").body();
  EXPECT_EQ(ids(second), (Ids{3, 4, 5}));
  EXPECT_EQ(second.at("jobs").at(0).at("position"), 3) << "urgent and two more are before it";
  EXPECT_EQ(second.at("total"), 8);
  EXPECT_EQ(ids(rig.get("/v1/queue?page_token=100").body()), (Ids{}));
  for (const auto* query : {"page_size=0", "page_size=x", "page_token=x", "page_token=-1"})
    EXPECT_EQ(rig.get("/v1/queue?" + std::string(query)).status(), 422) << query;
}

TEST(QueuePages, AreOfAProjectOrAUser) {
  ApiRig rig;
  rig.backend.add_project("nlp");
  rig.submit(spec("a", R"(,"project":"nlp")"), {{"Tutti-User", "ada"}});
  rig.submit(spec("b"), {{"Tutti-User", "ada"}});
  rig.submit(spec("c"), {{"Tutti-User", "bob"}});
  const auto nlp = rig.get("/v1/queue?project=nlp").body();
  EXPECT_EQ(ids(nlp), (Ids{1}));
  EXPECT_EQ(nlp.at("total"), 1);
  EXPECT_EQ(ids(rig.get("/v1/queue?user=ada").body()), (Ids{1, 2}));
  EXPECT_EQ(all_pages(rig, "user=ada&page_size=1"), (Ids{1, 2}));
  EXPECT_EQ(rig.get("/v1/queue?user=bob").body().at("jobs").at(0).at("position"), 2);
}

TEST(QueuePages, FindAllJobsOfWhoSeesFewFarBehindOthers) {
  ApiRig rig;
  rig.backend.add_project("nlp");
  rig.backend.add_project("secret");
  rig.submit_many(2100, [](JobSpec& other, int) {
    other.project = "secret";
    other.priority = 60;
  });
  for (int i = 0; i < 3; ++i) rig.submit(spec("mine", R"(,"project":"nlp")"));
  const auto ada = rig.user("ada", {{"nlp", Role::member}});
  EXPECT_EQ(all_pages(rig, "page_size=2", ada), (Ids{2101, 2102, 2103}));
  const auto page = rig.get("/v1/queue?page_size=2", ada).body();
  EXPECT_EQ(page.at("total"), 3) << "others are not counted";
  EXPECT_EQ(page.at("jobs").at(0).at("position"), 2100);
  EXPECT_EQ(rig.get("/v1/queue?page_size=1").body().at("total"), 2103);
}

void of_many_shapes(JobSpec& spec, int number) { spec.resources.cpus = 1 + number % 1000; }

TEST(QueuePages, OfManyJobsAreAsOfAMomentAgoAndNotMadeAnewForEachQuestion) {
  ApiRig rig;
  rig.submit_many(5'100, of_many_shapes);
  EXPECT_EQ(rig.get("/v1/queue?page_size=1").body().at("total"), 5'100);
  rig.submit(spec("another", R"(,"priority":95)"));
  rig.post("/v1/jobs/1:cancel");
  const auto kept = rig.get("/v1/queue?page_size=3").body();
  EXPECT_EQ(kept.at("total"), 5'100) << "as it was";
  EXPECT_EQ(ids(kept), (Ids{2, 3})) << "but nobody who does not wait any more";
  rig.backend.tick(1s);
  const auto now = rig.get("/v1/queue?page_size=3").body();
  EXPECT_EQ(now.at("total"), 5'100);
  EXPECT_EQ(ids(now), (Ids{5'101, 2, 3}));
}

TEST(QueuePages, ExplainOnlySoManyKindsOfJobsForOnePage) {
  ApiRig rig;
  rig.backend.add_node("n1", 1);
  rig.submit_many(1'000, of_many_shapes);
  const auto page = rig.get("/v1/queue?page_size=1000").body();
  std::size_t explained = 0;
  for (const auto& job : page.at("jobs").as_array())
    explained += job.at("reasons").at(0).at("code") != "other" ? 1 : 0;
  EXPECT_GE(explained, 100u);
  EXPECT_LE(explained, 400u) << "the others are not looked at one by one";
  EXPECT_GT(by_reason(page, "other").at("jobs").as_int64(), 0);
}

TEST(QueuePages, SayWhatAJobAsksForAndWhatItCouldHave) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.backend.add_node("n2", 8);
  rig.submit(spec("runs", R"(,"resources":{"gpus":8})"));
  rig.submit(spec("gang", R"(,"nodes":4,"resources":{"gpus":"H100:8"})"));
  rig.submit(spec("later", R"(,"begin_time":"+1h")"));
  const auto queue = rig.get("/v1/queue").body();
  ASSERT_EQ(ids(queue), (Ids{2, 3}));
  const auto& gang = queue.at("jobs").at(0);
  EXPECT_EQ(gang.at("nodes"), 4);
  EXPECT_EQ(gang.at("gpus_per_node"), 8);
  EXPECT_EQ(gang.at("gpu_model"), "H100");
  EXPECT_EQ(gang.at("project"), "default");
  EXPECT_EQ(gang.at("attempt"), 0);
  EXPECT_EQ(gang.at("best_available"), json::parse(R"({"nodes":1,"gpus":8})"));
  EXPECT_EQ(queue.at("jobs").at(1).at("best_available"), nullptr);
}

TEST(QueuePages, SumUpAllThatWaitByReason) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.submit(spec("runs", R"(,"resources":{"gpus":8})"));
  for (int i = 0; i < 3; ++i) rig.submit(spec("waits", R"(,"resources":{"gpus":4})"));
  rig.submit(spec("never", R"(,"resources":{"gpus":16})"));
  rig.submit(spec("later", R"(,"begin_time":"+1h")"));
  const auto queue = rig.get("/v1/queue?page_size=1").body();
  EXPECT_EQ(by_reason(queue, "gpus_busy").at("jobs"), 3);
  EXPECT_EQ(by_reason(queue, "gpus_busy").at("gpus"), 12);
  EXPECT_EQ(by_reason(queue, "gpus_busy").at("text"), "GPUs are busy");
  EXPECT_EQ(by_reason(queue, "never").at("jobs"), 1);
  EXPECT_EQ(by_reason(queue, "delayed").at("jobs"), 1);
  std::int64_t jobs = 0;
  for (const auto& sum : queue.at("by_reason").as_array()) jobs += sum.at("jobs").as_int64();
  EXPECT_EQ(jobs, queue.at("total").as_int64());
  EXPECT_EQ(queue.at("by_reason").at(0).at("code"), "never") << "16 GPUs, the most";
}

TEST(QueuePages, AreOfAReason) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.submit(spec("runs", R"(,"resources":{"gpus":8})"));
  for (int i = 0; i < 3; ++i) rig.submit(spec("waits", R"(,"resources":{"gpus":4})"));
  rig.submit(spec("never", R"(,"resources":{"gpus":16})"));
  rig.submit(spec("waits", R"(,"resources":{"gpus":4})"), {{"Tutti-User", "ada"}});
  rig.submit(spec("later", R"(,"begin_time":"+1h")"));
  const auto busy = rig.get("/v1/queue?reason=gpus_busy").body();
  EXPECT_EQ(ids(busy), (Ids{2, 3, 4, 6}));
  EXPECT_EQ(busy.at("total"), 4);
  EXPECT_EQ(busy.at("by_reason").as_array().size(), 3u) << "what else there is";
  EXPECT_EQ(all_pages(rig, "reason=gpus_busy&page_size=1"), (Ids{2, 3, 4, 6}));
  EXPECT_EQ(rig.get("/v1/queue?reason=gpus_busy&page_size=2").body().at("next_page_token"), "2");
  EXPECT_EQ(ids(rig.get("/v1/queue?reason=gpus_busy&user=ada").body()), (Ids{6}));
  EXPECT_EQ(ids(rig.get("/v1/queue?reason=delayed").body()), (Ids{7}));
  const auto none = rig.get("/v1/queue?reason=quota").body();
  EXPECT_EQ(ids(none), (Ids{}));
  EXPECT_EQ(none.at("total"), 0);
  for (const auto* query : {"reason=GPUs%20are%20busy", "reason=a%22b"})
    EXPECT_EQ(rig.get("/v1/queue?" + std::string(query)).status(), 422) << query;
}

}  // namespace
}  // namespace tutti::testing
