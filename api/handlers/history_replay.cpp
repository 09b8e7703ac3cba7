// POST /v1/history:replay: the jobs of a stretch of the past under several policies, in virtual time, on as
// many nodes as there are now. The planner itself (scheduler/replay), in a process of its own: one replay at
// a time, and not for long.
#include <algorithm>
#include <chrono>
#include <map>

#include "api/handlers/history.h"
#include "api/handlers/view.h"
#include "api/wire/strict_json.h"
#include "api/wire/text_values.h"
#include "scheduler/planner/policy.h"
#include "scheduler/replay/comparison.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::chrono::seconds kPatience{10};
constexpr std::size_t kMostPolicies = 5;
constexpr Duration kLongest = std::chrono::hours(24 * 31);
constexpr Duration kNoLimit = std::chrono::hours(24 * 30);  // as tutti simulate has it

struct Wish {
  Interval interval;
  std::vector<planner::Policy> policies;
};

Result<std::vector<planner::Policy>> read_policies(const json::value& value) {
  const auto* list = value.if_array();
  if (list == nullptr || list->empty() || list->size() > kMostPolicies)
    return bad_field("policies", "must be a list of 1 to " + std::to_string(kMostPolicies) + " policies",
                     std::string(planner::policy_names()));
  std::vector<planner::Policy> out;
  for (const auto& each : *list) {
    const auto* word = each.if_string();
    const auto policy = word == nullptr ? std::nullopt : planner::find_policy(std::string_view(*word));
    if (!policy)
      return bad_field("policies",
                       "no such policy: " + (word == nullptr ? "" : std::string(*word).substr(0, 100)),
                       std::string(planner::policy_names()));
    if (std::ranges::find(out, policy->name, &planner::Policy::name) != out.end())
      return bad_field("policies", "names " + std::string(policy->name) + " twice");
    out.push_back(*policy);
  }
  return out;
}

Result<Instant> read_time(const json::value& value, const std::string& field) {
  const auto* text = value.if_string();
  const auto at = text == nullptr ? std::nullopt : wire::parse_instant(std::string_view(*text));
  if (!at) return bad_field(field, "not an instant", "like 2026-10-01T00:00:00Z");
  return *at;
}

Result<Wish> read_wish(const json::value& body, Now now) {
  const auto* object = body.if_object();
  if (object == nullptr) return bad_field("body", "the body must be an object");
  Wish wish;
  for (const auto& member : *object) {
    const std::string key(member.key());
    if (key == "policies") {
      auto policies = read_policies(member.value());
      if (!policies) return policies.error();
      wish.policies = *std::move(policies);
    } else if (key == "since" || key == "until") {
      const auto at = read_time(member.value(), key);
      if (!at) return at.error();
      (key == "since" ? wish.interval.since : wish.interval.until) = *at;
    } else {
      return bad_field(key.substr(0, 100), "unknown field", "since, until and policies");
    }
  }
  for (const char* field : {"since", "until", "policies"})
    if (!object->contains(field)) return bad_field(field, "is missing");
  wish.interval.until = std::min(wish.interval.until, now.wall);
  const auto& [since, until] = wish.interval;
  if (since >= until)
    return bad_field("since", "the interval is empty: it ends before it begins",
                     "since must be before until, and before now");
  if (until - since > kLongest)
    return bad_field("since", "the interval is longer than 31 days", "ask for one part after the other");
  return wish;
}

// As many GPUs as nodes have that are not given up, in nodes of the most common size: replays know one kind.
struct Size {
  int nodes = 0, node_size = 0;
};

Size size_of(const Cluster& cluster) {
  std::map<int, int> nodes;  // by number of GPUs
  int gpus = 0;
  for (const auto& [id, node] : cluster.nodes) {
    const int has = static_cast<int>(node.gpus.size());
    if (has == 0 || node.row.service == NodeService::retired) continue;
    ++nodes[has];
    gpus += has;
  }
  if (nodes.empty()) return {};
  const int size = std::ranges::max_element(nodes, {}, [](const auto& n) { return n.second; })->first;
  return {std::max(1, gpus / size), size};
}

