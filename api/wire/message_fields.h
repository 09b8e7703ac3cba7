// Every field of every message, once, and the name of its type. Included by api/wire/messages.cpp only.
#pragma once

#include <concepts>
#include <string_view>
#include <type_traits>

#include "api/wire/messages.h"

namespace tutti::wire {

using namespace protocol;  // NOLINT: this file and its only user are its codec

template <class M, class T>
concept Is = std::same_as<std::remove_const_t<M>, T>;

struct Bound {
  std::size_t bytes = kMaxTextBytes;
  bool empty = true;  // may be
  bool nul = false;   // may hold NUL: no column of PostgreSQL takes it
};
constexpr Bound kName{.empty = false};

// The visitor is a Writer (M const) or a Reader. `later`: fields that came after the first version; what an
// older peer or an older file says lacks them.

template <class V, Is<AttemptKey> M>
void fields(V& v, M& m) {
  v("job", m.job);
  v("epoch", m.epoch);
}

template <class V, Is<GpuInfo> M>
void fields(V& v, M& m) {
  v("uuid", m.uuid, kName);
  v("index", m.index);
  v("model", m.model);
  v("memory_bytes", m.memory_bytes);
  v("pci", m.pci);
  v("island", m.island);
  v("device_path", m.device_path);
  v("healthy", m.healthy);
  v("health_reason", m.health_reason);
}

template <class V, Is<Failure> M>
void fields(V& v, M& m) {
  v("kind", m.kind, kName);
  v("rank", m.rank);
  v("exit_code", m.exit_code);
  v("signal", m.signal);
  v("boot_us", m.boot_us);
  v("detail", m.detail);
  v("last_lines", m.last_lines);
  v.later("step", m.step);
}

template <class V, Is<End> M>
void fields(V& v, M& m) {
  v("ok", m.ok);
  v("proven", m.proven);
  v("how", m.how);
  v("boot_us", m.boot_us);
}

template <class V, Is<AttemptStatus> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("phase", m.phase);
  v("agent_port", m.agent_port);
  v("master_port", m.master_port);
  v("failure", m.failure);
  v("end", m.end);
}

template <class V, Is<NodeCondition> M>
void fields(V& v, M& m) {
  v("kind", m.kind, kName);
  v("subject", m.subject);
  v("detail", m.detail);
  v("age_us", m.age_us);
}

template <class V, Is<NodeIncident> M>
void fields(V& v, M& m) {
  v("kind", m.kind, kName);
  v("detail", m.detail);
  v("age_us", m.age_us);
}

template <class V, Is<NodeHealth> M>
void fields(V& v, M& m) {
  v("conditions", m.conditions);
  v("incidents", m.incidents);
}

template <class V, Is<CheckResult> M>
void fields(V& v, M& m) {
  v("name", m.name, kName);
  v("owner", m.owner);
  v("result", m.result, kName);
  v("detail", m.detail);
  v("limit_us", m.limit_us);
  v("took_us", m.took_us);
}

template <class V, Is<InspectionReport> M>
void fields(V& v, M& m) {
  v("request", m.request);
  v("trigger", m.trigger);
  v("age_us", m.age_us);
  v("checks", m.checks);
}

template <class V, Is<Hello> M>
void fields(V& v, M& m) {
  v("protocol", m.protocol);
  v("worker_version", m.worker_version);
  v("node", m.node, kName);
  v("instance", m.instance);
  v("address", m.address, kName);
  v("queue", m.queue, kName);
  v("boot_id", m.boot_id);
  v("boot_us", m.boot_us);
  v("cpus", m.cpus);
  v("memory_bytes", m.memory_bytes);
  v("kill_mode", m.kill_mode);
  v("driver", m.driver);
  v("simulated_gpus", m.simulated_gpus);
  v("labels", m.labels);
  v("gpus", m.gpus);
  v("attempts", m.attempts);
  v("health", m.health);
  v.later("peer_port", m.peer_port);
}

template <class V, Is<GpuLoad> M>
void fields(V& v, M& m) {
  v("uuid", m.uuid, kName);
  v("utilisation_percent", m.utilisation_percent);
  v("memory_bytes", m.memory_bytes);
  v("power_mw", m.power_mw);
  v("temperature_c", m.temperature_c);
}

template <class V, Is<Heartbeat> M>
void fields(V& v, M& m) {
  v("seq", m.seq);
  v("wall_us", m.wall_us);
  v("loads", m.loads);
  v("term", m.term);
}

template <class V, Is<HeartbeatAck> M>
void fields(V& v, M& m) {
  v("seq", m.seq);
}

template <class V, Is<GpuFault> M>
void fields(V& v, M& m) {
  v("uuid", m.uuid, kName);
  v("kind", m.kind, kName);
  v("xid", m.xid);
  v("age_us", m.age_us);
  v("detail", m.detail);
}

