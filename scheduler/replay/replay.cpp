#include "scheduler/replay/replay.h"

#include <algorithm>
#include <numeric>
#include <queue>
#include <random>

#include "scheduler/planner/planner.h"

namespace tutti::replay {

namespace {

using planner::Planner;

struct Running {
  Duration left{};  // of work
  Instant since;    // of this run
  Duration cost{};  // at the beginning of this run
  int run = 0;      // ends of former runs are void
};

struct End {
  Instant at;
  std::size_t job;
  int run;
  bool operator>(const End& other) const { return std::tuple(at, job) > std::tuple(other.at, other.job); }
};

class Replay {
 public:
  Replay(const Trace& trace, const ReplayOptions& options)
      : trace_(trace), options_(options), planner_(options.policy), left_(trace.jobs.size()) {
    for (int n = 0; n < options.nodes; ++n) planner_.put_node(node(n, true));
    free_ = static_cast<long>(options.nodes) * options.node_size;
    out_.jobs.resize(trace.jobs.size());
    std::mt19937_64 random(options.seed);
    for (std::size_t i = 0; i < trace.jobs.size(); ++i) {
      // Not std::uniform_…: its numbers differ between libraries.
      const double dice = static_cast<double>(random() >> 11) * 0x1.0p-53;
      out_.jobs[i].submitted =
          Instant(trace.jobs[i].submitted + from_seconds(to_seconds(options.shake) * dice));
      left_[i].left = trace.jobs[i].ran;
    }
    arrivals_.resize(trace.jobs.size());
    std::iota(arrivals_.begin(), arrivals_.end(), 0U);
    std::ranges::sort(arrivals_, {}, [&](std::size_t i) { return std::pair(out_.jobs[i].submitted, i); });
  }

  ReplayResult run() {
    if (arrivals_.empty()) return std::move(out_);
    now_ = out_.jobs[arrivals_.front()].submitted;
    last_arrival_ = out_.jobs[arrivals_.back()].submitted;
    out_.arrival_seconds = to_seconds(last_arrival_ - now_);
    tick_ = now_;
    while (next_ < arrivals_.size() || !planner_.running().empty() || planner_.waiting() > 0) {
      const auto at = next_time();
      if (!at)
        break;  // nothing runs, nothing comes, and what waits does not start: a planner's bug, seen in the
                // result
      pass(*at);
      happen();
    }
    return std::move(out_);
  }

 private:
  std::optional<Instant> next_time() {
    while (!ends_.empty() && ends_.top().run != left_[ends_.top().job].run) ends_.pop();
    std::optional<Instant> at;
    const auto sooner = [&](Instant t) { at = at ? std::min(*at, t) : t; };
    if (next_ < arrivals_.size()) sooner(out_.jobs[arrivals_[next_]].submitted);
    if (!ends_.empty()) sooner(ends_.top().at);
    if (planner_.waiting() > 0 && at) sooner(std::max(now_, tick_));
    return at;
  }

  void pass(Instant to) {
    const double seconds = to_seconds(std::min(to, last_arrival_) - std::min(now_, last_arrival_));
    const double total = static_cast<double>(options_.nodes) * options_.node_size;
    const double busy = total - static_cast<double>(free_);
    out_.busy_gpu_seconds += busy * seconds;
    if (planner_.waiting() > 0 && out_.arrival_seconds > 0)
      out_.idle_while_waiting += (total - busy) / total * seconds / out_.arrival_seconds;
    now_ = to;
  }

  void happen() {
    if (now_ >= tick_) tick_ = now_ + options_.policy.refresh;
    for (; !ends_.empty() && ends_.top().at <= now_; ends_.pop()) {
      const auto [at, job, run] = ends_.top();
      if (run != left_[job].run) continue;
      planner_.ended(id_of(job), now_);
      free_ += gpus_of(job);
      out_.jobs[job].ended = now_;
      ++left_[job].run;
    }
    for (; next_ < arrivals_.size() && out_.jobs[arrivals_[next_]].submitted <= now_; ++next_)
      submit(arrivals_[next_]);
    for (;;) {
      const auto decisions = planner_.plan(now_);
      ++out_.decisions;
      for (const auto& start : decisions.started) begin(index_of(start.job));
      for (const auto& p : decisions.preempted) stop(index_of(p.victim));
      if (decisions.preempted.empty()) break;  // else there is room now
    }
  }

