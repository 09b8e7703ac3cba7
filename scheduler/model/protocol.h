// What scheduler and workers say to each other, as plain values. The codec is api/wire/messages (JSON text
// over WebSocket, GET /v1/worker). The protocol is level-triggered: a worker says what *is* (all of it again
// after every reconnect), the scheduler says what *should be*; repeating either is harmless. Every message
// about an attempt carries (job, epoch) and is dropped if a higher epoch exists.
//
//   worker                                   scheduler
//   Hello {inventory, all attempts}   ->
//                                     <-     Welcome {lease, attempts to keep}   (then Stop for all others)
//                                      or    Refused {why}           not this one: it goes, and tries again
//   Heartbeat {seq}        each 1 s   ->
//                                     <-     HeartbeatAck {seq}     the lease runs from the *sending* of seq
//                                     <-     Prepare                 make directories, GPUs checked, ports
//                                     chosen
//   AttemptStatus preparing, ready    ->
//                                     <-     Launch {endpoints of all}
//   AttemptStatus launched, running   ->
//   GpuFault, CheckpointFound, Progress, RankReport, CollectiveResult ->
//   CheckpointChecked         ->              its checksums; also long after it was found
//                                     <-     DeleteCheckpoint        one that is no longer kept
//   CheckpointDeleted         ->
//   NodeHealth {all conditions}  after any change ->
//                                     <-     Inspect {checks to run}
//   InspectionReport                  ->
//                                     <-     AskSilence {attempt, node}    of a node that we do not hear any
//                                     more
//   PeerSilence               ->
//                                     <-     SignalRanks {signal}    of a person; once, and nothing ends by
//                                     it
//                                     <-     Stop {cause, signal, grace}
//   AttemptStatus ended {proof}       ->      over each connection after all else that is known of it
//                                     <-     Forget                  its end is committed: drop what is kept
//                                     of it
//                                     <-     ReadLog
//   LogChunk                          ->
//                                     <-     OpenShell               a person's, inside a running attempt
//   ShellOutput, ShellClosed          <->    ShellInput, ShellResize, CloseShell
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/states.h"
#include "scheduler/model/time.h"

namespace tutti::protocol {

inline constexpr int kVersion = 1;

/// The version that this program speaks: kVersion. In a file of its own, for tests link programs of the
/// versions after it.
std::int32_t version();

/// A worker may be one version before or behind its scheduler (docs/upgrade.md): whoever is newer knows the
/// other's words, whoever is older passes over types and fields that it does not know.
constexpr bool speaks_with(std::int32_t ours, std::int32_t theirs) {
  const auto apart = std::int64_t{theirs} - ours;
  return apart >= -1 && apart <= 1;
}

// ---------------------------------------------------------------- worker → scheduler

struct GpuInfo {
  std::string uuid;
  std::int32_t index = 0;
  std::string model;
  std::int64_t memory_bytes = 0;
  std::string pci;
  std::int32_t island = 0;  // NVLink island inside the node; -1: reaches no other GPU over NVLink
  std::string device_path;
  bool healthy = true;        // false: a fatal fault since its last reset, as this worker remembers it
  std::string health_reason;  // "Xid 79: …"
};

enum class Phase : std::uint8_t {
  preparing,  // supervisor starts, directories, setup command
  ready,      // may be launched
  launched,   // launcher started, ranks not all up
  running,    // every local rank is up
  ended       // every local process is dead; `end` is set
};
inline constexpr auto kPhaseNames =
    std::to_array<std::string_view>({"preparing", "ready", "launched", "running", "ended"});  // by number
constexpr std::string_view name(Phase p) { return kPhaseNames[static_cast<std::size_t>(p)]; }
constexpr std::optional<Phase> parse_phase(std::string_view word) {
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i)
    if (kPhaseNames[i] == word) return static_cast<Phase>(i);
  return std::nullopt;
}

