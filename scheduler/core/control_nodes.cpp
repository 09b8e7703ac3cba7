// Control plane: nodes as they register, and their GPUs.
#include <algorithm>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti {
void ControlPlane::set_node_state(Node& node, NodeEvent event, Now now, std::string detail) {
  const auto to = next(kNodeEdges, node.row.state, event);
  if (!to) return;
  const NodeState from = node.row.state;
  node.row.state = *to;
  node.row.state_at = now.wall;
  touch_node(node.row.id);
  capacity_changed(node.row.id);
  record_node(node.row.id, now,
              {.kind = "node",
               .from = std::string(name(from)),
               .to = std::string(name(*to)),
               .detail = std::move(detail)});
}

NodeId ControlPlane::on_hello(Now now, const protocol::Hello& hello) {
  const auto deciding = note<&ControlPlane::on_hello>(now, hello);
  auto known = cluster_.node_by_name.find(hello.node);
  const bool created = known == cluster_.node_by_name.end();
  if (created) {
    last_node_ = NodeId(last_node_.value + 1);
    known = cluster_.node_by_name.emplace(hello.node, last_node_).first;
    Node fresh;
    fresh.row.id = last_node_;
    fresh.row.name = hello.node;
    fresh.row.registered_at = now.wall;
    fresh.row.state_at = now.wall;
    cluster_.nodes.emplace(last_node_, std::move(fresh));
  }
  Node& node = cluster_.nodes.at(known->second);
  const bool new_boot = !created && node.row.boot_id != hello.boot_id;
  const bool same_machine = created || node.row.instance.empty() || node.row.instance == hello.instance;
  node.row.instance = hello.instance;
  node.row.queue = hello.queue;
  node.row.address = hello.address;
  node.row.boot_id = hello.boot_id;
  node.row.worker_version = hello.worker_version;
  node.row.cpus = hello.cpus;
  node.row.memory_bytes = hello.memory_bytes;
  node.row.kill_mode = hello.kill_mode;
  node.row.driver = hello.driver;
  node.row.simulated_gpus = hello.simulated_gpus;
  node.row.labels = hello.labels;
  node.peer_port = hello.peer_port;
  node.linked = true;
  node.counted_lost = false;
  silent_.erase(node.row.id);
  ++node.link;
  touch_node(node.row.id);
  leases_.grant(node.row.id, now.mono);
  if (created)
    record_node(node.row.id, now, {.kind = "node", .from = "", .to = "reachable", .detail = "registered"});
  else
    set_node_state(node, NodeEvent::heard, now, new_boot ? "registered after a reboot" : "registered");
  if (shares_.queues.emplace(hello.queue, QueueRow{.name = hello.queue, .nodes_of = ""}).second) see_shares();
  protocol::Welcome welcome;
  welcome.node_id = node.row.id.value;
  welcome.lease_us = leases_.settings().lease.count();
  welcome.heartbeat_us = leases_.settings().heartbeat.count();
  welcome.keep.assign(node.members.begin(), node.members.end());
  welcome.quarantining = table().quarantining();  // also when it is empty: then no fault does
  send(node.row.id, std::move(welcome));          // before any order
  if (hello.health)
    on_node_health(now, node.row.id, *hello.health);
  else
    replace_conditions(node, {}, now);  // an older worker: it says nothing of them
  node.inspection_asked = 0;            // the question may be lost with the former connection
  register_gpus(node, hello.gpus, new_boot, now);
  forget_reports(node.row.id);
  reconcile_members(node, hello, same_machine, new_boot, now);
  capacity_changed(node.row.id);
  return node.row.id;
}

