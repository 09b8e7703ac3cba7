// Control plane: why an attempt ended, beyond what was seen first. The same failure on other
// hardware is the program's; many restarts at once wait for their turn; what was lost is counted.
#include <algorithm>
#include <cctype>

#include "scheduler/core/control_plane.h"

namespace tutti {
namespace {

constexpr std::size_t kFailures = 4;     // remembered of a job
constexpr std::size_t kSignature = 160;  // characters
constexpr int kSigkill = 9, kSigterm = 15;
constexpr Duration kExcuseLasts = std::chrono::minutes(5);

// The last line that says something, without what differs from run to run: numbers and addresses.
std::string normalised(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.remove_suffix(1);
  if (const auto line = text.rfind('\n'); line != std::string_view::npos) text.remove_prefix(line + 1);
  std::string out;
  bool in_number = false;
  for (const char c : text) {
    const bool digit = std::isxdigit(static_cast<unsigned char>(c)) != 0 &&
                       (in_number || std::isdigit(static_cast<unsigned char>(c)) != 0);
    const bool hex_mark = in_number && c == 'x';
    if (digit && !in_number) out += '#';
    in_number = digit || hex_mark;
    if (!in_number) out += c;
    if (out.size() >= kSignature) break;
  }
  if (out.size() < kSignature) return out;
  // Not in the middle of a character (UTF-8): its last bytes go, and its first one.
  const auto byte = [&] { return static_cast<unsigned char>(out.back()); };
  while (!out.empty() && (byte() & 0xC0) == 0x80) out.pop_back();
  if (!out.empty() && byte() >= 0xC0) out.pop_back();
  return out;
}

bool disjoint(const std::vector<NodeId>& a, const std::vector<NodeId>& b) {
  return std::ranges::none_of(a, [&](NodeId n) { return std::ranges::find(b, n) != b.end(); });
}

std::vector<NodeId> nodes_of(const AttemptRow& row) {
  std::vector<NodeId> out;
  for (const auto& m : row.gang) out.push_back(m.node);
  return out;
}

}  // namespace

// SIGKILL and SIGTERM are sent by somebody and tell nothing; without words a number alone is no signature.
void ControlPlane::sign(Attempt& attempt, const protocol::Failure& failure) {
  const std::string words = normalised(failure.last_lines);
  if (failure.signal == kSigkill || failure.signal == kSigterm || words.empty()) return;
  attempt.row.signature = failure.kind + " " +
                          std::to_string(failure.signal != 0 ? failure.signal : failure.exit_code) + " " +
                          words;
}

// The number of the earlier attempt that failed just so on none of these nodes.
std::optional<int> ControlPlane::same_failure_elsewhere(const Job& job, const AttemptRow& row) const {
  if (row.signature.empty()) return std::nullopt;
  for (const auto& earlier : job.trouble().failures)
    if (earlier.signature == row.signature && disjoint(earlier.nodes, nodes_of(row))) return earlier.attempt;
  return std::nullopt;
}

// A GPU of ours failed fatally while we ran: that is the cause, whatever its ranks died of.
void ControlPlane::excuse_end(Attempt& attempt, bool gpu_failed, Now now) {
  AttemptRow& row = attempt.row;
  const CauseClass was = class_of(row.cause);
  if (row.cause == Cause::time_limit || was == CauseClass::person || was == CauseClass::hardware) return;
  if (gpu_failed) {
    row.cause = Cause::gpu;
    return;
  }
  // A fault that ended nothing, since its rule had acted too often, may have done so by itself.
  if (attempt.excuse.empty() || row.stopping_at - attempt.excuse_at > kExcuseLasts) return;
  if (was != CauseClass::user && was != CauseClass::undecided) return;
  record_job(jobs_.at(row.job), now,
             {.kind = "verdict",
              .from = std::string(name(row.cause)),
              .to = std::string(name(Cause::gpu)),
              .detail = attempt.excuse,
              .cause = Cause::gpu});
  row.cause = Cause::gpu;
  row.detail = attempt.excuse;
}

// Nobody knew why: if it was so elsewhere too, it is the program, and nobody else is to blame. A hang has no
// last words that could be compared.
void ControlPlane::charge_or_forgive(Job& job, Attempt& attempt, Now now) {
  AttemptRow& row = attempt.row;
  if (row.cause == Cause::hang) return blame_unknown(row, now);
  if (row.cause != Cause::unknown) return;
  const auto earlier = same_failure_elsewhere(job, row);
  if (!earlier) return blame_unknown(row, now);
  row.detail = "failed alike on other nodes (attempt " + std::to_string(*earlier) + "): " + row.detail;
  record_job(job, now,
             {.kind = "verdict",
              .from = std::string(name(row.cause)),
              .to = std::string(name(Cause::user)),
              .detail = row.detail,
              .cause = Cause::user});
  row.cause = Cause::user;
  const auto forgiven = ledger_.forgive(job.row.id);
  out_.batch.withdrawn.insert(out_.batch.withdrawn.end(), forgiven.begin(), forgiven.end());
  add_fault(now, {.id = {},
                  .at = now.wall,
                  .node = {},
                  .gpu = {},
                  .job = job.row.id,
                  .epoch = row.epoch,
                  .fault_class = "forgiven",
                  .action = "none",
                  .detail = "the nodes of this job's failures are not to blame: " + row.detail,
                  .rule = "",
                  .slot = "",
                  .shared_by = 0});
}

// A little against each node of the gang, so that a node that kills many jobs stands out. Never enough to set
// one aside by itself.
void ControlPlane::blame_unknown(const AttemptRow& row, Now now) {
  for (const auto& m : row.gang)
    add_fault(now, {.id = {},
                    .at = now.wall,
                    .node = m.node,
                    .gpu = {},
                    .job = row.job,
                    .epoch = row.epoch,
                    .fault_class = "attempt_failed",
                    .action = "watch",
                    .detail = row.detail,
                    .rule = "",
                    .slot = "",
                    .shared_by = static_cast<std::int32_t>(row.gang.size()) + 1});
}

void ControlPlane::remember_failure(Job& job, const AttemptRow& row) {
  if (row.result != AttemptResult::failed) return;
  // What its ranks said when hardware or a network failed is not how the program fails.
  const bool its_own = row.cause == Cause::unknown || class_of(row.cause) == CauseClass::user;
  Job::Trouble& trouble = job.note_trouble();
  trouble.failures.push_back({its_own ? row.signature : "", nodes_of(row), row.number});
  if (trouble.failures.size() > kFailures) trouble.failures.erase(trouble.failures.begin());
  trouble.fault_at = row.fault_at;
  trouble.fault_cause = row.cause;
  trouble.fault_step = std::max(trouble.fault_step, row.last_step);
}

void ControlPlane::stage(Job& job, std::string_view stage, Now now) {
  const Job::Trouble& trouble = job.trouble();
  if (trouble.fault_at == Instant{}) return;
  out_.stages.push_back({stage, trouble.fault_cause, std::max(now.wall - trouble.fault_at, Duration())});
}

// A switch that is lost ends many gangs at once; they do not all start again in the same second.
Duration ControlPlane::wait_for_turn(Now now) {
  if (settings_.requeues_a_second <= 0) return {};
  requeue_tokens_ =
      std::min(settings_.requeue_burst,
               requeue_tokens_ + to_seconds(now.mono - requeue_tokens_at_) * settings_.requeues_a_second);
  requeue_tokens_at_ = now.mono;
  requeue_tokens_ -= 1;  // below zero: those before it
  return requeue_tokens_ >= 0 ? Duration() : from_seconds(-requeue_tokens_ / settings_.requeues_a_second);
}

}  // namespace tutti