replay::Trace trace_of(const RanJobs& ran) {
  replay::Trace trace;
  std::map<std::string, int> users, queues;
  const auto number = [](std::map<std::string, int>& names, const std::string& name) {
    return names.try_emplace(name, static_cast<int>(names.size())).first->second;
  };
  for (const auto& job : ran.jobs) {
    replay::TraceJob out;
    out.submitted = job.queued_at - ran.jobs.front().queued_at;
    out.gpus = job.gpus;
    out.ran = job.ran;
    const auto limit = job.time_limit.empty() ? std::nullopt : wire::parse_duration(job.time_limit);
    out.limit = std::max(limit.value_or(kNoLimit), job.ran);
    out.user = number(users, job.owner);
    out.queue = number(queues, job.queue);
    trace.jobs.push_back(out);
  }
  trace.users = users.size();
  trace.has_users = true;
  return trace;
}

json::object result_view(const planner::Policy& policy, const replay::PolicyResult& result) {
  const bool any = result.jobs > 0;
  const auto wait = [any](double seconds) { return any ? json::value(seconds) : json::value(nullptr); };
  return {{"policy", policy.name},
          {"wait_mean_seconds", wait(result.wait_mean_seconds)},
          {"wait_p50_seconds", wait(result.wait_p50_seconds)},
          {"wait_p90_seconds", wait(result.wait_p90_seconds)},
          {"wait_p99_seconds", wait(result.wait_p99_seconds)},
          {"utilisation", result.utilisation},
          {"preemptions", result.preemptions},
          {"goodput", result.goodput},
          {"jobs", result.jobs},
          {"never", result.never}};
}

Error replay_failed(const std::exception_ptr& failure) {
  return {.code = Errc::unavailable,
          .message = "the replay has failed: " + text_of(failure),
          .hint = "ask for another stretch of time or other policies; the log of the scheduler says more",
          .field = ""};
}

void compute(const ApiPtr& api, const Answer& answer, const Wish& wish, const RanJobs& ran, Size size,
             const std::shared_ptr<void>& turn) {
  auto question = std::make_shared<replay::Comparison>();
  question->trace = trace_of(ran);
  question->policies = wish.policies;
  question->nodes = size.nodes;
  question->node_size = size.node_size;
  question->patience = kPatience;
  auto outcome = std::make_shared<replay::Compared>();
  api->services.history->computing()(
      [question, outcome, compare = api->services.history->compare()] { *outcome = compare(*question); },
      [answer, outcome, wish, size, turn, left_out = ran.others](std::exception_ptr failure) {
        if (failure) return answer.fail(replay_failed(failure));
        if (outcome->given_up)
          return answer.fail(bad_field("since", "the replay did not end within 10 seconds",
                                       "ask for a shorter time, or for fewer policies"));
        json::array results;
        for (std::size_t i = 0; i < wish.policies.size(); ++i)
          results.push_back(result_view(wish.policies[i], outcome->results[i]));
        answer.json(200, json::object{{"since", wire::format_instant(wish.interval.since)},
                                      {"until", wire::format_instant(wish.interval.until)},
                                      {"nodes", size.nodes},
                                      {"gpus_per_node", size.node_size},
                                      {"left_out", left_out},
                                      {"results", std::move(results)}});
      });
}

void post_replay(const ApiPtr& api, const http::Request& request, Answer answer) {
  json::value body;
  if (auto error = wire::parse_strict_json(request.body, body))
    return answer.send(malformed("JSON", std::move(error->message), error->line, error->column));
  const auto wish = read_wish(body, api->backend.now());
  if (!wish) return answer.fail(wish.error());
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const Size size = size_of(plane->cluster());
  if (size.nodes == 0)
    return answer.fail(Error{.code = Errc::conflict,
                             .message = "no node has GPUs, so there is nothing to replay on",
                             .hint = "GET /v1/nodes lists the nodes there are",
                             .field = ""});
  if (api->services.history == nullptr) return answer.send(keeps_no_history());
  auto turn = api->services.history->take_replay();
  if (!turn)
    return answer.fail(Error{.code = Errc::unavailable,
                             .message = "another replay is under way",
                             .hint = "it takes 10 seconds at the most; try again then",
                             .field = ""});
  read_history(
      api, answer,
      [interval = wish->interval](HistoryStore& store) {
        return store.ran(interval.since, interval.until, kMostPastJobs);
      },
      [api, answer, wish = *wish, size, turn = std::move(turn)](const RanJobs& ran) {
        if (ran.cut)
          return answer.fail(bad_field("since",
                                       "more than " + std::to_string(kMostPastJobs) + " jobs ran then",
                                       "ask for a shorter time"));
        compute(api, answer, wish, ran, size, turn);
      });
}

}  // namespace

void add_replay_route(const Routes& routes) {
  routes.post("/v1/history:replay", "history.replay", Need::operate, post_replay);
}

}  // namespace tutti::api