template <class V, Is<GpuInventory> M>
void fields(V& v, M& m) {
  v("driver", m.driver);
  v("simulated_gpus", m.simulated_gpus);
  v("gpus", m.gpus);
}

template <class V, Is<CheckpointFound> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("epoch_in_file", m.epoch_in_file);
  v("step", m.step);
  v("path", m.path, kName);
  v("bytes", m.bytes);
  v("shards", m.shards);
  v.later("cost_us", m.cost_us);
  v.later("problem", m.problem);
}

template <class V, Is<CheckpointChecked> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("epoch_in_file", m.epoch_in_file);
  v("step", m.step);
  v("path", m.path, kName);
  v("verdict", m.verdict);
  v("why", m.why);
}

template <class V, Is<CheckpointDeleted> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("epoch_in_file", m.epoch_in_file);
  v("path", m.path, kName);
  v("ok", m.ok);
  v("why", m.why);
}

template <class V, Is<DeleteCheckpoint> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("epoch_in_file", m.epoch_in_file);
  v("step", m.step);
  v("path", m.path, kName);
}

template <class V, Is<Progress> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("step", m.step);
  v("total", m.total);
  v("eta_seconds", m.eta_seconds);
  v("metrics", m.metrics);
}

template <class V, Is<LogChunk> M>
void fields(V& v, M& m) {
  v("request", m.request);
  v("data", m.data, Bound{.bytes = kMaxLogBytes, .nul = true});
  v("next_offset", m.next_offset);
  v("end", m.end);
  v("error", m.error);
  v("stamp", m.stamp);
}

template <class V, Is<RankPulse> M>
void fields(V& v, M& m) {
  v("rank", m.rank);
  v("step", m.step);
  v("silent_us", m.silent_us);
  v("step_us", m.step_us);
  v("compute_us", m.compute_us);
  v("state", m.state);
  v("waits_in", m.waits_in);
}

template <class V, Is<RankReport> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("tells_progress", m.tells_progress);
  v("stalled", m.stalled);
  v("captured", m.captured);
  v("limit_us", m.limit_us);
  v("ranks", m.ranks);
}

template <class V, Is<Welcome> M>
void fields(V& v, M& m) {
  v("node_id", m.node_id);
  v("lease_us", m.lease_us);
  v("heartbeat_us", m.heartbeat_us);
  v("keep", m.keep);
  v.later("quarantining", m.quarantining);
  v.later("peer_secret", m.peer_secret);
  v("term", m.term);
}

template <class V, Is<Refused> M>
void fields(V& v, M& m) {
  v("why", m.why);
  v("leader", m.leader);
}

template <class V, Is<GangNode> M>
void fields(V& v, M& m) {
  v("node", m.node);
  v("address", m.address);
  v("first_rank", m.first_rank);
  v("ranks", m.ranks);
  v.later("peer_port", m.peer_port);
}

template <class V, Is<GangHold> M>
void fields(V& v, M& m) {
  v("lease_us", m.lease_us);
  v("continue_for_us", m.continue_for_us);
  v("witness", m.witness);
}

template <class V, Is<Prepare> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("attempt", m.attempt);
  v("spec_json", m.spec_json, Bound{.bytes = kMaxSpecBytes});
  v("owner", m.owner);
  v("gang", m.gang);
  v("index", m.index);
  v("gpu_uuids", m.gpu_uuids);
  v("resume_path", m.resume_path);
  v.later("resume_step", m.resume_step);
  v.later("resume_epoch", m.resume_epoch);
  v("restart_cause", m.restart_cause);
  v("secret", m.secret);
  v.later("hold", m.hold);
  v.later("secrets", m.secrets);
}

template <class V, Is<Endpoint> M>
void fields(V& v, M& m) {
  v("address", m.address);
  v("agent_port", m.agent_port);
}

template <class V, Is<Launch> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("master_port", m.master_port);
  v("endpoints", m.endpoints);
}

template <class V, Is<Stop> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("cause", m.cause);
  v("signal", m.signal);
  v("grace_us", m.grace_us);
}

template <class V, Is<Forget> M>
void fields(V& v, M& m) {
  fields(v, m.key);
}

template <class V, Is<ReadLog> M>
void fields(V& v, M& m) {
  v("request", m.request);
  fields(v, m.key);
  v("rank", m.rank);
  v("offset", m.offset);
  v("max_bytes", m.max_bytes);
  v("wait_us", m.wait_us);
  v("what", m.what);
}

template <class V, Is<AskSilence> M>
void fields(V& v, M& m) {
  v("request", m.request);
  fields(v, m.key);
  v("node", m.node, kName);
  v("refuse", m.refuse);
}

template <class V, Is<CollectiveResult> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("backend", m.backend, kName);
  v("bytes", m.bytes);
  v("ranks", m.ranks);
  v("gigabytes_per_second", m.gigabytes_per_second);
}

template <class V, Is<PeerSilence> M>
void fields(V& v, M& m) {
  v("request", m.request);
  fields(v, m.key);
  v("node", m.node, kName);
  v("silent_us", m.silent_us);
}