// How one node's part of an attempt failed first. Sent as soon as it is known, before the kill is proven,
// so that the scheduler can stop the rest of the gang meanwhile.
struct Failure {
  std::string kind;        // "exit" | "signal" | "oom" | "launch" | "setup" | "supervisor" | "lease" |
                           // "checkpoint" (damaged) | "storage" (the checkpoints cannot be reached)
                           // | "secret" (one of the job's cannot be had: said by the scheduler's own shell)
  std::int32_t rank = -1;  // first failing rank, -1 = not a rank
  std::int32_t exit_code = 0;  // kind exit
  std::int32_t signal = 0;     // kind signal
  std::int64_t boot_us = 0;    // CLOCK_BOOTTIME of the evidence
  std::string detail;          // one line
  std::string last_lines;      // tail of that rank's log, at most 4 KiB
  std::int64_t step = -1;      // kind checkpoint: of the one that is damaged
};

struct End {
  bool ok = false;      // all local ranks exited 0
  bool proven = false;  // all processes dead, no device open
  std::string how;      // "cgroup", "scan", "never started", "gone" (a new boot), or what could not be proven
  std::int64_t boot_us = 0;
};

struct AttemptStatus {
  AttemptKey key;
  Phase phase = Phase::preparing;
  std::int32_t agent_port = 0;   // from `ready` on, mpirun only
  std::int32_t master_port = 0;  // from `ready` on, the first node only
  std::optional<Failure> failure;
  std::optional<End> end;
};

// Something about a node that lasts: a row of scheduler/model/condition_table says what follows from it.
struct NodeCondition {
  std::string kind;         // "disk_full", "link_down", …
  std::string subject;      // what of the node: a mount, an interface; "" = the node itself
  std::string detail;       // one line for people
  std::int64_t age_us = 0;  // since it began, at the sending of this message
};

// Something about a node that has happened: for the history only.
struct NodeIncident {
  std::string kind;  // "oom_kill", "aer", "link_flap", …
  std::string detail;
  std::int64_t age_us = 0;
};

struct NodeHealth {  // after any change: every condition that holds now, and what has happened since the last
  std::vector<NodeCondition> conditions;
  std::vector<NodeIncident> incidents;
};

struct CheckResult {
  std::string name;    // "disk /tmp", "gpus", …
  std::string owner;   // who is asked about it: "hardware", "storage", "network", "host"
  std::string result;  // "ok" | "failed" | "skipped" (does not apply here; detail says why)
  std::string detail;
  std::int64_t limit_us = 0, took_us = 0;  // time allowed, time taken
};

struct InspectionReport {
  std::int64_t request = 0;  // of the Inspect that asked for it
  std::string trigger;       // "person" | "failure" | "idle"
  std::int64_t age_us = 0;   // since its end
  std::vector<CheckResult> checks;
};

struct Hello {
  std::int32_t protocol = version();
  std::string worker_version;
  std::string node;      // name, unique
  std::string instance;  // of its state directory, made with it: another machine of that name has another
  std::string address;   // where other nodes of a gang reach this one
  std::string queue = "default";
  std::string boot_id;
  std::int64_t boot_us = 0;  // CLOCK_BOOTTIME now
  std::int32_t cpus = 0;
  std::int64_t memory_bytes = 0;
  std::string kill_mode;
  std::string driver;
  bool simulated_gpus = false;
  std::map<std::string, std::string> labels;
  std::vector<GpuInfo> gpus;
  std::vector<AttemptStatus> attempts;  // all that it knows of
  std::optional<NodeHealth> health;     // none: an older worker
  std::int32_t peer_port = 0;           // UDP, at `address`, for other workers; 0: it holds no gang leases
};

// What a GPU does, as NVML says it; what it does not say is absent.
struct GpuLoad {
  std::string uuid;
  std::optional<std::int32_t> utilisation_percent{};
  std::optional<std::int64_t> memory_bytes{};  // used
  std::optional<std::int32_t> power_mw{};
  std::optional<std::int32_t> temperature_c{};
};

