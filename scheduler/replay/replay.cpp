#include "scheduler/replay/replay.h"

#include <algorithm>
#include <numeric>
#include <queue>
#include <random>

#include "scheduler/planner/forecast.h"
#include "scheduler/planner/planner.h"

namespace tutti::replay {

namespace {

using planner::Planner;

struct Running {
  Duration left{};    // of work
  Instant since;      // of this run
  Duration cost{};    // at the beginning of this run
  int run = 0;        // ends of former runs are void
  bool dead = false;  // a fault has ended it, and nobody knows yet
  Duration lost{};    // of its last run
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
    for (const NodeFault& f : options_.faults) {
      if (f.node >= options_.nodes) continue;
      outages_.push_back({now_ + f.at, f.node, true});
      outages_.push_back({now_ + f.at + f.down, f.node, false});
    }
    std::ranges::sort(outages_, {}, [](const Outage& o) { return std::tuple(o.at, o.node, !o.begins); });
    down_.resize(static_cast<std::size_t>(options_.nodes));
    while (next_ < arrivals_.size() || !planner_.running().empty() || planner_.waiting() > 0 ||
           !requeues_.empty()) {
      out_.given_up = options_.give_up && options_.give_up();
      if (out_.given_up) break;
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
    if (!requeues_.empty()) sooner(requeues_.front().first);
    if (next_outage_ < outages_.size() && (at || planner_.waiting() > 0)) sooner(outages_[next_outage_].at);
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
    if (fragmented_ && out_.arrival_seconds > 0)
      out_.fragmented += (total - busy) / total * seconds / out_.arrival_seconds;
    now_ = to;
  }

  void happen() {
    fail_nodes();
    if (now_ >= tick_) tick_ = now_ + options_.policy.refresh;
    for (; !ends_.empty() && ends_.top().at <= now_; ends_.pop()) {
      const auto [at, job, run] = ends_.top();
      if (run != left_[job].run) continue;
      planner_.ended(id_of(job), now_);
      out_.jobs[job].ended = now_;
      stop_run(job);
      out_.useful_gpu_seconds += to_seconds(trace_.jobs[job].ran) * static_cast<double>(gpus_of(job));
    }
    for (; !requeues_.empty() && requeues_.front().first <= now_; requeues_.erase(requeues_.begin()))
      requeue(requeues_.front().second);
    const std::size_t fresh = next_;
    for (; next_ < arrivals_.size() && out_.jobs[arrivals_[next_]].submitted <= now_; ++next_)
      submit(arrivals_[next_]);
    for (;;) {
      const auto decisions = planner_.plan(now_);
      ++out_.decisions;
      for (const auto& start : decisions.started) begin(index_of(start.job));
      for (const auto& p : decisions.preempted)
        if (!left_[index_of(p.victim)].dead) stop(index_of(p.victim));
      if (decisions.preempted.empty()) break;  // else there is room now
    }
    for (std::size_t i = fresh; i < next_; ++i) tell(arrivals_[i]);
    see_fragments();
  }

  // The first that waits would fit if what is free were together.
  void see_fragments() {
    fragmented_ = false;
    if (planner_.waiting() == 0 || free_ == 0) return;
    const auto first = planner_.first(kQueue, 1);
    fragmented_ = !first.empty() && planner_.find_waiting(first.front())->what.kind.gpus <= free_;
  }

  // ---- faults

  struct Outage {
    Instant at;
    int node;
    bool begins;
  };

  void fail_nodes() {
    for (; next_outage_ < outages_.size() && outages_[next_outage_].at <= now_; ++next_outage_) {
      const Outage& o = outages_[next_outage_];
      int& down = down_[static_cast<std::size_t>(o.node)];
      down += o.begins ? 1 : -1;
      if (o.begins) kill_on(o.node);
      planner_.put_node(node(o.node, down == 0));
    }
  }

  // Its GPUs are free again when it is known to be dead, and it is the first that may have them.
  void kill_on(int node) {
    for (const auto& occupant : planner_.nodes().at(node).occupants) {
      const std::size_t i = index_of(occupant.job);
      Running& r = left_[i];
      if (r.dead) continue;
      const Duration worked = std::max(Duration::zero(), now_ - r.since - r.cost);
      r.lost = worked % options_.checkpoint_every;
      r.left -= worked - r.lost;
      r.dead = true;
      ++r.run;  // its end is void
      ++out_.jobs[i].interruptions;
      requeues_.emplace_back(now_ + options_.detection, i);
    }
  }

  void requeue(std::size_t i) {
    left_[i].dead = false;
    stop_run(i);
    auto job = *planner_.stopped(id_of(i), now_);
    job.attained -= std::min(job.attained, left_[i].lost + options_.detection);
    job.what.front = true;
    restarted_at_[id_of(i)] = now_;
    planner_.enqueue(job, now_);
  }

  // ---- estimates

  void tell(std::size_t i) {
    if (options_.etas == 0 || !planner_.waits(id_of(i))) return;
    const auto step = std::max<std::size_t>(1, trace_.jobs.size() / options_.etas);
    if (asked_++ % step != 0) return;
    constexpr std::size_t kAlong = 1000;
    const auto usual = planner::forecast(planner_, kQueue, now_, kAlong, id_of(i)).starts;
    const auto limits = planner::forecast(planner_, kQueue, now_, kAlong, id_of(i), true).starts;
    const auto start = usual.find(id_of(i)), late = limits.find(id_of(i));
    if (start == usual.end() || late == limits.end()) return;
    calibration_.estimated(id_of(i), now_, start->second);
    const auto range = calibration_.range(now_, start->second);
    told_[id_of(i)] = out_.etas.size();
    out_.etas.push_back({.estimated = start->second - now_,
                         .low = range.from - now_,
                         .high = range.to - now_,
                         .by_limits = late->second - now_});
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
    if (job.preemptions == 0 && job.interruptions == 0) job.first_start = now_;
    if (const auto told = told_.find(id_of(i)); told != told_.end()) {
      calibration_.started(id_of(i), now_);
      out_.etas[told->second].real = now_ - job.submitted;
      told_.erase(told);
    }
    if (const auto restarted = restarted_at_.find(id_of(i)); restarted != restarted_at_.end()) {
      out_.restart_waits.push_back(to_seconds(now_ - restarted->second));
      restarted_at_.erase(restarted);
    }
    r.cost = job.preemptions + job.interruptions > 0 ? options_.restart_cost : Duration::zero();
    r.since = now_;
    free_ -= gpus_of(i);
    ends_.push({now_ + r.cost + r.left, i, ++r.run});
  }

  void stop(std::size_t i) {
    Running& r = left_[i];
    r.left -= std::max(Duration::zero(), now_ - r.since - r.cost);
    stop_run(i);
    ++out_.jobs[i].preemptions;
    planner_.enqueue(*planner_.stopped(id_of(i), now_), now_);
  }

  void stop_run(std::size_t i) {
    Running& r = left_[i];
    ++r.run;
    free_ += gpus_of(i);
    out_.held_gpu_seconds += to_seconds(now_ - r.since) * static_cast<double>(gpus_of(i));
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
  bool fragmented_ = false;
  std::vector<Outage> outages_;
  std::size_t next_outage_ = 0;
  std::vector<int> down_;                                  // by node: outages that overlap
  std::vector<std::pair<Instant, std::size_t>> requeues_;  // by time
  std::map<JobId, Instant> restarted_at_;
  planner::Calibration calibration_;
  std::map<JobId, std::size_t> told_;  // → in out_.etas
  std::size_t asked_ = 0;
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