// What the worker has, against what it should have.
void ControlPlane::reconcile_members(Node& node, const protocol::Hello& hello, bool same_machine,
                                     bool new_boot, Now now) {
  const NodeId id = node.row.id;
  node.stale.clear();
  const std::set<AttemptKey> mine = node.members;
  std::set<AttemptKey> said;
  for (const auto& status : hello.attempts) {
    said.insert(status.key);
    lost_parts_.erase({status.key, id});  // it is known again
    on_attempt_status(now, id, status);
  }
  // What it no longer speaks of it will never prove: from now on a person's word is enough.
  std::erase_if(node.unproven, [&](const auto& entry) { return !said.contains(entry.first); });
  for (AttemptKey key : mine) {
    Attempt* attempt = find_live(key);
    if (attempt == nullptr) continue;
    auto member = std::ranges::find(attempt->row.gang, id, &GangMember::node);
    if (member->state == MemberState::ended) continue;
    if (said.contains(key)) {
      repeat_orders(*attempt, *member, now);
    } else if (new_boot && same_machine) {  // nothing survives a reboot
      lost_parts_.erase({key, id});
      if (attempt->row.state != AttemptState::stopping)
        begin_stop(*attempt, Cause::node_lost, "node " + node.row.name + " rebooted", "KILL",
                   Duration::zero(), now);
      end_member(*attempt, *member, false, true, "gone", now);
      advance(*attempt, now);
    } else if (member->state == MemberState::asked && same_machine) {
      lost_parts_.erase({key, id});                        // of a silence before
      if (attempt->row.state == AttemptState::stopping) {  // it never heard of it
        end_member(*attempt, *member, false, true, "never started", now);
        advance(*attempt, now);
      } else {
        repeat_orders(*attempt, *member, now);
      }
    } else {  // it had it, it is the same boot, and it does not know any more
      // A worker that has its state directory still would hold the lease, and does not: it ends. Else another
      // machine may have the ranks under this name, and be acknowledged by its gang; only then is that waited
      // for.
      if (same_machine)
        lost_parts_.insert_or_assign({key, id}, LostPart{.since = now.mono, .ask_at = {}});
      else
        lost_parts_.try_emplace({key, id},
                                LostPart{.since = now.mono, .hold = attempt->row.continue_for, .ask_at = {}});
      if (attempt->row.state != AttemptState::stopping)
        begin_stop(*attempt, Cause::control, "node " + node.row.name + " lost its record of the attempt",
                   "KILL", Duration::zero(), now);
    }
  }
}

void ControlPlane::register_gpus(Node& node, const std::vector<protocol::GpuInfo>& gpus, bool new_boot,
                                 Now now) {
  std::set<std::string> seen;
  // Never all of the cluster's: everybody may come at once.
  std::set<GpuId> known(node.gpus.begin(), node.gpus.end());
  known.insert(node.absent.begin(), node.absent.end());
  for (const auto& info : gpus) {
    seen.insert(info.uuid);
    Gpu* gpu = register_gpu(node, info, now);
    if (gpu == nullptr) continue;
    known.insert(gpu->row.id);
    hear_health(node, *gpu, info, new_boot, now);
    touch_gpu(gpu->row.id);
  }
  node.gpus.clear();
  node.absent.clear();
  for (const GpuId id : known) {
    Gpu& gpu = cluster_.gpus.at(id);
    if (gpu.row.node != node.row.id) continue;
    if (!seen.contains(gpu.row.uuid) && gpu.row.present) {
      gpu.row.present = false;
      touch_gpu(id);
      record_node(node.row.id, now,
                  {.kind = "gpu", .from = gpu.row.uuid, .to = "absent", .detail = "no longer reported"});
    }
    (gpu.row.present ? node.gpus : node.absent).push_back(id);
  }
  std::ranges::sort(node.gpus, {}, [&](GpuId id) { return cluster_.gpus.at(id).row.index; });
  // Told to a former leader, or while the attempt could not leave yet.
  const std::set<AttemptKey> here = node.members;
  for (const AttemptKey key : here)
    if (Attempt* attempt = find_live(key)) leave_failing_gpus(*attempt, now);
}

// nullptr: another node has it.
Gpu* ControlPlane::register_gpu(Node& node, const protocol::GpuInfo& info, Now now) {
  auto known = cluster_.gpu_by_uuid.find(info.uuid);
  const bool created = known == cluster_.gpu_by_uuid.end();
  if (created) {
    last_gpu_ = GpuId(last_gpu_.value + 1);
    known = cluster_.gpu_by_uuid.emplace(info.uuid, last_gpu_).first;
    Gpu fresh;
    fresh.row.id = last_gpu_;
    fresh.row.uuid = info.uuid;
    cluster_.gpus.emplace(last_gpu_, std::move(fresh));
  }
  Gpu& gpu = cluster_.gpus.at(known->second);
  std::string came = created ? "reported for the first time" : "reported again";
  if (gpu.row.node != node.row.id && gpu.row.node) {  // a card that has moved, or two workers on one machine
    Node& former = cluster_.nodes.at(gpu.row.node);
    if (gpu.holder.job || former.linked || leases_.held(former.row.id)) {
      record_node(node.row.id, now,
                  {.kind = "gpu",
                   .from = gpu.row.uuid,
                   .to = "refused",
                   .detail = "node " + former.row.name + " has it"});
      return nullptr;
    }
    std::erase(former.gpus, gpu.row.id);
    std::erase(former.absent, gpu.row.id);
    if (gpu.row.present)
      record_node(former.row.id, now,
                  {.kind = "gpu",
                   .from = gpu.row.uuid,
                   .to = "absent",
                   .detail = "node " + node.row.name + " has it now"});
    gpu.row.present = false;
    came = "moved here from node " + former.row.name;
  }
  // Where GPUs were is read from this, also from the word "moved" (db/history.h). Those that come with their
  // node need no word.
  const bool with_node = created && node.row.registered_at == now.wall;
  if (!with_node && (created || !gpu.row.present))
    record_node(node.row.id, now,
                {.kind = "gpu", .from = gpu.row.uuid, .to = created ? "added" : "present", .detail = came});
  gpu.row.node = node.row.id;
  gpu.row.index = info.index;
  gpu.row.pci = info.pci;
  if (!gpu.holder.job) {  // to the planner it stays what it was given away as
    gpu.row.model = info.model;
    gpu.row.memory_bytes = info.memory_bytes;
    gpu.row.island = info.island;
  }
  know_group(node, gpu.row);
  gpu.row.present = true;
  return &gpu;
}