template <class V, Is<ShellOutput> M>
void fields(V& v, M& m) {
  v("shell", m.shell);
  v("data", m.data);
  v("credit", m.credit);
}

template <class V, Is<ShellClosed> M>
void fields(V& v, M& m) {
  v("shell", m.shell);
  v("exit_code", m.exit_code);
  v("signal", m.signal);
  v("error", m.error);
}

template <class V, Is<OpenShell> M>
void fields(V& v, M& m) {
  v("shell", m.shell);
  fields(v, m.key);
  v("rank", m.rank);
  v("argv", m.argv);
  v("tty", m.tty);
  v("rows", m.rows);
  v("columns", m.columns);
  v("term", m.term);
  v("credit", m.credit);
}

template <class V, Is<ShellInput> M>
void fields(V& v, M& m) {
  v("shell", m.shell);
  v("data", m.data);
  v("end", m.end);
  v("credit", m.credit);
}

template <class V, Is<ShellResize> M>
void fields(V& v, M& m) {
  v("shell", m.shell);
  v("rows", m.rows);
  v("columns", m.columns);
}

template <class V, Is<CloseShell> M>
void fields(V& v, M& m) {
  v("shell", m.shell);
}

template <class V, Is<SignalRanks> M>
void fields(V& v, M& m) {
  fields(v, m.key);
  v("signal", m.signal, kName);
}

template <class V, Is<Inspect> M>
void fields(V& v, M& m) {
  v("request", m.request);
  v("trigger", m.trigger);
}

template <class V, Is<PeerPing> M>
void fields(V& v, M& m) {
  v("from", m.from, kName);
  v("to", m.to, kName);
  v("sent_us", m.sent_us);
  v("attempts", m.attempts);
}

template <class V, Is<PeerAck> M>
void fields(V& v, M& m) {
  v("from", m.from, kName);
  v("to", m.to, kName);
  v("sent_us", m.sent_us);
  v("attempts", m.attempts);
}

constexpr std::string_view type_of(const Hello&) { return "hello"; }
constexpr std::string_view type_of(const Heartbeat&) { return "heartbeat"; }
constexpr std::string_view type_of(const AttemptStatus&) { return "attempt_status"; }
constexpr std::string_view type_of(const GpuFault&) { return "gpu_fault"; }
constexpr std::string_view type_of(const GpuInventory&) { return "gpu_inventory"; }
constexpr std::string_view type_of(const CheckpointFound&) { return "checkpoint_found"; }
constexpr std::string_view type_of(const CheckpointChecked&) { return "checkpoint_checked"; }
constexpr std::string_view type_of(const CheckpointDeleted&) { return "checkpoint_deleted"; }
constexpr std::string_view type_of(const DeleteCheckpoint&) { return "delete_checkpoint"; }
constexpr std::string_view type_of(const Progress&) { return "progress"; }
constexpr std::string_view type_of(const LogChunk&) { return "log_chunk"; }
constexpr std::string_view type_of(const RankReport&) { return "rank_report"; }
constexpr std::string_view type_of(const NodeHealth&) { return "node_health"; }
constexpr std::string_view type_of(const InspectionReport&) { return "inspection_report"; }
constexpr std::string_view type_of(const Inspect&) { return "inspect"; }
constexpr std::string_view type_of(const Welcome&) { return "welcome"; }
constexpr std::string_view type_of(const Refused&) { return "refused"; }
constexpr std::string_view type_of(const HeartbeatAck&) { return "heartbeat_ack"; }
constexpr std::string_view type_of(const Prepare&) { return "prepare"; }
constexpr std::string_view type_of(const Launch&) { return "launch"; }
constexpr std::string_view type_of(const Stop&) { return "stop"; }
constexpr std::string_view type_of(const SignalRanks&) { return "signal_ranks"; }
constexpr std::string_view type_of(const Forget&) { return "forget"; }
constexpr std::string_view type_of(const ReadLog&) { return "read_log"; }
constexpr std::string_view type_of(const AskSilence&) { return "ask_silence"; }
constexpr std::string_view type_of(const PeerSilence&) { return "peer_silence"; }
constexpr std::string_view type_of(const CollectiveResult&) { return "collective_result"; }
constexpr std::string_view type_of(const ShellOutput&) { return "shell_output"; }
constexpr std::string_view type_of(const ShellClosed&) { return "shell_closed"; }
constexpr std::string_view type_of(const OpenShell&) { return "open_shell"; }
constexpr std::string_view type_of(const ShellInput&) { return "shell_input"; }
constexpr std::string_view type_of(const ShellResize&) { return "shell_resize"; }
constexpr std::string_view type_of(const CloseShell&) { return "close_shell"; }
constexpr std::string_view type_of(const PeerPing&) { return "peer_ping"; }
constexpr std::string_view type_of(const PeerAck&) { return "peer_ack"; }

}  // namespace tutti::wire
