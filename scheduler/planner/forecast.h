// When those that wait will start, by running the plan forward on a copy: those that run end when their like
// usually do, those that start run as long as their like, and nobody new comes. Pure, std only.
//
// Nobody new comes: under a policy that lets shorter jobs pass, real starts are later. The range around the
// estimate is learned from how former estimates came out (Calibration), not computed from a model.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/planner/planner.h"

namespace tutti::planner {

struct Forecast {
  Instant at;                       // of which state
  std::map<JobId, Instant> starts;  // who does not start within the horizon is not in it
  struct Run {                      // where, and until when, if nobody preferred comes
    Instant end;
    Parts parts;
  };
  std::map<JobId, Run> runs;  // of the same jobs
};
// When one that runs ends, if it runs as long as its like usually do.
Instant expected_end(const Planner& planner, const Running& job, Instant now);
// Of the first `most` that wait for nodes of this queue, and of `also` if it waits further behind.
// `to_the_limit`: everybody with a limit runs for all of it, as schedulers assume that know nothing else.
Forecast forecast(const Planner& planner, const std::string& queue_of_nodes, Instant now, std::size_t most,
                  JobId also = {}, bool to_the_limit = false);

struct Range {
  Instant from, to;  // four of five start in between
};

// Ratios of real to estimated waits of the recent past give the range (split conformal prediction: Vovk,
// Gammerman, Shafer 2005). Estimates are kept apart by how long they are, since short ones err differently.
class Calibration {
 public:
  void estimated(JobId job, Instant now, Instant start);  // the first estimate of a wait counts
  void started(JobId job, Instant now);
  void forget(JobId job) { open_.erase(job); }
  Range range(Instant now, Instant start) const;
  // Share of those that started within their range, of the last ones; nullopt: too few have started.
  std::optional<double> coverage() const;
  std::size_t outcomes() const { return outcomes_; }

 private:
  struct Open {
    Instant at, start;
    Range range;
  };
  struct Level {
    std::deque<double> log_ratios;
  };
  static std::size_t level_of(Duration wait);

  std::map<JobId, Open> open_;
  std::array<Level, 6> levels_;
  std::deque<bool> hits_;
  std::size_t outcomes_ = 0;
};

}  // namespace tutti::planner