struct Heartbeat {
  std::int64_t seq = 0;
  std::optional<std::int64_t> wall_us{};  // the worker's wall clock; leases never look at it
  // Of every GPU that answers, each sample of the probe (every 5 s) once. An older scheduler reads over it.
  std::optional<std::vector<GpuLoad>> loads{};
  // The highest leader's term that it has obeyed: nobody of a lower one renews its lease any more. Absent: an
  // older worker, or it cannot keep it.
  std::optional<std::int64_t> term{};
};

struct GpuFault {
  std::string uuid;
  std::string kind;  // "xid" | "gpu_lost" | "reset_required" | …
  std::int32_t xid = 0;
  std::int64_t age_us = 0;  // how long before the sending of this message
  std::string detail;
};

struct GpuInventory {  // after any change
  std::string driver;
  bool simulated_gpus = false;
  std::vector<GpuInfo> gpus;
};

struct CheckpointFound {
  AttemptKey key;
  std::int64_t epoch_in_file = 0;
  std::int64_t step = 0;
  std::string path;
  std::int64_t bytes = 0;
  std::int32_t shards = 0;
  std::int64_t cost_us = 0;  // of writing it, as its COMPLETE.json says; 0 = not said
  std::string problem{};     // "" or how its files differ from what it says: it is bad
};

enum class CheckpointVerdict : std::uint8_t {
  verified,  // all checksums held
  damaged,   // `why` says how
  refused    // something that looks like a checkpoint and cannot be taken for one: it is not registered
};
struct CheckpointChecked {
  AttemptKey key;
  std::int64_t epoch_in_file = 0;  // the epoch that wrote it; of a refused one 0
  std::int64_t step = -1;          // -1: not known
  std::string path;
  CheckpointVerdict verdict = CheckpointVerdict::verified;
  std::string why;
};

struct CheckpointDeleted {
  AttemptKey key;
  std::int64_t epoch_in_file = 0;
  std::string path;
  bool ok = false;  // it is gone: now, or before
  std::string why;  // not ok
};

struct Progress {  // at most once a second and attempt, from the lowest local rank
  AttemptKey key;
  std::int64_t step = 0;
  std::int64_t total = 0;
  double eta_seconds = 0;
  std::map<std::string, double> metrics;
};

// What one living local rank does, as its node sees it.
struct RankPulse {
  std::int32_t rank = 0;
  std::int64_t step = -1;       // the newest it told; -1: it tells none
  std::int64_t silent_us = 0;   // since its last sign of life
  std::int64_t step_us = 0;     // usual wall time of a step; 0: not known yet
  std::int64_t compute_us = 0;  // its own time per step since the report before; 0: not told
  std::string state{};     // of its processes: "R", "S", "T" stopped, "D" in the kernel, "gone"; "" unknown
  std::string waits_in{};  // the kernel function it sleeps in, "" = none or unknown
};

// Level-triggered: sent when `stalled` or `captured` changes, after each Welcome, and every few seconds while
// ranks tell progress. Whether the gang hangs is for the scheduler to decide: one node sees only its part.
struct RankReport {
  AttemptKey key;
  bool tells_progress = false;   // a local rank has told a step
  bool stalled = false;          // every local rank has been silent for longer than `limit_us`
  bool captured = false;         // of this stall: stacks and files are on disk, or cannot be had
  std::int64_t limit_us = 0;     // 0: no limit is known yet
  std::vector<RankPulse> ranks;  // those that live
};

struct LogChunk {
  std::int64_t request = 0;
  std::string data;  // bytes that are not UTF-8 are replaced; of an evidence bundle: base64
  std::int64_t next_offset = 0;
  bool end = false;        // no more will come: the rank has ended and all is read
  std::string error;       // "" = none
  std::int64_t stamp = 0;  // of an evidence bundle: chunks with another one are of another bundle
};