// The worker remembers a fatal fault until the reset, over its own restarts: its word ends a quarantine, but
// only one that it knew of. What was set aside without it (the others of an NVLink island) comes back with
// the GPU that had the fault.
void ControlPlane::hear_health(Node& node, Gpu& gpu, const protocol::GpuInfo& info, bool new_boot, Now now) {
  const auto before = gpu.said;
  if (info.healthy) {
    gpu.said = Gpu::Said::healthy;
    const bool knew = before == Gpu::Said::unhealthy ||
                      (before == Gpu::Said::nothing && !failed_gpu_of(gpu.row.health_reason));
    if (gpu.row.health == GpuHealth::healthy ||
        !(new_boot || (gpu.row.health == GpuHealth::quarantined && knew)))
      return;
    gpu_is_back(gpu, now);
    for (const GpuId other : node.gpus)
      if (Gpu& with = cluster_.gpus.at(other);
          with.said != Gpu::Said::unhealthy && failed_gpu_of(with.row.health_reason) == gpu.row.uuid)
        gpu_is_back(with, now);
    return;
  }
  const FaultRule& rule = table().judge_reason(info.health_reason);
  const bool known = gpu.row.health == GpuHealth::quarantined;
  if (rule.shadow || (!known && is_braked(rule, node, now)))
    return;  // the fault's row says what was not done
  gpu.said = Gpu::Said::unhealthy;
  if (!known) gpu_unhealthy(gpu, GpuHealth::quarantined, info.health_reason, now);
  // The fault itself may have been told while the store was away, and lost: what *is* counts.
  if (Attempt* attempt = rule.job == FaultJob::stop ? find_live(gpu.holder) : nullptr)
    begin_stop(*attempt, Cause::gpu,
               info.health_reason + " on GPU " + std::to_string(info.index) + " of node " + node.row.name,
               "KILL", Duration::zero(), now);
}

// After its reset. One that has been at fault often within a day stays out, until a person says otherwise.
void ControlPlane::gpu_is_back(Gpu& gpu, Now now) {
  gpu.seen.clear();
  if (is_repeat_offender(gpu, now.wall)) keep_for_a_person(gpu, now);
  if (!waits_for_a_person(gpu.row)) gpu_unhealthy(gpu, GpuHealth::healthy, "", now);
}

void ControlPlane::gpu_unhealthy(Gpu& gpu, GpuHealth health, std::string reason, Now now) {
  if (gpu.row.health == GpuHealth::quarantined && health == GpuHealth::dirty) return;  // the stronger stays
  record_node(gpu.row.node, now,
              {.kind = "gpu",
               .from = std::string(name(gpu.row.health)),
               .to = std::string(name(health)),
               .detail = gpu.row.uuid + (reason.empty() ? "" : ": " + reason)});
  gpu.row.health = health;
  gpu.row.health_reason = std::move(reason);
  touch_gpu(gpu.row.id);
  capacity_changed(gpu.row.node);
}

void ControlPlane::on_gpu_inventory(Now now, NodeId id, const protocol::GpuInventory& inventory) {
  const auto deciding = note<&ControlPlane::on_gpu_inventory>(now, id, inventory);
  Node* node = cluster_.find(id);
  if (node == nullptr) return;
  node->row.driver = inventory.driver;
  node->row.simulated_gpus = inventory.simulated_gpus;
  touch_node(id);
  register_gpus(*node, inventory.gpus, false, now);
  capacity_changed(id);
}

void ControlPlane::on_link_lost(Now now, NodeId id, std::uint64_t link) {
  const auto deciding = note<&ControlPlane::on_link_lost>(now, id, link);
  Node* node = cluster_.find(id);
  if (node == nullptr || !node->linked || node->link != link) return;
  node->linked = false;  // not a reason to kill anything: the lease decides
  capacity_changed(id);
  record_node(id, now, {.kind = "node", .from = "", .to = "", .detail = "connection lost"});
}

void ControlPlane::on_heard(Now now, NodeId id) {
  const auto deciding = note<&ControlPlane::on_heard>(now, id);
  Node* node = cluster_.find(id);
  if (node != nullptr && node->row.state == NodeState::unreachable)
    set_node_state(*node, NodeEvent::heard, now, "heartbeat");
}

}  // namespace tutti
