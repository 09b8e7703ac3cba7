// Names of states, events and causes: one table each, used in both directions.
#include "scheduler/model/states.h"

#include <utility>

namespace tutti {
namespace {

template <class E, std::size_t N>
using Names = std::array<std::pair<E, std::string_view>, N>;

template <class E, std::size_t N>
constexpr std::string_view find_name(const Names<E, N>& names, E e) {
  for (const auto& [value, text] : names)
    if (value == e) return text;
  return "?";
}

template <class E, std::size_t N>
constexpr std::optional<E> find_value(const Names<E, N>& names, std::string_view s) {
  for (const auto& [value, text] : names)
    if (text == s) return value;
  return std::nullopt;
}

constexpr Names<JobState, 10> kJobStateNames{{{JobState::queued, "queued"},
                                              {JobState::delayed, "delayed"},
                                              {JobState::blocked, "blocked"},
                                              {JobState::held, "held"},
                                              {JobState::starting, "starting"},
                                              {JobState::running, "running"},
                                              {JobState::stopping, "stopping"},
                                              {JobState::succeeded, "succeeded"},
                                              {JobState::failed, "failed"},
                                              {JobState::cancelled, "cancelled"}}};
constexpr Names<JobEvent, 13> kJobEventNames{{{JobEvent::due, "due"},
                                              {JobEvent::unblocked, "unblocked"},
                                              {JobEvent::place, "place"},
                                              {JobEvent::started, "started"},
                                              {JobEvent::stop, "stop"},
                                              {JobEvent::requeue, "requeue"},
                                              {JobEvent::back_off, "back_off"},
                                              {JobEvent::hold, "hold"},
                                              {JobEvent::release, "release"},
                                              {JobEvent::block, "block"},
                                              {JobEvent::succeed, "succeed"},
                                              {JobEvent::fail, "fail"},
                                              {JobEvent::cancel, "cancel"}}};
constexpr Names<AttemptState, 6> kAttemptStateNames{{{AttemptState::placed, "placed"},
                                                     {AttemptState::preflight, "preflight"},
                                                     {AttemptState::starting, "starting"},
                                                     {AttemptState::running, "running"},
                                                     {AttemptState::stopping, "stopping"},
                                                     {AttemptState::ended, "ended"}}};
constexpr Names<AttemptEvent, 5> kAttemptEventNames{{{AttemptEvent::accepted, "accepted"},
                                                     {AttemptEvent::ready, "ready"},
                                                     {AttemptEvent::started, "started"},
                                                     {AttemptEvent::stop, "stop"},
                                                     {AttemptEvent::ended, "ended"}}};
constexpr Names<NodeState, 3> kNodeStateNames{{{NodeState::reachable, "reachable"},
                                               {NodeState::unreachable, "unreachable"},
                                               {NodeState::dead, "dead"}}};
constexpr Names<NodeEvent, 3> kNodeEventNames{
    {{NodeEvent::silence, "silence"}, {NodeEvent::heard, "heard"}, {NodeEvent::expired, "expired"}}};
constexpr Names<NodeService, 7> kNodeServiceNames{{{NodeService::schedulable, "schedulable"},
                                                   {NodeService::cordoned, "cordoned"},
                                                   {NodeService::draining, "draining"},
                                                   {NodeService::quarantined, "quarantined"},
                                                   {NodeService::probation, "probation"},
                                                   {NodeService::repair, "repair"},
                                                   {NodeService::retired, "retired"}}};
constexpr Names<ServiceEvent, 8> kServiceEventNames{{{ServiceEvent::cordon, "cordon"},
                                                     {ServiceEvent::drain, "drain"},
                                                     {ServiceEvent::resume, "resume"},
                                                     {ServiceEvent::quarantine, "quarantine"},
                                                     {ServiceEvent::repair, "repair"},
                                                     {ServiceEvent::come_back, "come_back"},
                                                     {ServiceEvent::pass, "pass"},
                                                     {ServiceEvent::retire, "retire"}}};
constexpr Names<GpuHealth, 3> kGpuHealthNames{
    {{GpuHealth::healthy, "healthy"}, {GpuHealth::dirty, "dirty"}, {GpuHealth::quarantined, "quarantined"}}};
constexpr Names<CheckpointState, 4> kCheckpointStateNames{{{CheckpointState::found, "found"},
                                                           {CheckpointState::good, "good"},
                                                           {CheckpointState::suspect, "suspect"},
                                                           {CheckpointState::bad, "bad"}}};
constexpr Names<CheckpointEvent, 4> kCheckpointEventNames{{{CheckpointEvent::verified, "verified"},
                                                           {CheckpointEvent::proved, "proved"},
                                                           {CheckpointEvent::doubted, "doubted"},
                                                           {CheckpointEvent::damaged, "damaged"}}};
constexpr Names<Cause, kCauseCount> kCauseNames{{{Cause::none, "none"},
                                                 {Cause::user, "user"},
                                                 {Cause::oom, "oom"},
                                                 {Cause::gpu, "gpu"},
                                                 {Cause::node_lost, "node_lost"},
                                                 {Cause::fabric, "fabric"},
                                                 {Cause::network, "network"},
                                                 {Cause::storage, "storage"},
                                                 {Cause::launch, "launch"},
                                                 {Cause::hang, "hang"},
                                                 {Cause::unknown, "unknown"},
                                                 {Cause::preempted, "preempted"},
                                                 {Cause::maintenance, "maintenance"},
                                                 {Cause::control, "control"},
                                                 {Cause::time_limit, "time_limit"},
                                                 {Cause::cancelled, "cancelled"},
                                                 {Cause::requeued, "requeued"},
                                                 {Cause::held, "held"}}};
constexpr Names<AttemptResult, 4> kAttemptResultNames{{{AttemptResult::none, "none"},
                                                       {AttemptResult::succeeded, "succeeded"},
                                                       {AttemptResult::failed, "failed"},
                                                       {AttemptResult::stopped, "stopped"}}};

}  // namespace

std::string_view name(JobState s) { return find_name(kJobStateNames, s); }
std::string_view name(JobEvent e) { return find_name(kJobEventNames, e); }
std::string_view name(AttemptState s) { return find_name(kAttemptStateNames, s); }
std::string_view name(AttemptEvent e) { return find_name(kAttemptEventNames, e); }
std::string_view name(NodeState s) { return find_name(kNodeStateNames, s); }
std::string_view name(NodeEvent e) { return find_name(kNodeEventNames, e); }
std::string_view name(NodeService s) { return find_name(kNodeServiceNames, s); }
std::string_view name(ServiceEvent e) { return find_name(kServiceEventNames, e); }
std::string_view name(GpuHealth s) { return find_name(kGpuHealthNames, s); }
std::string_view name(CheckpointState s) { return find_name(kCheckpointStateNames, s); }
std::string_view name(CheckpointEvent e) { return find_name(kCheckpointEventNames, e); }
std::string_view name(Cause c) { return find_name(kCauseNames, c); }
std::string_view name(AttemptResult r) { return find_name(kAttemptResultNames, r); }

std::optional<JobState> parse_job_state(std::string_view s) { return find_value(kJobStateNames, s); }
std::optional<AttemptState> parse_attempt_state(std::string_view s) {
  return find_value(kAttemptStateNames, s);
}
std::optional<NodeState> parse_node_state(std::string_view s) { return find_value(kNodeStateNames, s); }
std::optional<NodeService> parse_node_service(std::string_view s) { return find_value(kNodeServiceNames, s); }
std::optional<GpuHealth> parse_gpu_health(std::string_view s) { return find_value(kGpuHealthNames, s); }
std::optional<CheckpointState> parse_checkpoint_state(std::string_view s) {
  return find_value(kCheckpointStateNames, s);
}
std::optional<Cause> parse_cause(std::string_view s) { return find_value(kCauseNames, s); }
std::optional<AttemptResult> parse_attempt_result(std::string_view s) {
  return find_value(kAttemptResultNames, s);
}

}  // namespace tutti