// What the all-reduce over the whole gang has reached before the program starts, by the first node.
struct CollectiveResult {
  AttemptKey key;
  std::string backend;     // "mpi" | "nccl"
  std::int64_t bytes = 0;  // of the buffer
  std::int32_t ranks = 0;
  double gigabytes_per_second = 0;  // bus bandwidth: bytes x 2 (n - 1) / n over the median time of a round
};

// Answer to AskSilence: so long this worker has not acknowledged that node for that attempt. When the
// question was put after the node's own lease was over, more than a lease of silence proves that its part is
// dead.
struct PeerSilence {
  std::int64_t request = 0;
  AttemptKey key;
  std::string node;
  std::int64_t silent_us = 0;
};

// What a shell has written. Each side sends no more bytes than the other has granted (`credit`, on top of
// what was granted before), so that neither a fast `yes` nor a large file fills a queue.
struct ShellOutput {
  std::int64_t shell = 0;
  std::string data;         // base64; may be empty
  std::int64_t credit = 0;  // so many bytes of input may follow
};

// It has ended, or could not begin; the last word about it.
struct ShellClosed {
  std::int64_t shell = 0;
  std::int32_t exit_code = 0;
  std::int32_t signal = 0;  // 0 = it has exited
  std::string error;        // "" = it ran, and ended by itself
};

using FromWorker =
    std::variant<Hello, Heartbeat, AttemptStatus, GpuFault, GpuInventory, CheckpointFound, CheckpointChecked,
                 CheckpointDeleted, Progress, LogChunk, RankReport, NodeHealth, InspectionReport, PeerSilence,
                 CollectiveResult, ShellOutput, ShellClosed>;

// ---------------------------------------------------------------- scheduler → worker

struct Welcome {
  std::int64_t node_id = 0;
  std::int64_t lease_us = 0;
  std::int64_t heartbeat_us = 0;
  std::vector<AttemptKey> keep;  // attempts of this node that are current; the worker stops all others
  // Faults that make a GPU unhealthy until its reset, see FaultTable::quarantining(). Absent: an older
  // scheduler, the built-in table counts. Empty: none does.
  std::optional<std::vector<std::string>> quarantining{};
  std::string peer_secret{};  // of all workers of this cluster: signs what they say to each other
  // The leader's: a worker obeys terms that do not fall (docs/design/0016-replicas.md). Absent: an older
  // scheduler.
  std::optional<std::int64_t> term{};
};

struct Refused {
  std::string why;  // for the worker's log: what is wrong and the way out
  // Set by a scheduler that does not lead: the URL of the one that does, "" while nobody does.
  std::optional<std::string> leader{};
};

struct HeartbeatAck {
  std::int64_t seq = 0;
};

struct GangNode {
  std::string node;
  std::string address;
  std::int32_t first_rank = 0;
  std::int32_t ranks = 0;
  std::int32_t peer_port = 0;  // as its Hello said
};

// How long an attempt may go on without a scheduler (docs/design/0002-fence.md).
struct GangHold {
  std::int64_t lease_us = 0;         // every peer must have acknowledged a ping sent since then
  std::int64_t continue_for_us = 0;  // after the end of the node's own lease, at most; 0: not at all
  std::optional<GangNode> witness;   // a node outside the gang that is asked as well
};

struct Prepare {
  AttemptKey key;
  std::int32_t attempt = 1;
  std::string spec_json;  // the job spec, as stored
  std::string owner;
  std::vector<GangNode> gang;          // in rank order
  std::int32_t index = 0;              // which of them is the receiver
  std::vector<std::string> gpu_uuids;  // of the receiver
  std::string resume_path;
  std::int64_t resume_step = -1;  // what it must say of itself
  std::int64_t resume_epoch = 0;
  std::string restart_cause;  // name of the Cause of the previous attempt, "" at first
  std::string secret;         // shared by the nodes of this attempt, for the launch agent
  GangHold hold;
  // Name → value of what the spec names in `secrets`. Put in by the shell when the message leaves; nowhere
  // else does a value stand beside its name.
  std::map<std::string, std::string> secrets{};
};

