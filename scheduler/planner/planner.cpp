// Planner: what it is told, and the policy's keys.
#include "scheduler/planner/planner.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "scheduler/model/assert.h"
#include "scheduler/planner/planner_pass.h"

namespace tutti::planner {

namespace {

constexpr Duration kWaitingIndexLasts = std::chrono::minutes(10);
constexpr double kRunningIndexLasts = 1.1;   // until so much more service
constexpr std::size_t kBucketsAPass = 4096;  // whose keys are computed again
constexpr Duration kUnknownRun = std::chrono::hours(1);
// Least attained service in levels (Tiresias, NSDI '19, has two): GPU^0.5-seconds.
constexpr std::array kLevels = {600., 1800., 7200., 28'800., 115'200., 460'800., 1'843'200.};

double weight(int gpus) { return std::sqrt(static_cast<double>(std::max(1, gpus))); }

}  // namespace

Planner::Planner(Policy policy)
    : policy_(policy), history_(std::make_shared<RunHistory>()), share_(policy.half_life) {}

std::unique_ptr<Planner> Planner::sketch(const std::vector<JobId>& waiting) const {
  auto copy = std::make_unique<Planner>(policy_);
  copy->sketch_ = true;
  copy->nodes_ = nodes_;
  copy->quota_ = quota_;
  copy->history_ = history_;
  copy->share_ = share_;
  copy->windows_ = windows_;
  copy->queue_pool_ = queue_pool_;
  copy->project_parent_ = project_parent_;
  copy->accounts_ = accounts_;
  copy->project_account_ = project_account_;
  copy->running_ = running_;
  copy->open_ended_ = open_ended_;
  copy->claims_ = claims_;
  copy->guarded_claims_ = guarded_claims_;
  copy->refreshed_at_ = refreshed_at_;
  copy->guarded_gpus_ = guarded_gpus_;
  copy->scavengers_ = scavengers_;
  for (const Pool& pool : pools_) copy->pool_named(pool.name);
  for (const JobId id : waiting) {
    const Pool* pool = pool_with(id);
    if (pool == nullptr) continue;
    const Waiting job = *pool->backlog->find(id);
    copy->pool_of(job.what.kind.queue).backlog->push(job, job.since, pool->backlog->bucket_of(id).base);
    if (const auto avoided = avoided_.find(id); avoided != avoided_.end()) copy->avoided_.insert(*avoided);
  }
  return copy;
}

// ---------------------------------------------------------------- what there is

int Planner::put_node(const NodeDesc& desc) {
  const int node = nodes_.put(desc);
  if (desc.open()) return node;
  for (auto c = claims_.begin(); c != claims_.end();) {  // nobody will start there
    const auto next = std::next(c);
    if (std::ranges::find(c->second.parts, node, &Part::node) != c->second.parts.end()) drop_claim(c->first);
    c = next;
  }
  return node;
}

int Planner::pool_named(const std::string& queue_of_nodes) {
  const auto pool = std::ranges::find(pools_, queue_of_nodes, &Pool::name);
  if (pool != pools_.end()) return static_cast<int>(pool - pools_.begin());
  const double age_rate =
      policy_.order == Order::mixed ? policy_.age_points / to_seconds(policy_.age_limit) : 0.0;
  // An index moves with every end of its like; points move little between refreshes.
  const Duration key_lasts = !sketch_ && policy_.order == Order::gittins ? policy_.refresh : Duration::max();
  pools_.push_back(
      {.name = queue_of_nodes,
       .backlog = std::make_unique<Backlog>(age_rate, key_lasts,
                                            [this](const Bucket& b, Instant now) { return base_of(b, now); }),
       .promise = {}});
  return static_cast<int>(pools_.size()) - 1;
}

void Planner::set_queue(int queue, const std::string& queue_of_nodes, QueueShare share) {
  const int index = pool_named(queue_of_nodes);
  const auto q = static_cast<std::size_t>(queue);
  if (q >= queue_pool_.size()) queue_pool_.resize(q + 1, -1);
  queue_pool_[q] = index;
  share.pool = index;
  quota_.set_queue(queue, share);
}

// Fair share has an account per project, and below it one per user; numbers are given as they come.
void Planner::set_project(int project, int parent, double weight, int max_gpus) {
  const auto p = static_cast<std::size_t>(project);
  if (p >= project_parent_.size()) project_parent_.resize(p + 1, -1);
  project_parent_[p] = parent;
  quota_.set_project(project, parent, max_gpus);
  const auto number = [&](int of) {
    const int next = static_cast<int>(project_account_.size() + accounts_.size());
    return project_account_.emplace(of, next).first->second;
  };
  const int above = parent < 0 ? -1 : number(parent);
  share_.set_account(number(project), above, weight);
}

// ---------------------------------------------------------------- what happens

void Planner::enqueue(Waiting job, Instant now) {
  job.what.clairvoyant = policy_.order == Order::remaining || policy_.order == Order::remaining_area;
  pool_of(job.what.kind.queue).backlog->push(job, now);
}

bool Planner::withdraw(JobId id) {
  drop_claim(id);
  avoided_.erase(id);
  Pool* pool = pool_with(id);
  if (pool == nullptr) return false;
  if (pool->promise && pool->promise->job == id) pool->promise.reset();
  return pool->backlog->erase(id).has_value();
}

void Planner::avoid(JobId id, std::vector<int> nodes) {
  if (nodes.empty())
    avoided_.erase(id);
  else
    avoided_[id] = std::move(nodes);
}

Duration Planner::expected_run(const PlanJob& job) const {
  const auto mean = history_->mean(job.kind, kNoLimit);
  return mean ? std::max(*mean * 2, Duration(std::chrono::minutes(1))) : kUnknownRun;
}

void Planner::adopt(const PlanJob& job, Parts parts, Instant since, Instant rank_at, Duration attained) {
  Running r;
  r.what = job;
  r.parts = std::move(parts);
  r.attained = attained;
  r.since = r.saved_at = r.accounted_until = since;
  r.rank_at = rank_at;
  r.keyed_attained = attained;
  hold(std::move(r));
}

int Planner::least_gpus(const PlanJob& job) const {
  const GangAsk& ask = nodes_.shape(job.shape).ask;
  return ask.min_nodes > 0 ? ask.min_nodes * ask.resources.gpus : job.kind.gpus;
}

// Quota, nodes and the list of those that run.
void Planner::hold(Running job) {
  const PlanJob& what = job.what;
  const bool open = what.limit == kNoLimit;
  job.until = job.since + (open ? expected_run(what) : left_of(what, job.attained));
  if (open) open_ended_.insert({job.until, what.id});
  const GangAsk& ask = nodes_.shape(what.shape).ask;
  job.gpus = ask.min_nodes > 0 ? static_cast<int>(job.parts.size()) * ask.resources.gpus : what.kind.gpus;
  if (job.guarded) guarded_gpus_ += job.gpus;
  if (band_of(what.priority) == Band::scavenger) ++scavengers_;
  quota_.use(what.kind.queue, what.project, job.gpus);
  nodes_.occupy(what.id, job.until, ask.resources, job.parts);
  const bool fresh = running_.emplace(what.id, std::move(job)).second;
  TUTTI_ASSERT(fresh, "a job runs once");
}

Running Planner::release(JobId id, Instant now) {
  auto node = running_.extract(id);
  TUTTI_ASSERT(!node.empty(), "only a running job ends");
  Running job = std::move(node.mapped());
  account(job, now);
  nodes_.vacate(id, job.parts);
  quota_.use(job.what.kind.queue, job.what.project, -job.gpus);
  open_ended_.erase({job.until, id});
  if (job.guarded) guarded_gpus_ -= job.gpus;
  if (band_of(job.what.priority) == Band::scavenger) --scavengers_;
  job.attained += now - job.since;
  return job;
}

// Getting ready took a while, and that is not charged to its limit.
void Planner::began(JobId id, Instant now) {
  const auto found = running_.find(id);
  if (found == running_.end() || now <= found->second.since) return;
  Running& job = found->second;
  account(job, now);
  job.since = now;
  job.saved_at = std::max(job.saved_at, now);
  open_ended_.erase({job.until, id});
  ends_at(job, now + (job.what.limit == kNoLimit ? expected_run(job.what) : left_of(job.what, job.attained)));
}

// Tells the nodes that hold it anew.
void Planner::ends_at(Running& job, Instant until) {
  job.until = until;
  if (job.what.limit == kNoLimit) open_ended_.insert({until, job.what.id});
  const Resources& r = nodes_.shape(job.what.shape).ask.resources;
  nodes_.vacate(job.what.id, job.parts);
  nodes_.occupy(job.what.id, until, r, job.parts);
  if (job.leaves_for) nodes_.set_leaving(job.what.id, job.parts, true);
}

// Its own end moves, and with it what others were promised; its key says what it may be stopped for.
void Planner::revise(JobId id, int priority, Duration limit, Instant now) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  Running& job = found->second;
  if (band_of(job.what.priority) == Band::scavenger) --scavengers_;
  if (band_of(priority) == Band::scavenger) ++scavengers_;
  job.what.priority = priority;
  if (job.what.limit != limit) {
    open_ended_.erase({job.until, id});
    job.what.limit = limit;
    ends_at(job, job.since + (limit == kNoLimit ? std::max(expected_run(job.what), now - job.since)
                                                : left_of(job.what, job.attained)));
  }
  job.key = key_of(job, now);
}

void Planner::checkpointed(JobId id, Instant at) {
  if (const auto job = running_.find(id); job != running_.end())
    job->second.saved_at = std::max(job->second.saved_at, at);
}

void Planner::ended(JobId id, Instant now) {
  const Running job = release(id, now);
  if (!sketch_) history_->on_ended(job.what.kind, job.attained, job.what.limit);
  avoided_.erase(id);
}

std::optional<Waiting> Planner::stopped(JobId id, Instant now) {
  Running job = release(id, now);
  return Waiting{.what = job.what, .attained = job.attained, .since = now, .rank_at = job.rank_at};
}

Decisions Planner::plan(Instant now, std::size_t most_starts) {
  Decisions out;
  const bool due = !sketch_ && (!refreshed_at_ || now - *refreshed_at_ >= policy_.refresh);
  if (due) refresh(now);
  for (Pool& pool : pools_) {
    if (pool.backlog->empty()) continue;
    Pass pass{.pool = pool, .now = now, .out = out, .most_starts = most_starts};
    fill(pass);
    if (due && !pass.full() && policy_.preempts && !pool.backlog->empty()) preempt_for_better(pass);
  }
  return out;
}

// ---------------------------------------------------------------- order

// The shorter a job is expected to be and the less its project has used, the sooner it runs: points.
double Planner::mixed_points(const JobClass& kind, int project, int priority, Duration limit) const {
  const auto mean = history_->mean(kind, limit);
  double expected = 0;
  if (limit == kNoLimit) {
    expected = to_seconds(mean.value_or(std::chrono::hours(24)));
  } else {
    const double usual = to_seconds(limit) * history_->share_of_limit(kind);
    expected = mean ? std::sqrt(to_seconds(*mean) * usual) : usual;
  }
  const double size = std::clamp(std::log2(std::max(1e-9, expected * weight(kind.gpus) / 60)) / 16, 0.0, 1.0);
  const auto account = accounts_.find({project, kind.user});
  const double share = account == accounts_.end() ? 1 : share_.factor(account->second);
  return policy_.share_points * share + policy_.short_points * (1 - size) +
         policy_.priority_points * (priority - 50) / 100;
}

double Planner::policy_key(const JobClass& kind, int project, int priority, Duration attained, Duration limit,
                           Duration known_run) const {
  switch (policy_.order) {
    case Order::arrival: return -policy_.priority_points * (priority - 50) / 100;
    case Order::mixed: return -mixed_points(kind, project, priority, limit);
    case Order::attained: {
      const double service = to_seconds(attained) * weight(kind.gpus);
      return static_cast<double>(std::ranges::count_if(kLevels, [&](double l) { return l <= service; })) -
             std::floor((priority - 50) / 20.0);
    }
    case Order::gittins: {
      const double index = history_->gittins_index(kind, attained, limit);
      return std::floor(2 * std::log2(weight(kind.gpus) / index)) - std::floor((priority - 50) / 10.0);
    }
    case Order::remaining: return to_seconds(known_run - attained);
    case Order::remaining_area: return to_seconds(known_run - attained) * kind.gpus;
  }
  return 0;
}

double Planner::base_of(const Bucket& b, Instant) const {
  return policy_key(b.kind, b.project, b.priority, b.attained, b.limit, b.known_run);
}

double Planner::key_of(const Running& job, Instant now) const {
  return policy_key(job.what.kind, job.what.project, job.what.priority, job.attained + (now - job.since),
                    job.what.limit, job.what.known_run);
}

int Planner::account_of(int project, int user) {
  const auto found = accounts_.find({project, user});
  if (found != accounts_.end()) return found->second;
  if (!project_account_.contains(project)) set_project(project, -1, 1, -1);
  const int number = static_cast<int>(project_account_.size() + accounts_.size());
  share_.set_account(number, project_account_.at(project), 1);
  return accounts_.emplace(std::pair(project, user), number).first->second;
}

void Planner::account(Running& job, Instant now) {
  share_.add(account_of(job.what.project, job.what.kind.user),
             to_seconds(now - job.accounted_until) * job.gpus, now);
  job.accounted_until = now;
}

void Planner::remember(const JobClass& kind, int project, Duration ran, Instant ended, bool finished) {
  share_.add(account_of(project, kind.user), to_seconds(ran) * kind.gpus, ended);
  if (finished) history_->on_ended(kind, ran, kNoLimit);
}

void Planner::refresh(Instant now) {
  refreshed_at_ = now;
  const bool moves = policy_.order != Order::arrival && policy_.order != Order::mixed;
  for (auto& [id, job] : running_) {
    if (policy_.order == Order::mixed) account(job, now);
    const Duration attained = job.attained + (now - job.since);
    const bool old = policy_.order != Order::gittins ||
                     to_seconds(attained) >= to_seconds(job.keyed_attained) * kRunningIndexLasts;
    if (!moves || !old) continue;
    job.key = key_of(job, now);
    job.keyed_attained = attained;
  }
  // Who has no limit and has outlived its estimate is expected to run as long again.
  while (!open_ended_.empty() && open_ended_.begin()->first <= now) {
    Running& job = running_.at(open_ended_.begin()->second);
    open_ended_.erase(open_ended_.begin());
    ends_at(job, now + std::max(Duration(std::chrono::minutes(1)), now - job.since));
  }
  const bool keys_move = policy_.order == Order::mixed || policy_.order == Order::gittins;
  for (Pool& pool : pools_)
    if (keys_move)
      pool.backlog->refresh(now, policy_.order == Order::gittins ? kWaitingIndexLasts : policy_.refresh,
                            kBucketsAPass);
}

// ---------------------------------------------------------------- what is

Planner::Pool* Planner::pool_with(JobId id) {
  for (Pool& pool : pools_)
    if (pool.backlog->contains(id)) return &pool;
  return nullptr;
}

const Planner::Pool* Planner::pool_with(JobId id) const {
  for (const Pool& pool : pools_)
    if (pool.backlog->contains(id)) return &pool;
  return nullptr;
}

std::size_t Planner::waiting() const {
  std::size_t n = 0;
  for (const Pool& pool : pools_) n += pool.backlog->size();
  return n;
}

std::optional<Waiting> Planner::find_waiting(JobId id) const {
  const Pool* pool = pool_with(id);
  return pool == nullptr ? std::nullopt : pool->backlog->find(id);
}

std::vector<std::string> Planner::pools() const {
  std::vector<std::string> out;
  for (const Pool& pool : pools_) out.push_back(pool.name);
  return out;
}

std::vector<JobId> Planner::claimants() const {
  std::vector<JobId> out;
  for (const auto& [id, claim] : claims_) out.push_back(id);
  return out;
}

std::vector<Promise> Planner::promises() const {
  std::vector<Promise> out;
  for (const Pool& pool : pools_)
    if (pool.promise) out.push_back(*pool.promise);
  return out;
}

std::vector<JobId> Planner::guarded_beside(JobId waiting, Instant now) const {
  const Pool* pool = pool_with(waiting);
  return pool == nullptr ? std::vector<JobId>{} : guarded(*pool, now);
}

std::size_t Planner::ahead_of(JobId id) const {
  const Pool* pool = pool_with(id);
  return pool == nullptr ? 0 : pool->backlog->ahead_of(id);
}

std::vector<JobId> Planner::first(const std::string& queue_of_nodes, std::size_t most, int queue) const {
  const auto pool = std::ranges::find(pools_, queue_of_nodes, &Pool::name);
  return pool == pools_.end() ? std::vector<JobId>{} : pool->backlog->first(most, queue);
}

const std::string& Planner::queue_of_nodes(JobId waiting) const {
  static const std::string kNone;
  const Pool* pool = pool_with(waiting);
  return pool == nullptr ? kNone : pool->name;
}

void Planner::lift(const QuotaBlock& block) {
  if (block.kind == QuotaBlock::Kind::project)
    quota_.set_project(block.who, project_parent_[static_cast<std::size_t>(block.who)], -1);
  else
    quota_.set_queue(block.who, {.pool = queue_pool_[static_cast<std::size_t>(block.who)]});
}

void Planner::drop_claim(JobId id) {
  const auto claim = claims_.find(id);
  if (claim == claims_.end()) return;
  const auto job = find_waiting(id);
  if (job) nodes_.claim(nodes_.shape(job->what.shape).ask.resources, claim->second.parts, -1);
  claims_.erase(claim);
  guarded_claims_.erase(id);
}

}  // namespace tutti::planner
