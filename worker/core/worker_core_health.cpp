// Of WorkerCore: the node's own health, the gate before an attempt, inspections.
#include <algorithm>
#include <limits>
#include <utility>

#include "worker/core/attempt.h"
#include "worker/core/worker_core.h"

namespace tutti::worker {

using node::KernelFinding;
using Source = node::FaultPairs::Source;

namespace {
constexpr std::size_t kMaxUntoldFaults = 64;
constexpr std::size_t kMaxWaitingFindings = 256;
// A fatal error of an NVSwitch is an event without an end; the cordon that follows it lasts, the condition so
// long.
constexpr std::int64_t kSwitchFaultUs = 600'000'000;

std::string source_text(const KernelFinding& f) {
  std::string text = f.detail + " (kernel log";
  if (f.subcode) text += ", sub-code " + std::to_string(*f.subcode);
  if (!f.action.empty()) text += ", recovery action: " + f.action;
  if (f.deduced) text += ", deduced";
  return text + ")";
}
}  // namespace

// ---------------------------------------------------------------- conditions

void WorkerCore::on_condition(Now now, const std::string& kind, const std::string& subject,
                              const std::string& detail) {
  if (conditions_.begin(kind, subject, detail, boot_us(now)))
    act(Note{{}, "", kind, subject.empty() ? detail : subject + ": " + detail});
  say_health(now);
}

void WorkerCore::on_condition_over(Now now, const std::string& kind, const std::string& subject) {
  if (conditions_.end(kind, subject)) act(Note{{}, "", kind + " is over", subject});
  say_health(now);
}

void WorkerCore::on_incident(Now now, const std::string& kind, const std::string& detail) {
  conditions_.incident(kind, detail, boot_us(now));
  say_health(now);
}

// Before the Welcome nothing is lost: the next Hello carries it.
void WorkerCore::say_health(Now now) {
  if (connected_ && welcome_ && conditions_.changed())
    send(conditions_.take_message(boot_us(now), heartbeat_seq_));
}

void WorkerCore::end_old_conditions(Now now) {
  conditions_.tick(boot_us(now));
  say_health(now);  // also what came between a Hello and its Welcome
  if (!switch_fault_at_ || boot_us(now) - *switch_fault_at_ < kSwitchFaultUs) return;
  switch_fault_at_.reset();
  on_condition_over(now, "nvswitch_fatal", "");
}

void WorkerCore::on_probe_hung(Now now, const std::string& how, bool for_good) {
  on_condition(now, "probe_hangs", "", how);
  if (!for_good) return;
  for (const auto& device : gpus_.all_devices()) {
    nvml::Fault fault;
    fault.uuid = device.uuid;
    fault.kind = nvml::FaultKind::unreadable;
    fault.boot_us = boot_us(now);
    fault.detail = how;
    tell_fault(now, fault, Source::nvml);
  }
}

// ---------------------------------------------------------------- faults of GPUs, from NVML and the kernel
// log

void WorkerCore::tell_fault(Now now, const nvml::Fault& f, Source source) {
  auto fault = gpus_.on_fault(f, boot_us(now));
  if (!fault) return;
  if (f.kind == nvml::FaultKind::xid && fault_pairs_.is_known(fault->uuid, fault->xid, f.boot_us, source))
    return;
  act(Note{{}, "", "GPU fault", fault->uuid + " " + fault->kind + " " + fault->detail});
  // What is said over a connection that is dying is gone, and nobody tells us.
  constexpr auto kNotSaid = std::numeric_limits<std::int64_t>::max();
  faults_untold_.push_back({f.boot_us, connected_ && welcome_ ? heartbeat_seq_ : kNotSaid, *fault});
  if (faults_untold_.size() > kMaxUntoldFaults) faults_untold_.pop_front();
  if (connected_ && welcome_) send(std::move(*fault));
}

void WorkerCore::say_untold_faults(Now now) {
  for (auto& f : faults_untold_) {
    f.said_after = heartbeat_seq_;
    f.fault.age_us = std::max<std::int64_t>(0, boot_us(now) - f.boot_us);
    send(f.fault);
  }
}

void WorkerCore::take_waiting_findings(Now now) {
  probe_spoke_ = true;
  for (const auto& f : std::exchange(findings_waiting_, {})) on_kernel_finding(now, f);
}

void WorkerCore::on_kernel_finding(Now now, const KernelFinding& f) {
  switch (f.kind) {
    case KernelFinding::Kind::xid: {
      if (settings_.gpus && !gpus_.known() && !probe_spoke_) {
        if (findings_waiting_.size() < kMaxWaitingFindings) findings_waiting_.push_back(f);
        return;
      }
      nvml::Fault fault;
      fault.pci = f.pci;
      fault.kind = nvml::FaultKind::xid;
      fault.xid = static_cast<std::uint64_t>(f.xid);
      fault.boot_us = std::min(f.boot_us, boot_us(now));
      fault.detail = "Xid " + std::to_string(f.xid) + ": " + source_text(f);
      const auto uuids = gpus_.uuids_at(f.pci);  // one, or all slices of it
      if (uuids.empty()) {
        on_incident(
            now, "xid_elsewhere",
            "Xid " + std::to_string(f.xid) + " on " + f.pci + ", which is no GPU of ours: " + f.detail);
        return;
      }
      for (const auto& uuid : uuids) {
        fault.uuid = uuid;
        tell_fault(now, fault, Source::kernel_log);
      }
      if (gpus_.take_changed()) inventory_changed();
      return;
    }
    case KernelFinding::Kind::sxid: {
      const auto text = "SXid " + std::to_string(f.xid) + " on NVSwitch " + f.pci + ": " + f.detail;
      if (!f.fatal) return on_incident(now, "nvswitch", text);
      switch_fault_at_ = boot_us(now);
      return on_condition(now, "nvswitch_fatal", "", text);
    }
    case KernelFinding::Kind::oom_kill:
      return on_incident(now, f.fatal ? "oom_kill_node" : "oom_kill", f.detail);
    case KernelFinding::Kind::aer: return on_incident(now, f.fatal ? "pcie_fatal" : "pcie_error", f.detail);
  }
}

// ---------------------------------------------------------------- the gate

void WorkerCore::begin_gate(Now now, Attempt& a) {
  a.gate.emplace();
  a.gate->until = now.mono + settings_.gate_limit;
  for (const auto& uuid : a.prepare.gpu_uuids) a.gate->gpus[uuid] = 0;
  act(RunGate{a.key});
  ask_gate(now, a);
}

// A GPU may be let go of a moment after its last user's end was proven: it is asked again until the time is
// over. One whose answer is only slow is not: under a new number that answer would be for nothing.
void WorkerCore::ask_gate(Now now, Attempt& a) {
  a.gate->next_ask = now.mono + settings_.gpu_poll;
  const bool lost = now.mono >= a.gate->asked_in_vain_at;
  if (lost) a.gate->asked_in_vain_at = now.mono + settings_.gpu_answer;
  for (auto& [uuid, id] : a.gate->gpus) {
    if (id != 0 && !lost) continue;
    id = next_question_++;
    act(AskProcesses{uuid, id});
  }
}

void WorkerCore::gate_answer(Now now, Attempt& a, const nvml::Processes& p) {
  const auto asked = a.gate->gpus.find(p.uuid);
  if (asked == a.gate->gpus.end() || asked->second != p.id) return;
  asked->second = 0;
  if (!p.pids) {
    a.gate->witness = "processes on GPU " + p.uuid + " cannot be read: " + p.error;
    return;
  }
  if (!p.pids->empty()) {
    a.gate->witness = "process " + std::to_string(p.pids->front()) + " uses GPU " + p.uuid;
    return;
  }
  // A driver that cannot tell the memory hides nothing from us that we could wait for.
  const auto idle = idle_memory_.find(p.uuid);
  if (p.memory_used_bytes && idle != idle_memory_.end() &&
      *p.memory_used_bytes > idle->second + settings_.gpu_memory_slack) {
    a.gate->witness = "GPU " + p.uuid + " has " + std::to_string(*p.memory_used_bytes >> 20) +
                      " MiB in use and " + std::to_string(idle->second >> 20) +
                      " MiB when idle: memory of an earlier job is not freed";
    return;
  }
  a.gate->gpus.erase(asked);
  pass_if_clean(now, a);
}

void WorkerCore::on_gate(Now now, AttemptKey key, const std::string& why) {
  auto* a = live(key);
  if (!a || !a->gate) return;
  if (!why.empty()) return gate_failed(now, *a, why);
  a->gate->shell_done = true;
  pass_if_clean(now, *a);
}

void WorkerCore::pass_if_clean(Now, Attempt& a) {
  if (!a.gate->shell_done || !a.gate->gpus.empty()) return;
  a.gate.reset();
  act(SpawnSupervisor{a.key});
}

void WorkerCore::gate_failed(Now now, Attempt& a, const std::string& why) {
  a.gate.reset();
  act(Note{a.key, "", "preflight failed", why});
  on_launch_failed(now, a.key, "preflight: " + why, false);
}

void WorkerCore::tick_gates(Now now) {
  for (auto& [key, a] : attempts_) {
    if (!a->gate) continue;
    if (now.mono >= a->gate->until) {
      gate_failed(now, *a,
                  !a->gate->witness.empty() ? a->gate->witness
                  : a->gate->shell_done     ? "the GPUs cannot be asked: the probe does not answer"
                                            : "the checks of this node have not come back in time");
    } else if (!a->gate->gpus.empty() && now.mono >= a->gate->next_ask) {
      ask_gate(now, *a);
    }
  }
}

void WorkerCore::remember_memory(const nvml::Sample& sample) {
  for (const auto& gpu : sample.gpus) {
    if (!gpu.memory_used_bytes) continue;
    const auto known = idle_memory_.find(gpu.uuid);
    if (known == idle_memory_.end()) {
      if (idle_memory_.size() < 1024) idle_memory_[gpu.uuid] = *gpu.memory_used_bytes;
    } else {
      known->second = std::min(known->second, *gpu.memory_used_bytes);
    }
  }
}

void WorkerCore::take_loads(const nvml::Sample& sample) {
  loads_.emplace();
  for (const auto& gpu : sample.gpus) {
    auto& load = loads_->emplace_back();
    load.uuid = gpu.uuid;
    if (gpu.utilization) load.utilisation_percent = static_cast<std::int32_t>(*gpu.utilization);
    if (gpu.memory_used_bytes) load.memory_bytes = static_cast<std::int64_t>(*gpu.memory_used_bytes);
    if (gpu.power_mw) load.power_mw = static_cast<std::int32_t>(*gpu.power_mw);
    if (gpu.temperature_c) load.temperature_c = static_cast<std::int32_t>(*gpu.temperature_c);
  }
}

// ---------------------------------------------------------------- inspections

void WorkerCore::on_inspect(Now, const protocol::Inspect& request) {
  if (std::exchange(inspecting_, true)) return;
  act(RunInspection{request});
}

void WorkerCore::on_inspection(Now now, protocol::InspectionReport report, Instant ended_at, bool read_back) {
  if (!read_back) inspecting_ = false;
  inspection_ = std::move(report);
  inspected_at_ = ended_at;
  inspection_->age_us = std::max<std::int64_t>(0, (now.wall - ended_at).count());
  if (!read_back) send(*inspection_);
}

std::vector<protocol::CheckResult> WorkerCore::check_gpus() const {
  std::vector<protocol::CheckResult> out;
  const auto add = [&out](std::string name, const std::string& owner, std::string why) {
    protocol::CheckResult c;
    c.name = std::move(name);
    c.owner = owner;
    c.result = why.empty() ? "ok" : "failed";
    c.detail = std::move(why);
    out.push_back(std::move(c));
  };
  if (!gpus_.known() && !probe_up_) {
    const auto& all = conditions_.all();
    for (const auto* kind : {"probe_hangs", "driver_mismatch", "nvml_unavailable", "nvml_missing"})
      if (const auto c = all.find({kind, ""}); c != all.end()) {
        add("gpu driver", "hardware", std::string(kind) + ": " + c->second.detail);
        return out;
      }
    protocol::CheckResult none;
    none.name = "gpus";
    none.owner = "hardware";
    none.result = "skipped";
    none.detail = "no GPU was ever seen here";
    out.push_back(std::move(none));
    return out;
  }
  add("gpu driver", "hardware", probe_up_ ? "" : "the GPUs cannot be read now");
  for (const auto& device : gpus_.all_devices())
    add("gpu " + std::to_string(device.index), "hardware", gpus_.why_unhealthy(device.uuid));
  for (const auto& [key, c] : conditions_.all())
    add(key.first + (key.second.empty() ? "" : " " + key.second), "host", c.detail);
  return out;
}

}  // namespace tutti::worker
