#include "tests/chaos/lab.h"

#include <algorithm>
#include <filesystem>

namespace tutti::chaos {

namespace json = e2e::json;
using e2e::await_true;
using e2e::Failure;
using e2e::kPatience;
using e2e::number_of;
using e2e::text_of;

// The rest of a gang is told to stop when lease and margin of the lost part are over; to kill it and prove it
// takes time, on a busy machine of two cores up to this many seconds.
constexpr double kKillTime = 2;

Lab::Lab(LabOptions options, std::uint64_t seed, RowFigures& figures)
    : options_(options),
      figures_(figures),
      dice_(seed),
      cluster_(std::make_unique<e2e::Cluster>(options.cluster)) {
  offset_ = clock_offset();
  auto& c = cluster();
  // With checkpoints: faults of ours that repeat without progress are tried again ever later.
  auto gang = forgiving(c.spec("gang", c.rank("--usr1 3 --every 50"), kGangNodes, kGangGpus));
  gang["checkpoint"] = json::object{{"dir", c.checkpoints("gang")}};
  gang_ = c.submit(gang);
  bystander_ = c.submit(forgiving(c.spec("bystander", c.rank(""), kBystanderNodes, kBystanderGpus)));
  settle();
  traffic_ = std::make_unique<Traffic>(c, 700ms);
}

Lab::~Lab() {
  try {
    mend();
  } catch (const std::exception&) {  // it was told before
  }
}

// ---------------------------------------------------------------- around an injection

void Lab::begin() {
  hit_.clear();
  before_.clear();
  for (const auto job : {gang_, bystander_}) {
    Before b{epoch(job), {}, nodes_of(job)};
    for (const auto& rank : ranks(job)) b.pids.insert(rank.pid);
    before_[job] = std::move(b);
  }
}

void Lab::mend() {
  while (!mends_.empty()) {
    const auto mend = std::move(mends_.back());
    mends_.pop_back();
    mend();
  }
}

void Lab::end(bool control_fault) {
  mend();
  cluster().await_linked();  // not before: a scheduler may have been started by the last of them
  settle();
  compare(control_fault);
  judge();
}

void Lab::settle() {
  for (const auto job : {gang_, bystander_}) {
    const auto j = cluster().await_state(job, "running");
    await_started(
        job, number_of(j, "epoch"),
        static_cast<std::size_t>(job == gang_ ? kGangNodes * kGangGpus : kBystanderNodes * kBystanderGpus));
  }
}

void Lab::compare(bool control_fault) {
  for (const auto& [job, b] : before_) {
    if (hit_.contains(job)) continue;
    std::set<pid_t> now;
    for (const auto& rank : ranks(job)) now.insert(rank.pid);
    if (now == b.pids && epoch(job) == b.epoch) continue;
    std::string why;
    for (const auto& a : cluster().attempts(job))
      if (number_of(a, "epoch") == b.epoch) why = text_of(a, "cause") + ": " + text_of(a, "detail");
    violated({Rule::healthy_killed, std::string(job == gang_ ? "the gang" : "the bystander") + " of epoch " +
                                        std::to_string(b.epoch) + " was ended by a fault " +
                                        (control_fault ? "of the control plane" : "that had not hit it") +
                                        " (" + why + ")"});
  }
}

void Lab::judge() {
  std::vector<Violation> all;
  const auto take = [&](std::vector<Violation> some) {
    all.insert(all.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
  };
  const auto attempts = load_attempts(cluster(), offset_);
  const auto lives = load_lives(cluster().stamps());
  const auto& o = options_.cluster;
  if (!options_.wall_clock_steps) take(judge_ends(lives, attempts));
  auto whole = attempts;
  std::erase_if(whole, [&](const AttemptStamps& a) { return silenced_.contains({a.job, a.epoch}); });
  take(judge_wholeness(lives, whole, static_cast<std::int64_t>((o.lease + o.margin + kKillTime) * 1e6),
                       e2e::boot_us()));
  take(judge_epochs(cluster()));
  take(judge_gpu_locks(cluster()));
  if (!options_.wall_clock_steps) take(judge_ledger(cluster()));
  for (const auto& v : all) violated(v);
}

void Lab::violated(const Violation& v) {
  if (!known_.insert(v.text).second) return;
  ++figures_.violations[v.rule];
  figures_.failures.push_back(name(v.rule) + ": " + v.text);
}

void Lab::finish() {
  auto& c = cluster();
  c.await_linked();
  traffic_->stop();
  if (!traffic_->trouble().empty()) violated({Rule::lost_job, traffic_->trouble()});
  auto accepted = traffic_->accepted();
  accepted.insert(own_.begin(), own_.end());
  for (const auto& [name, id] : accepted) {
    try {
      c.await_state(id, "succeeded");
    } catch (const Failure& e) {
      violated({Rule::lost_job, name + " was accepted and does not succeed: " + e.what()});
    }
  }
  // Of those without an answer there may be one or none.
  std::map<std::string, std::int64_t> known = accepted;
  for (const auto& v : judge_submissions(c, known)) violated(v);
  for (const auto& name : in_doubt_)
    if (c.sql("SELECT id FROM job_spec WHERE name = '" + name + "'").size() > 1)
      violated({Rule::lost_job, name + " is there more than once"});
  judge();
  traffic_.reset();
  c.finish();
}

// ---------------------------------------------------------------- what is there

void Lab::await_started(std::int64_t job, std::int64_t epoch, std::size_t ranks) {
  await_true("all ranks of job " + std::to_string(job) + " epoch " + std::to_string(epoch) + " have started",
             kPatience, [&] {
               for (std::size_t i = 0; i < ranks; ++i)
                 if (cluster().stamp(job, epoch, static_cast<int>(i)).first == 0) return false;
               return true;
             });
}

std::vector<std::string> Lab::nodes_of(std::int64_t job) { return cluster().gang(job); }

std::vector<e2e::Seen> Lab::ranks(std::int64_t job) {
  const auto count =
      static_cast<std::size_t>(job == gang_ ? kGangNodes * kGangGpus : kBystanderNodes * kBystanderGpus);
  std::vector<e2e::Seen> found;
  // A scheduler that has just woken may still name an epoch whose ranks are gone.
  await_true(
      "all ranks of job " + std::to_string(job), kPatience,
      [&] {
        const auto e = epoch(job);
        for (std::size_t i = 0; i < count; ++i)
          if (cluster().stamp(job, e, static_cast<int>(i)).first == 0) return false;
        found = cluster().ranks(job, e);
        return found.size() == count;
      },
      [&] { return std::to_string(found.size()) + " of them; " + cluster().explain(job); });
  return found;
}

std::string Lab::some_node(std::int64_t job) { return dice_.pick(nodes_of(job)); }

std::pair<std::string, int> Lab::some_gpu(std::int64_t job) {
  const auto attempts = cluster().attempts(job);
  const auto& gang = attempts.back().at("gang").as_array();
  const auto& member = gang[dice_.below(gang.size())].as_object();
  const auto& gpus = member.at("gpus").as_array();
  return {text_of(member, "node"),
          static_cast<int>(number_of(gpus[dice_.below(gpus.size())].as_object(), "index"))};
}

// ---------------------------------------------------------------- what is done

void Lab::hit_node(const std::string& node) {
  for (const auto& [job, b] : before_) {
    if (std::ranges::find(b.nodes, node) != b.nodes.end()) hit_job(job);
    try {
      const auto nodes = nodes_of(job);
      if (std::ranges::find(nodes, node) != nodes.end()) hit_job(job);
    } catch (const e2e::Unreachable&) {  // the scheduler is away: they cannot have moved since
    }
  }
}

Hit Lab::strike(std::int64_t job, const std::function<void()>& inject) {
  hit_job(job);
  count_injection();
  Hit hit{job, epoch(job), e2e::boot_us()};
  inject();
  return hit;
}

void Lab::power_off(const std::string& node) {
  hit_node(node);
  cluster().cut(node);
  cluster().kill_node(node);
  mend_later([this, node] { power_on(node); });
}

void Lab::power_on(const std::string& node) {
  if (cluster().worker(node).process().running()) return;
  cluster().heal(node);
  cluster().start_worker(cluster().worker(node), true);
}

std::optional<std::int64_t> Lab::try_submit(e2e::Rest asked) {
  auto& c = cluster();
  const std::string name = "own-" + std::to_string(++submissions_);
  in_doubt_.insert(name);
  try {
    const auto spec = forgiving(c.spec(name, c.rank("--steps 5"), 1, 1));
    const auto id = number_of(asked.post("/v1/jobs", spec, name).as_object(), "id");
    expect_success(name, id);
    in_doubt_.erase(name);
    return id;
  } catch (const e2e::Unreachable&) {
    return std::nullopt;
  }
}

void Lab::await_condition(const std::string& node, const std::string& kind, bool holds) {
  await_true(
      node + (holds ? " has " : " has no more ") + kind, kPatience,
      [&] {
        const auto there = cluster().node(node);
        for (const auto& c : there.at("conditions").as_array())
          if (text_of(c.as_object(), "kind") == kind) return holds;
        return !holds;
      },
      [&] { return json::serialize(cluster().node(node)); });
}

std::int64_t Lab::submit_lockstep(const std::string& kind, const std::string& more) {
  auto& c = cluster();
  const auto name = kind + "-" + std::to_string(e2e::boot_us());  // with checkpoints of its own
  const std::string dir = c.shared() + "/lockstep";
  std::filesystem::create_directories(dir);
  std::filesystem::permissions(dir, std::filesystem::perms::all);
  const auto rank = c.rank("--step-ms 200 --tell 1 --every 10 --lockstep " + dir + " " + more);
  auto spec = forgiving(c.spec(name, rank, 2, 2));
  spec["checkpoint"] = json::object{{"dir", c.checkpoints(name)}};
  const auto id = c.submit(spec);
  c.await_running(id, 1);
  c.await_ranks(id, 1, 4);
  return id;
}

void Lab::await_step(std::int64_t job, std::int64_t step) {
  cluster().await_job(job, "is at step " + std::to_string(step), [&](const json::object& j) {
    return j.at("progress").is_object() && number_of(j.at("progress").as_object(), "step") >= step;
  });
}

void Lab::cancel(std::int64_t job) {
  cluster().rest().post("/v1/jobs/" + std::to_string(job) + ":cancel");
  cluster().await_state(job, "cancelled");
}

// ---------------------------------------------------------------- what must follow

void Lab::measured(Stage stage, std::int64_t since_us, std::int64_t until_us) {
  figures_.seconds[stage].push_back(static_cast<double>(std::max<std::int64_t>(until_us - since_us, 0)) /
                                    1e6);
}

std::int64_t Lab::node_event(const std::string& node, const std::string& to, std::int64_t since_us) {
  const auto rows = cluster().sql(
      "SELECT (extract(epoch FROM at) * 1000000)::bigint FROM node_event WHERE node = "
      "(SELECT id FROM node WHERE name = '" +
      node + "') AND kind = 'node' AND to_name = '" + to + "' ORDER BY id");
  for (const auto& row : rows)
    if (const auto at = std::stoll(row) + offset_; at >= since_us) return at;
  return 0;
}

void Lab::await_back(const Hit& hit, const std::string& silent) {
  auto& c = cluster();
  json::object job;
  c.await_job(hit.job, "runs after epoch " + std::to_string(hit.epoch), [&](const json::object& j) {
    job = j;
    return text_of(j, "state") == "running" && number_of(j, "epoch") > hit.epoch;
  });
  const auto now = number_of(job, "epoch");
  std::int64_t ranks = 0;
  const auto attempts = load_attempts(c, offset_);
  for (const auto& a : attempts)
    if (a.job == hit.job && a.epoch == now) ranks = a.ranks;
  await_started(hit.job, now, static_cast<std::size_t>(ranks));
  for (const auto& a : attempts) {
    if (a.job != hit.job || a.epoch != hit.epoch) continue;
    // A lost node's `fault` is when it was heard last, which is before anybody could have noticed.
    std::int64_t detected = a.fault;
    if (!silent.empty())
      if (const auto seen = node_event(silent, "unreachable", hit.at_us); seen != 0) detected = seen;
    if (detected == 0 || detected < hit.at_us) detected = a.stopping != 0 ? a.stopping : a.ended_at;
    measured(Stage::detected, hit.at_us, std::min(detected, a.ended_at));
    measured(Stage::fenced, hit.at_us, a.ended_at);
  }
  const auto queued =
      c.sql("SELECT (extract(epoch FROM at) * 1000000)::bigint FROM job_event WHERE job = " +
            std::to_string(hit.job) + " AND kind = 'state' AND from_name = 'stopping' ORDER BY id");
  for (const auto& row : queued)
    if (const auto at = std::stoll(row) + offset_; at >= hit.at_us) {
      measured(Stage::requeued, hit.at_us, at);
      break;
    }
  std::int64_t running = 0;
  for (int i = 0; i < ranks; ++i) running = std::max(running, c.stamp(hit.job, now, i).first);
  measured(Stage::running, hit.at_us, running);
}

void Lab::watch_unharmed(std::chrono::milliseconds time) {
  std::vector<e2e::Seen> watched;
  for (const auto& [job, b] : before_)
    if (!hit_.contains(job))
      for (auto& seen : cluster().ranks(job, b.epoch)) watched.push_back(std::move(seen));
  const auto until = e2e::Clock::now() + time;
  await_true("so much time", time + 10s, [&] {
    const auto dead = std::ranges::find_if(watched, [](const e2e::Seen& s) { return !s.alive(); });
    return dead != watched.end() || e2e::Clock::now() >= until;  // a death is told by compare()
  });
}

}  // namespace tutti::chaos
