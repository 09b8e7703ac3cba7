#include "worker/core/worker_core.h"

#include <algorithm>
#include <utility>

#include "scheduler/model/assert.h"
#include "worker/core/attempt.h"

namespace tutti::worker {

using protocol::AttemptStatus;
using protocol::End;
using protocol::Failure;
using protocol::Phase;

namespace {

constexpr std::size_t kMaxJobsRemembered = 4096;
constexpr std::size_t kMaxPastEnds = 256;
constexpr std::size_t kMaxHeartbeatsUnderWay = 64;
constexpr Duration kProgressEvery = std::chrono::seconds(1);

}  // namespace

WorkerCore::WorkerCore(CoreSettings settings)
    : settings_(std::move(settings)), gpus_(settings_.fatal), peers_(settings_.started) {
  TUTTI_ASSERT(settings_.fatal != nullptr, "the fault table is handed in by the shell");
}
WorkerCore::~WorkerCore() = default;

// ---------------------------------------------------------------- connection, heartbeat, lease

void WorkerCore::send(protocol::FromWorker m) {
  if (connected_) act(Send{std::move(m)});
}

void WorkerCore::on_connected(Now now) {
  connected_ = true;
  welcome_ = false;
  heartbeats_under_way_.clear();
  say_hello(now);
}

void WorkerCore::on_disconnected(Now) {
  connected_ = false;
  welcome_ = false;
  heartbeats_under_way_.clear();
}

void WorkerCore::say_hello(Now now) {
  auto hello = settings_.self;
  hello.boot_us = boot_us(now);
  const auto inventory = gpus_.inventory();
  hello.driver = inventory.driver;
  hello.simulated_gpus = inventory.simulated_gpus;
  hello.gpus = inventory.gpus;
  for (auto& [key, a] : attempts_) {
    a->reported = status_to_say(*a);
    hello.attempts.push_back(*a->reported);
  }
  hello_sent_at_ = now.mono;
  conditions_.begin_anew();
  hello.health = conditions_.take_message(boot_us(now), heartbeat_seq_);
  send(std::move(hello));
  if (inspection_) {
    inspection_->age_us = std::max<std::int64_t>(0, (now.wall - inspected_at_).count());
    send(*inspection_);
  }
}

void WorkerCore::on_welcome(Now now, const protocol::Welcome& w) {
  if (!connected_) return;
  enforce_leases(now);
  welcome_ = true;
  term_ = w.term;
  lease_ = Duration(std::max<std::int64_t>(w.lease_us, 0));
  heartbeat_every_ = std::clamp(Duration(w.heartbeat_us), Duration(std::chrono::milliseconds(10)),
                                Duration(std::chrono::minutes(1)));
  gpus_.use_table(w.quarantining);
  extend_lease(hello_sent_at_);
  say_untold_faults(now);
  heartbeat(now);
  const std::set<AttemptKey> keep(w.keep.begin(), w.keep.end());
  for (const auto key : attempts()) {
    auto& a = *attempts_.at(key);
    if (keep.contains(key)) {
      say_left(a);
      publish(a);
    } else if (a.stage != Stage::ended) {
      stop_attempt(now, a, protocol::Stop{key, "fenced", "KILL", 0});
    } else if (a.final.end->proven) {
      forget(now, key);  // its end is committed, or it has been superseded
    } else {
      publish(a);
    }
  }
}

// What was said just before a connection broke may be lost: say it again, the scheduler takes it once.
void WorkerCore::say_left(const Attempt& a) {
  for (const auto& [path, found] : a.checkpoints) send(found);
  for (const auto& [path, checked] : a.checked) send(checked);
  if (a.collective) send(*a.collective);
  if (a.progress) send(*a.progress);
}

void WorkerCore::heartbeat(Now now) {
  next_heartbeat_ = now.mono + heartbeat_every_;
  const auto seq = ++heartbeat_seq_;
  heartbeats_under_way_[seq] = now.mono;
  if (heartbeats_under_way_.size() > kMaxHeartbeatsUnderWay)
    heartbeats_under_way_.erase(heartbeats_under_way_.begin());
  protocol::Heartbeat beat{seq, now.wall.time_since_epoch().count()};
  if (connected_) beat.loads = std::exchange(loads_, std::nullopt);
  if (welcome_) beat.term = term_;
  send(std::move(beat));
}

void WorkerCore::on_heartbeat_ack(Now now, const protocol::HeartbeatAck& ack) {
  enforce_leases(now);
  const auto found = heartbeats_under_way_.find(ack.seq);
  if (found == heartbeats_under_way_.end() || !welcome_) return;
  extend_lease(found->second);
  std::erase_if(faults_untold_, [&](const UntoldFault& f) { return f.said_after < ack.seq; });
  conditions_.arrived(ack.seq);
  heartbeats_under_way_.erase(heartbeats_under_way_.begin(), std::next(found));
}

void WorkerCore::extend_lease(Mono sent_at) {
  const auto until = sent_at + lease_;
  if (until <= lease_until_) return;
  lease_until_ = until;
  act(SetLease{lease_until_boot_us()});
  for (auto& [key, a] : attempts_) renew(*a);
}

std::int64_t WorkerCore::lease_until_boot_us() const { return lease_until_.time_since_epoch().count(); }

// ---------------------------------------------------------------- orders

bool WorkerCore::is_stale(AttemptKey key) const {
  const auto found = highest_.find(key.job);
  return found != highest_.end() && key.epoch < found->second;
}

void WorkerCore::forget_epoch(AttemptKey key) {
  auto& highest = highest_[key.job];
  highest = std::max(highest, key.epoch);
  if (highest_.size() > kMaxJobsRemembered) highest_.erase(highest_.begin());
}

WorkerCore::Attempt* WorkerCore::live(AttemptKey key) {
  const auto found = attempts_.find(key);
  return found == attempts_.end() ? nullptr : found->second.get();
}

const WorkerCore::Attempt* WorkerCore::holder_of(const std::string& uuid) const {
  for (const auto& [key, a] : attempts_) {
    if (a->stage == Stage::ended && a->final.end->proven) continue;
    const auto& held = a->prepare.gpu_uuids;
    if (std::find(held.begin(), held.end(), uuid) != held.end()) return a.get();
  }
  return nullptr;
}

// "" = the attempt can be prepared here.
std::string WorkerCore::why_not(const protocol::Prepare& p, const ParsedSpec& parsed) const {
  if (!parsed.spec) return "job spec cannot be read: " + parsed.error;
  if (!parsed.refusal.empty()) return parsed.refusal;
  if (p.gang.empty() || p.index < 0 || static_cast<std::size_t>(p.index) >= p.gang.size())
    return "gang of " + std::to_string(p.gang.size()) + " has no node " + std::to_string(p.index);
  const auto& node = p.gang[static_cast<std::size_t>(p.index)];
  if (node.ranks < 0 || node.ranks > 4096 || node.first_rank < 0) return "number of ranks is out of range";
  if (!p.gpu_uuids.empty() && !probe_up_) return "GPUs cannot be read now: NVML is not available";
  std::set<std::string> seen;
  for (const auto& uuid : p.gpu_uuids) {
    if (!seen.insert(uuid).second) return "GPU " + uuid + " is given twice";
    if (gpus_.find(uuid) == nullptr) return "GPU " + uuid + " is not in this node";
    if (const auto why = gpus_.why_unhealthy(uuid); !why.empty())
      return "GPU " + uuid + " is unhealthy: " + why;
    if (const auto* other = holder_of(uuid))
      return "GPU " + uuid + " is still held by job " + to_string(other->key.job) + " epoch " +
             to_string(other->key.epoch);
  }
  return {};
}

void WorkerCore::on_prepare(Now now, const protocol::Prepare& p, const ParsedSpec& parsed) {
  if (auto* known = live(p.key)) {  // repeated: say where it stands
    send(status_of(known->key));
    return;
  }
  const auto seen = highest_.find(p.key.job);
  if (seen != highest_.end() && p.key.epoch <= seen->second) {
    act(Note{p.key, "", "refused", "epoch " + to_string(seen->second) + " has been here"});
    answer_about_unknown(now, p.key);
    return;
  }
  // Older epochs of this job are fenced by the new one.
  for (auto& [key, a] : attempts_)
    if (key.job == p.key.job && a->stage != Stage::ended)
      stop_attempt(now, *a, protocol::Stop{key, "fenced", "KILL", 0});
  forget_epoch(p.key);
  auto why = why_not(p, parsed);
  const bool gate = settings_.gate && (!parsed.spec || parsed.spec->preflight != Preflight::none);
  if (why.empty() && gate) why = conditions_.why_closed();
  if (!why.empty()) {
    auto a = std::make_unique<Attempt>(p, parsed.spec);
    a->stage = Stage::ended;
    a->final = ended(p.key, failure("launch", why, now), true, "never started", now);
    auto& kept = *(attempts_[p.key] = std::move(a));
    act(RecordEnd{kept.final});
    act(Note{p.key, "", "ended", why});
    publish(kept);
    return;
  }
  auto& a = *(attempts_[p.key] = std::make_unique<Attempt>(p, parsed.spec));
  act(Note{p.key, "", "preparing", ""});
  renew(a);
  next_ping_ = now.mono;
  if (gate)
    begin_gate(now, a);
  else
    act(SpawnSupervisor{p.key});
  publish(a);
}

void WorkerCore::on_launch(Now now, const protocol::Launch& launch) {
  auto* a = live(launch.key);
  if (!a) {
    if (!is_stale(launch.key)) answer_about_unknown(now, launch.key);
    return;
  }
  if (a->stage == Stage::spawning || a->stage == Stage::supervised) {
    if (!a->launch) a->launch = launch;
    push_orders(*a);
  }
  send(status_of(launch.key));
}

void WorkerCore::on_stop(Now now, const protocol::Stop& stop) {
  auto* a = live(stop.key);
  if (!a) {
    answer_about_unknown(now, stop.key);
    return;
  }
  if (a->stage == Stage::ended)
    send(status_of(stop.key));
  else
    stop_attempt(now, *a, stop);
}

void WorkerCore::stop_attempt(Now now, Attempt& a, const protocol::Stop& stop) {
  // A second order only counts if it is harder: a repeated gentle one must not start the grace anew.
  const bool at_once = stop.signal.empty() || stop.signal == "KILL";
  const bool was_at_once = a.stop && (a.stop->signal.empty() || a.stop->signal == "KILL");
  if (a.stop && (was_at_once || !at_once)) return;
  act(Note{a.key, phase_word(a), "stopping", stop.cause});
  a.stop = stop;
  a.stop_told = false;
  const Duration grace(at_once ? 0 : std::max<std::int64_t>(stop.grace_us, 0));
  if (a.gate) {  // nothing has been started
    a.gate.reset();
    a.supervisor_gone = true;
    begin_last_work(now, a, End{false, true, "never started", boot_us(now)});
    return;
  }
  a.supervisor_by = now.mono + grace + settings_.supervisor_patience;
  push_orders(a);
}

// Brings the supervisor to what is wanted, as far as it is connected.
void WorkerCore::push_orders(Attempt& a) {
  if (a.stage != Stage::supervised) return;
  if (a.launch && !a.launch_told && !a.stop && a.resume == Attempt::Resume::none &&
      a.status.phase == Phase::ready) {
    a.launch_told = true;
    act(LaunchRanks{a.key, *a.launch});
  }
  if (a.stop && !a.stop_told) {
    a.stop_told = true;
    act(TellSupervisor{a.key, supervisor::Stop{a.stop->cause, a.stop->signal, a.stop->grace_us}});
  }
}

// Where there is nobody to hear it now it is lost: it was for those that run.
void WorkerCore::on_signal_ranks(const protocol::SignalRanks& signal) {
  auto* a = live(signal.key);
  if (!a || a->stage != Stage::supervised || a->stop || a->status.phase != Phase::running) return;
  act(Note{a->key, phase_word(*a), phase_word(*a), "signal " + signal.signal});
  act(TellSupervisor{a->key, supervisor::SignalRanks{signal.signal}});
}

void WorkerCore::on_forget(Now now, const protocol::Forget& f) { forget(now, f.key); }

void WorkerCore::forget(Now, AttemptKey key) {
  auto* a = live(key);
  // An end that is not proven stays: its GPUs are still held, and its proof will be told.
  if (!a || a->stage != Stage::ended || !a->final.end->proven) return;
  past_.push_back(a->final);
  if (past_.size() > kMaxPastEnds) past_.pop_front();
  attempts_.erase(key);
  act(Retire{key});
}

// Asked about something that is not here: say how it ended, or that it never began. From now on it cannot.
void WorkerCore::answer_about_unknown(Now now, AttemptKey key) {
  for (const auto& s : past_)
    if (s.key == key) {
      send(s);
      return;
    }
  forget_epoch(key);
  send(ended(key, std::nullopt, true, "never started", now));
}

// ---------------------------------------------------------------- progress

bool WorkerCore::on_progress(Now now, const protocol::Progress& p) {
  auto* a = live(p.key);
  if (!a || a->stage == Stage::ended) return false;
  // Of dead ranks no more will come.
  if (a->progress && a->stage != Stage::last_work && now.mono - a->progress_at < kProgressEvery) return false;
  a->progress = p;
  a->progress_at = now.mono;
  send(p);
  return true;
}

bool WorkerCore::on_collective(const protocol::CollectiveResult& result) {
  auto* a = live(result.key);
  if (!a || a->stage == Stage::ended) return false;
  if (a->collective) return true;
  a->collective = result;
  send(result);
  return true;
}

// ---------------------------------------------------------------- time

void WorkerCore::on_tick(Now now) {
  enforce_leases(now);
  ping_peers(now);
  tick_gates(now);
  end_old_conditions(now);
  if (welcome_ && now.mono >= next_heartbeat_) heartbeat(now);
  for (auto& [key, a] : attempts_) {
    if (a->stage == Stage::last_work && !a->gpus_waited_for.empty()) {
      if (now.mono >= a->gpu_deadline) {
        a->end.proven = false;
        a->end.how = a->gpu_witness.empty() ? "the probe does not answer" : a->gpu_witness;
        a->gpus_waited_for.clear();
        conclude_if_done(now, *a);
      } else if (now.mono >= a->next_ask) {
        a->next_ask = now.mono + settings_.gpu_poll;
        const bool lost = now.mono >= a->asked_in_vain_at;
        if (lost) a->asked_in_vain_at = now.mono + settings_.gpu_answer;
        for (auto& [uuid, id] : a->gpus_waited_for) {
          // One that is only slow must count when it comes: under a new number it would be for nothing.
          if (id != 0 && !lost) continue;
          id = next_question_++;
          act(AskProcesses{uuid, id});
        }
      }
    }
    if (a->resume == Attempt::Resume::checking && now.mono >= a->resume_by)
      on_resume_checked(now, key,
                        {ResumeCheck::What::unreachable, "the checkpoint folder does not answer", false});
    if (a->supervisor_by && !a->supervisor_gone && now.mono >= *a->supervisor_by) {
      a->supervisor_by = now.mono + settings_.supervisor_patience;  // it may hang where no signal reaches
      act(Note{key, phase_word(*a), phase_word(*a), "the supervisor does not do as it is told: killing it"});
      act(KillSupervisor{key});
    }
    if (needs_proof(*a) && now.mono >= a->prove_at) {
      a->prove_at = now.mono + settings_.prove_again;
      act(KillAndProve{key});
    }
  }
}

Duration WorkerCore::next_wake(Now now) const {
  auto wake = now.mono + std::chrono::seconds(1);
  if (welcome_) wake = std::min(wake, next_heartbeat_);
  for (const auto& [key, a] : attempts_) {
    if (a->may_run() && a->lease_until != Mono{} && !a->lease_struck)
      wake = std::min(wake, a->lease_over ? a->lease_until + settings_.lease_second_look : a->lease_until);
    if (a->may_run() && a->prepare.hold.continue_for_us > 0) wake = std::min(wake, next_ping_);
    if (a->stage == Stage::last_work && !a->gpus_waited_for.empty())
      wake = std::min({wake, a->next_ask, a->gpu_deadline});
    if (a->supervisor_by && !a->supervisor_gone) wake = std::min(wake, *a->supervisor_by);
    if (needs_proof(*a)) wake = std::min(wake, a->prove_at);
    if (a->resume == Attempt::Resume::checking) wake = std::min(wake, a->resume_by);
    if (a->gate) wake = std::min({wake, a->gate->until, a->gate->gpus.empty() ? wake : a->gate->next_ask});
  }
  return std::max(wake - now.mono, Duration(0));
}

// ---------------------------------------------------------------- what is said

void WorkerCore::publish(Attempt& a) {
  auto status = status_to_say(a);
  if (!connected_ || (a.reported && same(*a.reported, status))) return;
  a.reported = status;
  send(std::move(status));
}

AttemptStatus WorkerCore::status_of(AttemptKey key) const {
  const auto& a = *attempts_.at(key);
  return a.stage == Stage::ended ? a.final : live_status(a);
}

// Of a new connection the Welcome comes first, then what an attempt has left, and then its end: of one that
// has ended the scheduler takes no checkpoint any more.
AttemptStatus WorkerCore::status_to_say(const Attempt& a) const {
  return !welcome_ && leaves_words(a) ? live_status(a) : status_of(a.key);
}

std::optional<WorkerCore::View> WorkerCore::find(AttemptKey key) const {
  const auto found = attempts_.find(key);
  if (found == attempts_.end()) return std::nullopt;
  const auto& a = *found->second;
  View v;
  v.prepare = &a.prepare;
  v.spec = a.spec;
  v.ended = a.stage == Stage::ended;
  v.stopping = a.stop.has_value();
  v.status = &a.status;
  v.phase = v.ended ? Phase::ended : live_phase(a);
  return v;
}

std::vector<AttemptKey> WorkerCore::attempts() const {
  std::vector<AttemptKey> keys;
  for (const auto& [key, a] : attempts_) keys.push_back(key);
  return keys;
}

std::vector<DeviceFact> WorkerCore::devices_of(AttemptKey key) const {
  std::vector<DeviceFact> out;
  const auto found = attempts_.find(key);
  if (found == attempts_.end()) return out;
  const auto& uuids = found->second->prepare.gpu_uuids;
  for (auto& d : gpus_.all_devices())
    if (std::find(uuids.begin(), uuids.end(), d.uuid) != uuids.end()) out.push_back(std::move(d));
  return out;
}

}  // namespace tutti::worker
