// lemon_replay FAULTS.csv: what the lemon score of scheduler/core/lemon_score.h would have been worth on a
// recorded fault log (bench/traces/README.md). Prints one JSON object; `./dev bench faults` shows it.
//
// Every week the nodes are ranked by their score, from what was known by then, and the worst 5 % are listed.
// Lift is the share of the next 7 days' in-service faults that fall on the list over the share of nodes on
// it; misses are the faults that do not. A stress-test failure is a burn-in that does its job: it is evidence
// (blame), but no fault in service. Nodes with the same score share the last places of the list: each of them
// is listed with the probability that a fair draw gives it (the log numbers nodes in the order of their first
// faults, so a tie broken by number would know the future).
#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/core/lemon_score.h"

namespace {

using namespace tutti;
namespace json = boost::json;

constexpr double kDay = 86400;
constexpr int kNodes = 400;  // most of them never fail, so the log does not tell
constexpr int kListed = kNodes / 20;

struct Fault {
  int node = 0;
  double at = 0, down = 0;  // seconds
  bool stress_test = false;
};

std::vector<Fault> read_faults(const char* path) {
  std::ifstream in(path);
  std::vector<Fault> out;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    Fault f;
    if (std::sscanf(line.c_str(), "%d,%lf,%lf", &f.node, &f.at, &f.down) != 3 || f.node < 0 ||
        f.node >= kNodes)
      throw std::runtime_error("not a fault: " + line);
    f.stress_test = line.find("Stress Test") != line.npos;
    out.push_back(f);
  }
  if (out.empty()) throw std::runtime_error(std::string("no faults in ") + path);
  std::ranges::sort(out, {}, [](const Fault& f) { return std::pair(f.at, f.node); });
  return out;
}

Instant instant(double seconds) { return Instant(from_seconds(seconds)); }

// By node, the probability to be among the worst 5 % by what had happened before `now`; sums to kListed.
std::vector<double> list_worst(const std::vector<Fault>& faults, double now, const LemonSettings& settings,
                               std::vector<LemonScore>& scores) {
  std::vector<std::vector<LemonFailure>> of(kNodes);
  for (const auto& f : faults)
    if (f.at < now) of[static_cast<std::size_t>(f.node)].push_back({instant(f.at), 1});
  std::vector<LemonCount> counts;
  for (const auto& failures : of)
    counts.push_back(count_lemon_failures(failures, instant(0), instant(now), settings));
  const LemonFleet fleet = fit_lemon_fleet(counts);
  scores.clear();
  std::map<double, std::vector<std::size_t>, std::greater<>> by_score;
  for (std::size_t i = 0; i < kNodes; ++i) {
    scores.push_back(score_lemon(counts[i], fleet, settings));
    by_score[scores[i].ratio].push_back(i);
  }
  std::vector<double> listed(kNodes);
  double left = kListed;
  for (const auto& [score, nodes] : by_score) {
    const double each = std::min(1.0, left / static_cast<double>(nodes.size()));
    for (const auto i : nodes) listed[i] = each;
    left -= each * static_cast<double>(nodes.size());
  }
  return listed;
}

struct Lift {
  int weeks = 0, faults = 0, flagged = 0, flagged_caught = 0;
  double caught = 0;  // expected over the draws among equals
  double lift() const { return share() * kNodes / kListed; }
  double share() const { return faults == 0 ? 0 : caught / faults; }
};

// The list is made once a week; `horizon` is how far ahead it is asked about.
Lift measure(const std::vector<Fault>& faults, double half_life_days, double horizon_days) {
  LemonSettings settings;
  settings.half_life = from_seconds(half_life_days * kDay);
  Lift out;
  const double end = faults.back().at, first = 28 * kDay;  // a month to learn from
  std::vector<LemonScore> scores;
  for (double now = first; now + 7 * kDay <= end; now += 7 * kDay) {
    const auto listed = list_worst(faults, now, settings, scores);
    ++out.weeks;
    out.flagged += static_cast<int>(std::ranges::count(scores, true, &LemonScore::flagged));
    for (const auto& f : faults) {
      if (f.stress_test || f.at < now || f.at >= now + horizon_days * kDay) continue;
      ++out.faults;
      out.caught += listed[static_cast<std::size_t>(f.node)];
      if (scores[static_cast<std::size_t>(f.node)].flagged) ++out.flagged_caught;
    }
  }
  return out;
}

