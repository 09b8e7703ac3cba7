// What a row of the campaign has measured and found, and how that is shown: a table for people, JSON for
// programs. Pure values; no processes, no clock.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace tutti::chaos {

// Of a recovery, all from the moment of the injection on. The order is that of the table.
enum class Stage : std::uint8_t {
  detected,  // first evidence, or the first silence that was noticed
  fenced,    // the store says that the attempt has ended: every rank is proven dead or its lease is over
  requeued,  // the job waits again, or is failed or held: the decision
  running,   // the last rank of the next attempt has started, by its own clock
  back       // what was broken serves again: API, worker, database
};
inline constexpr int kStages = 5;
std::string name(Stage stage);

struct Target {
  Stage stage;
  double p50 = 0, p99 = 0;  // seconds
};

// What an oracle can find. Each violation is counted once.
enum class Rule : std::uint8_t {
  double_run,  // two epochs of a job at a time, a rank alive after its end was stored, two ranks on one GPU
  lost_job,    // an accepted submission that is not there exactly once, or has not ended as it had to
  healthy_killed,  // a gang that no fault had hit was ended: above all by a fault of the control plane
  partial_gang,    // a part of a gang lived on beyond lease and margin
  ledger           // allocations that overlap, are left open, or do not add up
};
inline constexpr int kRules = 5;
std::string name(Rule rule);

struct RowFigures {
  std::string row, title;
  std::int64_t seed = 0;
  int injections = 0;
  std::map<Stage, std::vector<double>> seconds;
  std::vector<Target> targets;
  std::map<Rule, int> violations;
  std::vector<std::string> failures;  // one line each
  std::string note;                   // what it does not cover; why it was skipped
  bool skipped = false;
  bool control_fault = false;

  bool failed() const { return !failures.empty(); }
  void add(const RowFigures& more);  // of the same row
};

double quantile(std::vector<double> values, double q);  // nearest rank; 0 of none

std::string table(const std::vector<RowFigures>& rows);
boost::json::object to_json(const std::vector<RowFigures>& rows);

}  // namespace tutti::chaos