  planner::NodeDesc node(int n, bool open) const {
    return {.id = NodeId(n + 1),
            .name = "n" + std::to_string(n + 1),
            .queue = kQueue,
            .closed = open ? "" : "down",
            .devices = {{.model = "GPU", .total = options_.node_size, .usable = options_.node_size}},
            .cpus = 1,
            .labels = {}};
  }

  // A gang that fills nodes takes whole ones; a smaller one shares a node.
  planner::GangAsk ask_of(const TraceJob& job) const {
    const int size = options_.node_size;
    planner::GangAsk ask;
    ask.queue = kQueue;
    ask.nodes = job.gpus < size ? 1 : (job.gpus + size - 1) / size;
    ask.resources.gpus = std::min(job.gpus, size);
    return ask;
  }
  long gpus_of(std::size_t i) const {
    const auto ask = ask_of(trace_.jobs[i]);
    return static_cast<long>(ask.nodes) * ask.resources.gpus;
  }

  void submit(std::size_t i) {
    const TraceJob& job = trace_.jobs[i];
    const int shape = planner_.intern(ask_of(job));
    if (shape >= static_cast<int>(possible_.size())) possible_.push_back(planner_.could_ever(shape));
    out_.jobs[i].never = !possible_[static_cast<std::size_t>(shape)];
    if (out_.jobs[i].never) return;
    if (static_cast<std::size_t>(job.queue) >= known_queues_) {
      for (; known_queues_ <= static_cast<std::size_t>(job.queue); ++known_queues_)
        planner_.set_queue(static_cast<int>(known_queues_), kQueue);
    }
    planner_.submit({.id = id_of(i),
                     .kind = {job.user, job.queue, job.gpus},
                     .project = job.user,
                     .shape = shape,
                     .saves_when_asked = true,
                     .submitted = now_,
                     .limit = job.limit,
                     .known_run = job.ran},
                    now_);
  }

  void begin(std::size_t i) {
    Running& r = left_[i];
    JobOutcome& job = out_.jobs[i];
    if (r.left == trace_.jobs[i].ran && job.preemptions == 0) job.first_start = now_;
    r.cost = job.preemptions > 0 ? options_.restart_cost : Duration::zero();
    r.since = now_;
    free_ -= gpus_of(i);
    ends_.push({now_ + r.cost + r.left, i, ++r.run});
  }

  void stop(std::size_t i) {
    Running& r = left_[i];
    r.left -= std::max(Duration::zero(), now_ - r.since - r.cost);
    ++r.run;
    ++out_.jobs[i].preemptions;
    free_ += gpus_of(i);
    planner_.enqueue(*planner_.stopped(id_of(i), now_), now_);
  }

  static JobId id_of(std::size_t i) { return JobId(static_cast<std::int64_t>(i) + 1); }
  static std::size_t index_of(JobId id) { return static_cast<std::size_t>(id.value - 1); }

  static constexpr const char* kQueue = "default";
  const Trace& trace_;
  const ReplayOptions& options_;
  Planner planner_;
  std::vector<bool> possible_;  // by shape
  std::size_t known_queues_ = 0;
  long free_ = 0;  // GPUs
  ReplayResult out_;
  std::vector<Running> left_;
  std::vector<std::size_t> arrivals_;
  std::size_t next_ = 0;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
  Instant now_, last_arrival_, tick_;
};

}  // namespace

ReplayResult replay(const Trace& trace, const ReplayOptions& options) { return Replay(trace, options).run(); }

}  // namespace tutti::replay
