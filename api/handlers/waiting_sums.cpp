#include "api/handlers/waiting_sums.h"

#include <algorithm>
#include <array>
#include <boost/json/object.hpp>
#include <tuple>
#include <vector>

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr auto kTexts = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"never", "no nodes of this cluster could ever run them"},
    {"no_nodes", "no worker has registered yet"},
    {"topology", "not enough nodes near each other are free"},
    {"nodes", "too few nodes can take a part now"},
    {"not_reachable", "nodes are unreachable or dead"},
    {"not_schedulable", "nodes are cordoned, draining or quarantined"},
    {"stale_ranks", "nodes have ranks whose death is not proven"},
    {"gpus_out_of_order", "GPUs are quarantined or dirty"},
    {"gpus_busy", "GPUs are busy"},
    {"cpus_busy", "CPUs are busy"},
    {"memory_busy", "memory is in use"},
    {"reserved", "nodes are reserved for others"},
    {"quota", "what their queue or project may hold is in use"},
    {"backfill", "they could run into the promised start of another"},
    {"behind", "others come before them"},
    {"delayed", "they wait for their time"},
    {"blocked", "they wait for other jobs"},
    {"held", "they are held"},
    {"other", "not looked at one by one"},
    {"not_recorded", "why they waited was not recorded"},
});

std::string_view text_of(std::string_view code) {
  const auto* known = std::ranges::find(kTexts, code, &std::pair<std::string_view, std::string_view>::first);
  return known == kTexts.end() ? "a condition of nodes keeps them away" : known->second;
}

}  // namespace

std::string_view main_code(const std::vector<Reason>& reasons) {
  static constexpr auto kOfOthers = std::to_array<std::string_view>(
      {"nodes", "other_queue", "excluded", "constraint", "too_few_gpus", "too_small", "quota", "backfill"});
  if (reasons.empty()) return "behind";
  if (reasons.front().code != "nodes") return reasons.front().code;
  const Reason* most = &reasons.front();
  for (const auto& r : reasons)
    if (std::ranges::find(kOfOthers, r.code) == kOfOthers.end() &&
        (most->code == "nodes" || r.have > most->have))
      most = &r;
  return most->code;
}

json::array sums_view(const std::map<std::string, WaitingSum>& sums) {
  std::vector<std::pair<std::string, WaitingSum>> sorted(sums.begin(), sums.end());
  std::ranges::sort(sorted, {}, [](const auto& s) {
    return std::tuple(-s.second.gpus, -s.second.jobs, std::string_view(s.first));
  });
  json::array out;
  for (const auto& [code, sum] : sorted)
    out.push_back(
        json::object{{"code", code}, {"text", text_of(code)}, {"jobs", sum.jobs}, {"gpus", sum.gpus}});
  return out;
}

}  // namespace tutti::api
