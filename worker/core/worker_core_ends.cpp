// Of WorkerCore: how attempts end, what an earlier worker has left, and GPUs.
#include <algorithm>
#include <utility>

#include "worker/core/attempt.h"
#include "worker/core/worker_core.h"

namespace tutti::worker {

using protocol::AttemptStatus;
using protocol::End;
using protocol::Phase;

// ---------------------------------------------------------------- supervisors

void WorkerCore::on_supervisor_status(Now now, AttemptKey key, const supervisor::Status& status,
                                      bool first_of_connection) {
  auto* a = live(key);
  if (!a) return;
  const bool unproven =
      (a->stage == Stage::ended && !a->final.end->proven) || (a->stage == Stage::last_work && !a->end.proven);
  if (unproven && status.end && status.end->proven) {
    begin_last_work(now, *a, *status.end);  // it went on trying
    return;
  }
  if (a->stage != Stage::spawning && a->stage != Stage::supervised) return;
  const auto before = phase_word(*a);
  a->stage = Stage::supervised;
  a->status = status;
  if (status.phase != Phase::ended) a->reached = std::max(a->reached, status.phase);
  if (first_of_connection) {  // orders given over the former connection may be lost
    a->stop_told = false;
    a->launch_told = status.phase == Phase::launched || status.phase == Phase::running;
  }
  if (status.failure && !a->failure) a->failure = status.failure;
  if (before != phase_word(*a)) act(Note{key, before, phase_word(*a), a->failure ? a->failure->detail : ""});
  if (status.end) {
    begin_last_work(now, *a, *status.end);
  } else {
    check_resume(now, *a);
    push_orders(*a);
  }
  publish(*a);
}

void WorkerCore::on_launch_failed(Now now, AttemptKey key, const std::string& why, bool supervisor_alive) {
  auto* a = live(key);
  if (!a || a->stage == Stage::ended) return;
  if (!a->failure) a->failure = failure("launch", why, now);
  publish(*a);
  if (supervisor_alive) {
    stop_attempt(now, *a, protocol::Stop{key, "launch", "KILL", 0});
    return;
  }
  a->supervisor_gone = true;
  begin_last_work(now, *a, End{false, true, "never started", boot_us(now)});
}

void WorkerCore::on_supervisor_gone(Now now, AttemptKey key) {
  auto* a = live(key);
  if (!a || a->supervisor_gone) return;
  a->supervisor_gone = true;
  switch (a->stage) {
    case Stage::spawning:
    case Stage::supervised:
      if (!a->failure && !a->stop) a->failure = failure("supervisor", "the attempt's supervisor died", now);
      a->stage = Stage::killing;
      act(Note{key, phase_word(*a), "killing", "supervisor gone"});
      if (!a->struck) act(KillAndProve{key});  // otherwise once that kill is over
      publish(*a);                             // the scheduler can stop the rest of the gang meanwhile
      break;
    case Stage::last_work: conclude_if_done(now, *a); break;
    case Stage::ended:  // unproven, and now nobody tries: on_tick does
    case Stage::killing: break;
  }
}

void WorkerCore::on_killed(Now now, AttemptKey key, bool proven, const std::string& how) {
  auto* a = live(key);
  if (!a) return;
  if (std::exchange(a->struck, false)) {
    if (a->stage == Stage::killing)
      act(KillAndProve{key});  // the supervisor may have lived while it was done
    return;
  }
  const End end{false, proven, how, boot_us(now)};
  if (a->stage == Stage::killing) begin_last_work(now, *a, end);
  if (a->stage != Stage::ended || a->final.end->proven) return;
  a->prove_at = now.mono + settings_.prove_again;
  if (!proven) return;  // again later
  a->end.proven = true;
  a->end.how = how;
  a->stage = Stage::last_work;
  a->gpu_deadline = now.mono + settings_.prove_again;
  ask_gpus(now, *a);
  conclude_if_done(now, *a);
}

// The ranks are dead (or that could not be proven). What is left: the last checkpoint, the GPUs, the
// supervisor.
void WorkerCore::begin_last_work(Now now, Attempt& a, const End& end) {
  a.stage = Stage::last_work;
  a.end = end;
  // A node without ranks has done its part when it is told so.
  if (a.ranks() == 0 && !a.failure && a.stop && a.stop->cause == "done") a.end.ok = true;
  a.gpu_deadline = now.mono + settings_.gpu_proof;
  act(FinalScan{a.key});
  a.scanned = false;
  // Without proof it stays: it holds the locks of the devices, and tries on.
  a.supervisor_by.reset();
  if (!a.supervisor_gone && end.proven) {
    a.supervisor_by = now.mono + settings_.supervisor_patience;
    act(TellSupervisor{a.key, supervisor::Quit{}});
  }
  a.gpus_waited_for.clear();
  if (end.proven && end.how != "never started") ask_gpus(now, a);
}

void WorkerCore::ask_gpus(Now now, Attempt& a) {
  a.gpus_waited_for.clear();
  a.next_ask = now.mono + settings_.gpu_poll;
  a.asked_in_vain_at = now.mono + settings_.gpu_answer;
  if (!probe_up_) return;
  for (const auto& uuid : a.prepare.gpu_uuids) {
    if (!gpus_.find(uuid)) continue;  // fallen off the bus: nothing can be asked
    // A broken GPU often cannot be asked either, and is given to nobody before a reset: the supervisor's
    // proof (no process, no open device) has to do, or one lost GPU would cost the whole gang the deadline
    // below.
    if (!gpus_.why_unhealthy(uuid).empty()) continue;
    a.gpus_waited_for[uuid] = next_question_;
    act(AskProcesses{uuid, next_question_++});
  }
}

void WorkerCore::on_final_scan(Now now, AttemptKey key) {
  auto* a = live(key);
  if (!a || a->stage != Stage::last_work) return;
  a->scanned = true;
  conclude_if_done(now, *a);
}

void WorkerCore::conclude_if_done(Now now, Attempt& a) {
  if (a.stage != Stage::last_work || !a.scanned || !a.gpus_waited_for.empty()) return;
  if (!a.supervisor_gone && a.end.proven) return;
  const auto before = a.final.end;
  a.stage = Stage::ended;
  a.final = ended(a.key, a.failure, a.end.proven, a.end.how, now);
  a.final.agent_port = a.status.agent_port;
  a.final.master_port = a.status.master_port;
  a.final.end->ok = a.end.ok && !a.failure;
  a.final.end->boot_us = a.end.boot_us;
  a.prove_at = now.mono + settings_.prove_again;
  if (before && before->proven == a.end.proven) {  // asked again, or read back: no news
    if (a.reported && a.reported->phase != Phase::ended) publish(a);
    return;
  }
  act(RecordEnd{a.final});
  act(Note{a.key, "ending", "ended", (a.final.end->proven ? "proven: " : "NOT PROVEN: ") + a.final.end->how});
  publish(a);
}

// ---------------------------------------------------------------- start of the worker

void WorkerCore::adopt(Now now, const Adopted& found) {
  const auto key = found.prepare.key;
  forget_epoch(key);
  auto& a = *(attempts_[key] = std::make_unique<Attempt>(found.prepare, found.spec.spec));
  a.lease_until = found.lease_until;
  if (a.lease_until == Mono{} || now.mono < a.lease_until) renew(a);  // what is over stays over
  if (found.last_status) {
    a.status = *found.last_status;
    if (a.status.phase != Phase::ended) a.reached = a.status.phase;
    a.failure = found.last_status->failure;
  }
  const auto close = [&](AttemptStatus s) {
    a.stage = Stage::ended;
    a.supervisor_gone = !found.supervisor_alive;  // alive and unproven: it goes on trying
    a.scanned = true;
    a.end = *s.end;
    a.failure = s.failure;
    a.final = std::move(s);
    a.prove_at = now.mono;
  };
  if (found.former_boot) {
    auto s = ended(key, a.failure, true, "gone", now);
    const bool was_over = found.recorded_end && found.recorded_end->end && found.recorded_end->end->proven;
    if (was_over) s = *found.recorded_end;
    close(std::move(s));
    if (!was_over) act(RecordEnd{a.final});
    act(Note{key, "", "ended", a.final.end->how});
  } else if (found.recorded_end && found.recorded_end->end) {
    close(*found.recorded_end);
    act(Note{key, "", "ended", "ended before the worker started"});
    if (a.end.proven) look_again(now, a);
  } else if (found.supervisor_alive) {
    act(Note{key, "", "adopted", ""});  // its status comes when it is connected
  } else {
    act(Note{key, "", "adopted", "without a supervisor"});
    if (found.last_status && found.last_status->end && found.last_status->end->proven) {
      a.supervisor_gone = true;
      begin_last_work(now, a, *found.last_status->end);
    } else {
      on_supervisor_gone(now, key);
    }
  }
}

// The former worker may not have been heard: what the ranks have left is looked for once more, and said
// before the end.
void WorkerCore::look_again(Now now, Attempt& a) {
  a.stage = Stage::last_work;
  a.scanned = false;
  if (!a.supervisor_gone) a.supervisor_by = now.mono + settings_.supervisor_patience;
  act(FinalScan{a.key});
}

// ---------------------------------------------------------------- GPUs

void WorkerCore::on_probe(Now now, const nvml::Message& message) {
  if (const auto* m = std::get_if<nvml::Inventory>(&message)) {
    probe_up_ = true;
    gpus_.on_inventory(*m);
    for (const auto* kind : {"nvml_unavailable", "nvml_missing", "driver_mismatch", "probe_hangs"})
      on_condition_over(now, kind, "");
    // A probe that starts anew knows of none that would have to end; its first look tells again those that
    // hold.
    if (conditions_.end_all("fabric_not_ready")) act(Note{{}, "", "fabric_not_ready is looked at anew", ""});
    say_health(now);
    take_waiting_findings(now);
  } else if (std::holds_alternative<nvml::Alive>(message)) {
    on_condition_over(now, "probe_hangs", "");
  } else if (const auto* u = std::get_if<nvml::Unavailable>(&message)) {
    constexpr int kVersionMismatch = 18;  // NVML's code
    // Without a library, and never having seen a GPU, this may well be a machine that has none.
    const std::string kind = u->code == kVersionMismatch ? "driver_mismatch"
                             : u->code || gpus_.known()  ? "nvml_unavailable"
                                                         : "nvml_missing";
    for (const auto* other : {"driver_mismatch", "nvml_unavailable", "nvml_missing"})
      if (kind != other) on_condition_over(now, other, "");
    on_condition(now, kind, "", u->reason);
    take_waiting_findings(now);
    on_probe_lost(now);
  } else if (const auto* f = std::get_if<nvml::Fault>(&message)) {
    if (f->kind == nvml::FaultKind::fabric_not_ready)
      on_condition(now, "fabric_not_ready", f->uuid, f->detail);
    tell_fault(now, *f, node::FaultPairs::Source::nvml);
  } else if (const auto* r = std::get_if<nvml::Recovered>(&message)) {
    act(Note{{}, "", "GPU condition over", r->uuid + " " + std::string(nvml::name_of(r->kind))});
    if (r->kind == nvml::FaultKind::fabric_not_ready) on_condition_over(now, "fabric_not_ready", r->uuid);
    gpus_.on_recovered(*r);
  } else if (const auto* s = std::get_if<nvml::Sample>(&message)) {
    remember_memory(*s);
    take_loads(*s);
  } else if (const auto* p = std::get_if<nvml::Processes>(&message)) {
    for (auto& [key, a] : attempts_) {
      if (a->gate) gate_answer(now, *a, *p);
      const auto asked = a->gpus_waited_for.find(p->uuid);
      if (asked == a->gpus_waited_for.end() || asked->second != p->id) continue;
      asked->second = 0;
      if (p->pids && p->pids->empty()) a->gpus_waited_for.erase(asked);
      if (p->pids && !p->pids->empty())
        a->gpu_witness = "process " + std::to_string(p->pids->front()) + " is still on GPU " + p->uuid;
      else if (!p->pids)
        a->gpu_witness = "processes on GPU " + p->uuid + " cannot be read: " + p->error;
      conclude_if_done(now, *a);
    }
  }
  if (gpus_.take_changed()) inventory_changed();
}

void WorkerCore::inventory_changed() {
  act(SaveHealth{});
  send(gpus_.inventory());
}

// Without the probe the supervisor's proof alone must do.
void WorkerCore::on_probe_lost(Now now) {
  probe_up_ = false;
  loads_.reset();
  for (auto& [key, a] : attempts_) {
    if (a->gate)  // its questions have died with it: the next probe is asked at once
      for (auto& [uuid, id] : a->gate->gpus) id = 0;
    if (a->stage != Stage::last_work) continue;
    a->gpus_waited_for.clear();
    conclude_if_done(now, *a);
  }
}

}  // namespace tutti::worker