struct Endpoint {
  std::string address;
  std::int32_t agent_port = 0;
};

struct Launch {
  AttemptKey key;
  std::int32_t master_port = 0;
  std::vector<Endpoint> endpoints;  // as `gang` of Prepare
};

struct Stop {
  AttemptKey key;
  std::string cause;
  std::string signal;         // "" or "KILL": at once
  std::int64_t grace_us = 0;  // after it SIGKILL to everything
};

// To the programs of all ranks that run, once. Unlike a Stop it is not repeated and asks for no end; a worker
// that does not know it leaves it.
struct SignalRanks {
  AttemptKey key;
  std::string signal;  // name without SIG
};

struct Forget {
  AttemptKey key;
};

// Only below the job's checkpoint folder, and only if it still is what this says.
struct DeleteCheckpoint {
  AttemptKey key;
  std::int64_t epoch_in_file = 0;
  std::int64_t step = 0;
  std::string path;
};

struct ReadLog {
  std::int64_t request = 0;
  AttemptKey key;
  std::int32_t rank = 0;
  std::int64_t offset = 0;  // < 0: that many bytes before the end
  std::int32_t max_bytes = 65536;
  std::int64_t wait_us = 0;  // wait that long for something to read
  std::string what{};        // "" = the rank's log, "evidence" = this node's part of the bundle
};

// Answered by PeerSilence.
struct AskSilence {
  std::int64_t request = 0;
  AttemptKey key;
  std::string node;     // whose part of the attempt is meant
  bool refuse = false;  // and from now on do not acknowledge the attempt to anybody
};

struct Inspect {  // answered by an InspectionReport; while one is under way another changes nothing
  std::int64_t request = 0;
  std::string trigger;
};

// Starts a command inside a running attempt: as its user, in its cgroup, with the environment of a rank. It
// ends with the attempt, with this connection, and on CloseShell: a hang-up first, then SIGKILL.
struct OpenShell {
  std::int64_t shell = 0;  // number of this connection
  AttemptKey key;
  std::int32_t rank = -1;         // whose environment; -1: of the first one here
  std::vector<std::string> argv;  // empty: the user's shell
  bool tty = false;
  std::int32_t rows = 24, columns = 80;
  std::string term;         // of the person's terminal, "" = not known
  std::int64_t credit = 0;  // so many bytes of output may be sent at once
};

struct ShellInput {
  std::int64_t shell = 0;
  std::string data;         // base64; may be empty
  bool end = false;         // nothing more will come
  std::int64_t credit = 0;  // so many bytes of output may follow
};

struct ShellResize {
  std::int64_t shell = 0;
  std::int32_t rows = 0, columns = 0;
};

struct CloseShell {  // nobody is there any more
  std::int64_t shell = 0;
};

inline constexpr std::int64_t kShellWindow = 128 << 10;  // bytes under way in one direction
inline constexpr std::size_t kShellPiece = 16 << 10;     // of one message
inline constexpr int kShellsPerNode = 16;

using ToWorker =
    std::variant<Welcome, Refused, HeartbeatAck, Prepare, Launch, Stop, Forget, DeleteCheckpoint, ReadLog,
                 Inspect, AskSilence, OpenShell, ShellInput, ShellResize, CloseShell, SignalRanks>;

// ---------------------------------------------------------------- worker ↔ worker, over UDP, signed
//
//   PeerPing {attempts}      each second to every peer of an attempt  ->
//                                                                    <-  PeerAck {those that are not over}
// The gang's lease runs from the *sending* of what was acknowledged.

struct PeerPing {
  std::string from, to;      // names of nodes
  std::int64_t sent_us = 0;  // CLOCK_BOOTTIME of the sender
  std::vector<AttemptKey> attempts;
};

struct PeerAck {
  std::string from, to;
  std::int64_t sent_us = 0;  // of the ping
  std::vector<AttemptKey> attempts;
};

using PeerMessage = std::variant<PeerPing, PeerAck>;

}  // namespace tutti::protocol
