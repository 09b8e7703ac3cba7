// EASY backfill written from its definition, with loops over everything and nothing kept in between: what the
// planner must say of a small state. For the property tests. Also the laws that any decision has to keep,
// each checked without knowing the right answer: `broken_laws` says in words which one is broken.
//
// The definition. Jobs are taken in order (priority, first start or submission, id). Who fits now starts, on
// the nodes with fewest free GPUs, ties by index. The first that does not fit is promised the earliest time
// at which enough nodes have room if everybody runs to its limit; on nodes that it could not use now rather
// than on free ones. Who comes later starts if it is gone by then, on promised nodes rather than others; else
// only where the promised gang still has room at that time.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "scheduler/planner/planner.h"

namespace tutti::planner::slow {

struct Amount {  // of one node: what it has, or what a job takes of it
  int gpus = 0, cpus = 0;
};
struct Job {
  JobId id;
  int priority = 50;
  Instant rank_at;
  Duration limit{};  // still to run, at most
  int nodes = 1;
  Amount each;
};
struct Run {
  JobId id;
  Instant until;  // at the latest
  Amount each;
  std::vector<int> on;
};
struct State {
  Instant now;
  std::vector<Amount> nodes;
  std::vector<Run> running;
  std::vector<Job> waiting;
};
struct Promised {
  JobId job;
  Instant at;
  std::vector<int> on;
  bool operator==(const Promised&) const = default;
};
struct Plan {
  std::vector<std::pair<JobId, std::vector<int>>> started;
  std::optional<Promised> promised;
};

inline Instant after(Instant now, Duration limit) { return limit == kNoLimit ? Instant::max() : now + limit; }

// Who must have gone by `at` is gone; nullopt: nobody is.
inline Amount room(const State& s, int node, std::optional<Instant> at) {
  Amount left = s.nodes[static_cast<std::size_t>(node)];
  for (const Run& run : s.running) {
    if (at && run.until <= *at) continue;
    for (const int on : run.on)
      if (on == node) left.gpus -= run.each.gpus, left.cpus -= run.each.cpus;
  }
  return left;
}

inline bool has_room(const State& s, int node, std::optional<Instant> at, const Amount& wanted) {
  const Amount left = room(s, node, at);
  return left.gpus >= wanted.gpus && left.cpus >= wanted.cpus;
}

inline std::vector<int> nodes_with_room(const State& s, std::optional<Instant> at, const Amount& wanted) {
  std::vector<int> out;
  for (int node = 0; node < static_cast<int>(s.nodes.size()); ++node)
    if (has_room(s, node, at, wanted)) out.push_back(node);
  return out;
}

inline std::vector<Job> in_order(std::vector<Job> jobs) {
  std::ranges::sort(jobs, {}, [](const Job& j) {
    return std::tuple(j.priority < 90, -j.priority, j.rank_at, j.id);  // urgent ones before all others
  });
  return jobs;
}

inline std::optional<Promised> promise_for(const State& s, const Job& job) {
  std::set<Instant> times{s.now};
  for (const Run& run : s.running)
    if (run.until > s.now) times.insert(run.until);
  for (const Instant at : times) {
    const auto ready = nodes_with_room(s, at, job.each);
    if (static_cast<int>(ready.size()) < job.nodes) continue;
    Promised out{.job = job.id, .at = at, .on = {}};
    for (const bool free_now : {false, true})
      for (const int node : ready)
        if (has_room(s, node, std::nullopt, job.each) == free_now &&
            static_cast<int>(out.on.size()) < job.nodes)
          out.on.push_back(node);
    return out;
  }
  return std::nullopt;  // no end helps
}

// The promised gang still has its room at its time.
inline bool kept(const State& s, const Promised& promised, const Amount& each) {
  return std::ranges::all_of(promised.on, [&](int node) { return has_room(s, node, promised.at, each); });
}

inline bool is_promised(const std::optional<Promised>& promised, int node) {
  return promised && std::ranges::find(promised->on, node) != promised->on.end();
}

// Where it starts now; empty: it does not.
inline std::vector<int> nodes_for(const State& s, const Job& job, const std::optional<Promised>& promised,
                                  const Amount& promised_each) {
  const bool in_time = !promised || after(s.now, job.limit) <= promised->at;
  std::vector<std::tuple<bool, int, int>> fit;  // others later, free GPUs, node
  for (const int node : nodes_with_room(s, std::nullopt, job.each)) {
    const bool there = is_promised(promised, node);
    if (!in_time && there) {
      State with = s;
      with.running.push_back({job.id, after(s.now, job.limit), job.each, {node}});
      if (!has_room(with, node, promised->at, promised_each)) continue;
    }
    fit.emplace_back(in_time && !there, room(s, node, std::nullopt).gpus, node);
  }
  if (static_cast<int>(fit.size()) < job.nodes) return {};
  std::ranges::sort(fit);
  std::vector<int> out;
  for (int n = 0; n < job.nodes; ++n) out.push_back(std::get<2>(fit[static_cast<std::size_t>(n)]));
  return out;
}

inline Plan plan(State s) {
  Plan out;
  Amount promised_each;
  for (const Job& job : in_order(s.waiting)) {
    const auto on = nodes_for(s, job, out.promised, promised_each);
    if (!on.empty()) {
      out.started.emplace_back(job.id, on);
      s.running.push_back({job.id, after(s.now, job.limit), job.each, on});
    } else if (!out.promised) {
      out.promised = promise_for(s, job);
      promised_each = job.each;
    }
  }
  return out;
}

inline Plan as_plan(const Decisions& d) {
  Plan out;
  for (const Start& start : d.started) {
    out.started.push_back({start.job, {}});
    for (const Part& part : start.parts) out.started.back().second.push_back(part.node);
  }
  for (const Promise& p : d.promised) out.promised = Promised{p.job, p.at, p.nodes};
  return out;
}

// ---------------------------------------------------------------- laws

inline const Job* find(const State& s, JobId id) {
  const auto found = std::ranges::find(s.waiting, id, &Job::id);
  return found == s.waiting.end() ? nullptr : &*found;
}

inline State with_starts(State s, const Plan& p) {
  for (const auto& [id, on] : p.started)
    if (const Job* job = find(s, id)) s.running.push_back({id, after(s.now, job->limit), job->each, on});
  return s;
}

// The first waiting job that did not start is the one with the promise, unless no end helps it.
inline void check_promise(const State& before, const Plan& p, std::vector<std::string>& out) {
  std::set<JobId> started;
  for (const auto& [id, on] : p.started) started.insert(id);
  const State all = with_starts(before, p);
  const Job* first = nullptr;
  State at_its_turn = before;  // with those that came before it
  const auto order = in_order(before.waiting);
  for (const Job& job : order) {
    if (started.contains(job.id)) {
      for (const auto& [id, on] : p.started)
        if (id == job.id) at_its_turn.running.push_back({id, after(before.now, job.limit), job.each, on});
    } else if (promise_for(at_its_turn, job)) {
      first = &job;
      break;
    }
  }
  if (!p.promised) {
    if (first != nullptr) out.push_back("no promise to " + to_string(first->id));
    return;
  }
  if (first == nullptr || first->id != p.promised->job)
    return out.push_back("the promise to " + to_string(p.promised->job) + " is not to the first");
  const auto right = promise_for(at_its_turn, *first);
  if (p.promised->at < right->at) out.push_back("promised too early");
  if (p.promised->at > right->at) out.push_back("promised too late");
  if (std::set(p.promised->on.begin(), p.promised->on.end()).size() != static_cast<std::size_t>(first->nodes))
    out.push_back("promised the wrong number of nodes");
  else if (!kept(all, *p.promised, first->each))
    out.push_back("the promise is delayed by a start");
}

// Nobody that could have started behind the same promise was passed by one of a later place in order.
inline void check_order(const State& before, const Plan& p, std::vector<std::string>& out) {
  const auto order = in_order(before.waiting);
  const auto place = [&](JobId id) { return std::ranges::find(order, id, &Job::id) - order.begin(); };
  State s = before;
  const Job* head = p.promised ? find(before, p.promised->job) : nullptr;
  for (const auto& [id, on] : p.started) {
    const Job* job = find(before, id);
    if (job == nullptr) return;
    for (const Job& other : order) {
      const bool waits = std::ranges::none_of(s.running, [&](const Run& r) { return r.id == other.id; });
      if (!waits || place(other.id) >= place(id)) continue;
      const bool behind = head != nullptr && place(other.id) > place(head->id);
      if (!nodes_for(s, other, behind ? p.promised : std::nullopt, behind ? head->each : Amount{}).empty())
        out.push_back(to_string(id) + " started before " + to_string(other.id) + " that fits");
    }
    s.running.push_back({id, after(s.now, job->limit), job->each, on});
  }
}

inline std::vector<std::string> broken_laws(const State& before, const Plan& p) {
  std::vector<std::string> out;
  std::set<JobId> started;
  for (const auto& [id, on] : p.started) {
    const Job* job = find(before, id);
    if (job == nullptr) {
      out.push_back(to_string(id) + " started and did not wait");
      continue;
    }
    if (!started.insert(id).second) out.push_back(to_string(id) + " started twice");
    if (std::set(on.begin(), on.end()).size() != static_cast<std::size_t>(job->nodes))
      out.push_back(to_string(id) + " is not on as many nodes as it asks for");
  }
  const State all = with_starts(before, p);
  for (int node = 0; node < static_cast<int>(all.nodes.size()); ++node)
    if (!has_room(all, node, std::nullopt, {}))
      out.push_back("node " + std::to_string(node) + " holds too much");
  if (!out.empty()) return out;
  check_promise(before, p, out);
  check_order(before, p, out);
  return out;
}

// ---------------------------------------------------------------- for people

inline std::string text(const Plan& p) {
  std::string out;
  const auto list = [&](const std::vector<int>& on) {
    for (const int node : on) out += " n" + std::to_string(node);
  };
  for (const auto& [id, on] : p.started) out += "start " + to_string(id) + " on", list(on), out += "; ";
  if (!p.promised) return out + "no promise";
  out += "promise " + to_string(p.promised->job) + " at " +
         std::to_string(p.promised->at.time_since_epoch().count());
  list(p.promised->on);
  return out;
}

inline std::string text(const State& s) {
  const auto minutes = [&](Instant t) { return std::to_string(to_seconds(t - s.now) / 60) + "m"; };
  const auto amount = [](const Amount& a) {
    return std::to_string(a.gpus) + "g" + std::to_string(a.cpus) + "c";
  };
  std::string out = "nodes:";
  for (const Amount& n : s.nodes) out += " " + amount(n);
  for (const Run& r : s.running) {
    out += "\nruns " + to_string(r.id) + " " + amount(r.each) + " until +" + minutes(r.until) + " on";
    for (const int node : r.on) out += " n" + std::to_string(node);
  }
  for (const Job& j : in_order(s.waiting))
    out += "\nwaits " + to_string(j.id) + " p" + std::to_string(j.priority) + " " + std::to_string(j.nodes) +
           "x" + amount(j.each) + " limit " + (j.limit == kNoLimit ? "none" : minutes(s.now + j.limit));
  return out;
}

}  // namespace tutti::planner::slow
