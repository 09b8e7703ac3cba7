#include "tests/chaos/oracles.h"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/e2e/intervals.h"

namespace tutti::chaos {
namespace {

// A rank says that it lives before it sleeps; the two clocks are read one after the other; the machine may
// slew its calendar clock. All that is well below this.
constexpr std::int64_t kClockTolerance = 20'000;

std::string key(std::int64_t job, std::int64_t epoch) {
  return "job " + std::to_string(job) + " epoch " + std::to_string(epoch);
}

const Lives* find(const AllLives& all, std::int64_t job, std::int64_t epoch) {
  const auto j = all.find(job);
  if (j == all.end()) return nullptr;
  const auto e = j->second.find(epoch);
  return e == j->second.end() || e->second.ranks.empty() ? nullptr : &e->second;
}

}  // namespace

std::int64_t Lives::first() const {
  std::int64_t t = ranks.empty() ? 0 : ranks.begin()->second.first;
  for (const auto& [rank, life] : ranks) t = std::min(t, life.first);
  return t;
}
std::int64_t Lives::last() const {
  std::int64_t t = 0;
  for (const auto& [rank, life] : ranks) t = std::max(t, life.second);
  return t;
}
std::int64_t Lives::least() const {
  std::int64_t t = ranks.empty() ? 0 : ranks.begin()->second.second;
  for (const auto& [rank, life] : ranks) t = std::min(t, life.second);
  return t;
}

AllLives load_lives(const std::string& stamp_directory) {
  AllLives all;
  for (const auto& entry : std::filesystem::directory_iterator(stamp_directory)) {
    long long job = 0, epoch = 0;
    int rank = 0;
    if (std::sscanf(entry.path().filename().c_str(), "%lld-%lld-%d", &job, &epoch, &rank) != 3)
      throw e2e::Failure("what is " + entry.path().string() + "?");
    std::int64_t page[2] = {};
    std::ifstream in(entry.path(), std::ios::binary);
    if (in.read(reinterpret_cast<char*>(page), sizeof page) && page[0] != 0)
      all[job][epoch].ranks[rank] = {page[0], page[1]};
  }
  return all;
}

std::int64_t clock_offset() {
  timespec wall{};
  const auto before = e2e::boot_us();
  clock_gettime(CLOCK_REALTIME, &wall);
  const auto after = e2e::boot_us();
  return (before + after) / 2 - (wall.tv_sec * 1'000'000LL + wall.tv_nsec / 1000);
}

std::vector<AttemptStamps> load_attempts(e2e::Cluster& c, std::int64_t offset) {
  const auto us = [](const std::string& column) {
    return "coalesce((extract(epoch FROM " + column + ") * 1000000)::bigint, 0)";
  };
  const std::string text =
      "SELECT concat_ws(' ', job, epoch, (state = 6)::int, (SELECT sum((m->>'ranks')::int) FROM "
      "jsonb_array_elements(gang) m), (SELECT coalesce(sum(jsonb_array_length(m->'gpus')), 0) FROM "
      "jsonb_array_elements(gang) m), " +
      us("placed_at") + ", " + us("running_at") + ", " + us("fault_at") + ", " + us("stopping_at") + ", " +
      us("ended_at") + ", cause) FROM attempt ORDER BY job, epoch";
  std::vector<AttemptStamps> out;
  for (const auto& line : c.sql(text)) {
    std::istringstream words(line);
    AttemptStamps a;
    if (!(words >> a.job >> a.epoch >> a.ended >> a.ranks >> a.gpus >> a.placed >> a.running >> a.fault >>
          a.stopping >> a.ended_at >> a.cause))
      throw e2e::Failure("an attempt row is not as expected: " + line);
    for (auto* t : {&a.placed, &a.running, &a.fault, &a.stopping, &a.ended_at})
      if (*t != 0) *t += offset;
    out.push_back(a);
  }
  return out;
}

std::vector<Violation> judge_ends(const AllLives& lives, const std::vector<AttemptStamps>& attempts) {
  std::vector<Violation> out;
  for (const auto& a : attempts) {
    const Lives* l = find(lives, a.job, a.epoch);
    if (l == nullptr || !a.ended || l->last() <= a.ended_at + kClockTolerance) continue;
    out.push_back({Rule::double_run, key(a.job, a.epoch) + ": a rank lived " +
                                         std::to_string((l->last() - a.ended_at) / 1000) +
                                         " ms beyond the end that is in the store"});
  }
  return out;
}

std::vector<Violation> judge_wholeness(const AllLives& lives, const std::vector<AttemptStamps>& attempts,
                                       std::int64_t limit_us, std::int64_t now) {
  std::vector<Violation> out;
  for (const auto& a : attempts) {
    const Lives* l = find(lives, a.job, a.epoch);
    if (l == nullptr) continue;
    const bool all_started = static_cast<int>(l->ranks.size()) == a.ranks;
    if (!all_started && !a.ended && a.running == 0) continue;  // it is just starting
    const std::int64_t until = a.ended ? l->last() : std::min(now, l->last());
    const std::int64_t since = all_started ? l->least() : l->first();
    if (until - since <= limit_us) continue;
    out.push_back(
        {Rule::partial_gang, key(a.job, a.epoch) + ": " + std::to_string(l->ranks.size()) + " of " +
                                 std::to_string(a.ranks) + " ranks started, and a part of it lived " +
                                 std::to_string((until - since) / 1000) + " ms without the others"});
  }
  return out;
}

std::vector<Violation> judge_epochs(const e2e::Cluster& c) {
  const auto why = e2e::find_overlap(e2e::read_intervals(c.intervals(), c.stamps()));
  if (why.empty()) return {};
  return {{Rule::double_run, why}};
}

std::vector<Violation> judge_gpu_locks(const e2e::Cluster& c) {
  std::vector<Violation> out;
  std::ifstream in(c.gpu_locks() + "/doubles");
  for (std::string line; std::getline(in, line);)
    out.push_back({Rule::double_run, "two ranks on a GPU: " + line});
  return out;
}

std::vector<Violation> judge_ledger(e2e::Cluster& c) {
  std::vector<Violation> out;
  const auto rows = [&](const char* what, const std::string& sql) {
    for (const auto& line : c.sql(sql)) out.push_back({Rule::ledger, what + line});
  };
  rows("a GPU with two owners: ",
       "SELECT concat_ws(' ', 'gpu', a.gpu, 'attempts', a.job, a.epoch, b.job, b.epoch) FROM allocation a "
       "JOIN "
       "allocation b ON a.gpu = b.gpu AND (a.job, a.epoch) < (b.job, b.epoch) AND tstzrange(a.from_at, "
       "a.until_at) && tstzrange(b.from_at, b.until_at)");
  rows(
      "an allocation is open though its attempt has ended: ",
      "SELECT concat_ws(' ', 'gpu', l.gpu, 'attempt', l.job, l.epoch) FROM allocation l JOIN attempt a USING "
      "(job, epoch) WHERE a.state = 6 AND l.until_at IS NULL");
  // The ledger against the attempts: as many GPUs, for exactly the time from placement to proven end.
  rows("the GPU time of an attempt is not in the ledger: ",
       "SELECT concat_ws(' ', 'attempt', a.job, a.epoch, 'has', a.gpus, 'GPUs, the ledger', count(l.gpu), "
       "'for', "
       "coalesce(sum(extract(epoch FROM l.until_at - l.from_at)), 0), 's of', a.gpus * extract(epoch FROM "
       "a.ended_at "
       "- a.placed_at)) FROM (SELECT job, epoch, placed_at, ended_at, (SELECT "
       "coalesce(sum(jsonb_array_length(m->'gpus')), 0) FROM jsonb_array_elements(gang) m) AS gpus FROM "
       "attempt "
       "WHERE state = 6) a LEFT JOIN allocation l USING (job, epoch) GROUP BY a.job, a.epoch, a.gpus, "
       "a.ended_at, "
       "a.placed_at HAVING count(l.gpu) <> a.gpus OR abs(coalesce(sum(extract(epoch FROM l.until_at - "
       "l.from_at)), "
       "0) - a.gpus * extract(epoch FROM a.ended_at - a.placed_at)) > 0.001");
  return out;
}

std::vector<Violation> judge_submissions(e2e::Cluster& c,
                                         const std::map<std::string, std::int64_t>& accepted) {
  std::map<std::string, std::vector<std::int64_t>> stored;
  for (const auto& line : c.sql("SELECT concat_ws(' ', id, name) FROM job_spec")) {
    const auto space = line.find(' ');
    stored[line.substr(space + 1)].push_back(std::stoll(line.substr(0, space)));
  }
  std::vector<Violation> out;
  for (const auto& [name, id] : accepted) {
    const auto it = stored.find(name);
    if (it == stored.end())
      out.push_back(
          {Rule::lost_job, "job " + std::to_string(id) + " (" + name + ") was accepted and is lost"});
    else if (it->second.size() != 1 || it->second[0] != id)
      out.push_back({Rule::lost_job, "job " + std::to_string(id) + " (" + name + ") is there " +
                                         std::to_string(it->second.size()) + " times"});
  }
  return out;
}

}  // namespace tutti::chaos