// A list that is made once, at half time, and never again: what the decay is compared with.
double frozen_lift(const std::vector<Fault>& faults) {
  LemonSettings never;
  never.half_life = std::chrono::days(36'500);
  const double half = faults.back().at / 2;
  std::vector<LemonScore> scores;
  const auto listed = list_worst(faults, half, never, scores);
  int later = 0;
  double caught = 0;
  for (const auto& f : faults) {
    if (f.stress_test || f.at < half) continue;
    ++later;
    caught += listed[static_cast<std::size_t>(f.node)];
  }
  return later == 0 ? 0 : caught / later * kNodes / kListed;
}

// Faults in service within `hours` after the same node came back: with a probation of that length the node
// has only small work then, so no big gang dies of them; without it all of them may.
json::object probation(const std::vector<Fault>& faults, double hours) {
  std::map<int, double> back;  // node → when it came back last
  int in_service = 0, re_faults = 0, kept_away = 0;
  for (const auto& f : faults) {
    const auto was = back.find(f.node);
    if (!f.stress_test) {
      ++in_service;
      if (was != back.end()) {
        ++re_faults;
        if (f.at >= was->second && f.at - was->second <= hours * 3600) ++kept_away;
      }
    }
    double& until = back[f.node];
    until = std::max(until, f.at + f.down);
  }
  return {{"hours", hours},
          {"faults_in_service", in_service},
          {"re_faults", re_faults},
          {"kept_away_from_big_gangs", kept_away},
          {"share_of_re_faults", re_faults == 0 ? 0 : static_cast<double>(kept_away) / re_faults},
          {"share_of_all", in_service == 0 ? 0 : static_cast<double>(kept_away) / in_service}};
}

// A gang of `size` nodes drawn at random dies of each fault in service, and nobody says which node it was.
// Blame by score alone: the node of the gang with the most blame so far, shared blame (1 / size each)
// included. How often is that the one? Chance would be right 1 / size of the time; only evidence from the
// node is right always.
json::object blame(const std::vector<Fault>& faults, int size) {
  std::uint64_t dice = 1;
  const auto draw = [&dice] {  // splitmix64
    std::uint64_t z = (dice += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return static_cast<int>((z ^ (z >> 31)) % kNodes);
  };
  std::vector<std::vector<LemonFailure>> of(kNodes);
  double told = 0, right = 0;
  for (const auto& f : faults) {
    std::vector<int> gang = {f.node};
    while (static_cast<int>(gang.size()) < size)
      if (const int n = draw(); std::ranges::find(gang, n) == gang.end()) gang.push_back(n);
    if (f.stress_test) {  // on one node alone: named
      of[static_cast<std::size_t>(f.node)].push_back({instant(f.at), 1});
      continue;
    }
    double most = 0, truly = 0;
    int equals = 0;
    for (const int n : gang) {
      const double score =
          count_lemon_failures(of[static_cast<std::size_t>(n)], instant(0), instant(f.at)).failures;
      if (n == f.node) truly = score;
      if (score > most) equals = 0;
      most = std::max(most, score);
      if (score == most) ++equals;
    }
    for (const int n : gang) of[static_cast<std::size_t>(n)].push_back({instant(f.at), size});
    if (most <= 0) continue;  // says nothing
    ++told;
    if (truly == most) right += 1.0 / equals;
  }
  return {{"gang", size}, {"told", told}, {"precision", told > 0 ? right / told : 0}, {"chance", 1.0 / size}};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 2) throw std::runtime_error("usage: lemon_replay FAULTS.csv");
    const auto faults = read_faults(argv[1]);
    json::array lifts;
    for (const double half_life : {3.0, 7.0, 14.0, 21.0, 28.0, 90.0, 36'500.0}) {
      const Lift week = measure(faults, half_life, 7), month = measure(faults, half_life, 28);
      lifts.push_back({{"half_life_days", half_life},
                       {"weeks", week.weeks},
                       {"faults", week.faults},
                       {"caught", week.caught},
                       {"missed", week.faults - week.caught},
                       {"share", week.share()},
                       {"lift_7d", week.lift()},
                       {"lift_28d", month.lift()},
                       {"flagged_node_weeks", week.flagged},
                       {"flagged_caught", week.flagged_caught}});
    }
    const json::object out = {
        {"faults", faults.size()},
        {"days", faults.back().at / kDay},
        {"nodes", kNodes},
        {"lists", lifts},
        {"frozen_list_lift", frozen_lift(faults)},
        {"blame", {blame(faults, 2), blame(faults, 8), blame(faults, 32)}},
        {"probation", {probation(faults, 0), probation(faults, 24), probation(faults, 168)}}};
    std::cout << json::serialize(out) << "\n";
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "lemon_replay: %s\n", e.what());
    return 1;
  }
}
