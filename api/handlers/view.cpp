#include "api/handlers/view.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>

#include "api/handlers/job_filter.h"
#include "api/wire/text_values.h"
#include "scheduler/core/lost_work.h"
#include "scheduler/model/condition_table.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

json::value cause_or_null(Cause cause) {
  return cause == Cause::none ? json::value(nullptr) : json::value(name(cause));
}

template <class Tag>
json::value id_or_null(Id<Tag> id) {
  return id ? json::value(id.value) : json::value(nullptr);
}

json::value step_or_null(std::int64_t step) { return step < 0 ? json::value(nullptr) : json::value(step); }

std::string_view name(MemberState s) {
  switch (s) {
    case MemberState::asked: return "asked";
    case MemberState::preparing: return "preparing";
    case MemberState::ready: return "ready";
    case MemberState::launched: return "launched";
    case MemberState::running: return "running";
    case MemberState::ended: return "ended";
  }
  return "?";
}

double finite(double d) { return std::isfinite(d) ? d : 0; }

json::object progress_view(const protocol::Progress& progress) {
  json::object metrics;
  for (const auto& [key, value] : progress.metrics)
    if (std::isfinite(value)) metrics.emplace(key, value);
  return {{"step", progress.step},
          {"total", progress.total},
          {"eta_seconds", finite(progress.eta_seconds)},
          {"metrics", std::move(metrics)}};
}

/// Seconds between two stamps, if both have come.
json::value span(Instant from, Instant to) {
  if (from == Instant{} || to == Instant{}) return nullptr;
  return to_seconds(to - from);
}

Instant first_of(Instant a, Instant b) {
  if (a == Instant{}) return b;
  if (b == Instant{}) return a;
  return std::min(a, b);
}

json::object stages_view(const AttemptRow& row) {
  const Instant run_end = first_of(row.fault_at, first_of(row.stopping_at, row.ended_at));
  return {{"prepare_seconds", span(row.placed_at, row.starting_at)},
          {"launch_seconds", span(row.starting_at, row.running_at)},
          {"run_seconds", span(row.running_at, run_end)},
          {"detect_seconds", span(row.fault_at, row.stopping_at)},
          {"fence_seconds", span(row.stopping_at, row.ended_at)}};
}

json::object member_view(const GangMember& member, const Cluster& cluster) {
  json::array gpus;
  for (const GpuId id : member.gpus) {
    const auto it = cluster.gpus.find(id);
    if (it == cluster.gpus.end()) continue;
    gpus.push_back(json::object{{"index", it->second.row.index}, {"uuid", it->second.row.uuid}});
  }
  return {{"node", member.node_name}, {"gpus", std::move(gpus)},     {"first_rank", member.first_rank},
          {"ranks", member.ranks},    {"state", name(member.state)}, {"exit_code", member.exit_code},
          {"signal", member.signal},  {"proof", member.how}};
}

json::value evidence_view(const std::string& evidence_json) {
  json::error_code error;
  auto evidence = json::parse(evidence_json, error);
  return error || !evidence.is_array() ? json::value(json::array()) : evidence;
}

std::string node_name(const Cluster& cluster, NodeId id) {
  const Node* node = cluster.find(id);
  return node == nullptr ? to_string(id) : node->row.name;
}

// No rank moves: since when, and whom to suspect.
json::value hang_view(const Attempt& attempt) {
  if (!attempt.hung_since) return nullptr;
  return json::object{{"since", wire::format_instant(*attempt.hung_since)}, {"detail", attempt.hung_why}};
}

json::array stragglers_view(const Attempt& attempt, const Cluster& cluster) {
  json::array out;
  for (const auto& [rank, slow] : attempt.watch.stragglers())
    out.push_back(
        json::object{{"rank", rank}, {"node", node_name(cluster, slow.node)}, {"times", slow.times}});
  return out;
}

}  // namespace

json::array allocation_view(const AttemptRow& row, const Cluster& cluster) {
  json::array nodes;
  for (const auto& member : row.gang) {
    json::array gpus;
    for (const GpuId id : member.gpus)
      if (const auto it = cluster.gpus.find(id); it != cluster.gpus.end())
        gpus.emplace_back(it->second.row.index);
    nodes.push_back(json::object{{"node", member.node_name}, {"gpus", std::move(gpus)}});
  }
  return nodes;
}

json::value instant_or_null(Instant at) {
  return at == Instant{} ? json::value(nullptr) : json::value(wire::format_instant(at));
}

json::object job_view(const JobRow& row, std::string_view name_of_job, std::optional<Ending> ending,
                      json::storage_ptr storage) {
  json::object job(std::move(storage));
  job.reserve(24);
  job.emplace("id", row.id.value);
  job.emplace("name", name_of_job);
  job.emplace("project", row.project.str());
  job.emplace("queue", row.queue.str());
  job.emplace("owner", row.owner.str());
  job.emplace("priority", row.priority);
  job.emplace("state", name(row.state));
  job.emplace("cause", cause_or_null(row.cause));
  job.emplace("reason", row.reason.str());
  job.emplace("nodes", row.nodes);
  job.emplace("gpus_per_node", row.gpus_per_node);
  job.emplace("created_at", instant_or_null(row.created_at));
  job.emplace("queued_at", instant_or_null(row.queued_at));
  job.emplace("not_before", instant_or_null(row.not_before));
  job.emplace("ended_at", ending ? instant_or_null(ending->at) : nullptr);
  job.emplace("exit_code", ending ? json::value(ending->exit_code) : nullptr);
  job.emplace("attempt", row.attempt);
  job.emplace("epoch", row.epoch.value);
  job.emplace("version", row.version);
  return job;
}

json::object submitted_view(JobId id, std::string_view owner, const JobSpec& spec, Instant created_at,
                            JobState state, json::storage_ptr storage) {
  JobRow row;
  row.id = id;
  row.priority = static_cast<std::int16_t>(spec.priority);
  row.queue = spec.queue;
  row.project = spec.project;
  row.owner = owner;
  row.nodes = spec.nodes;
  row.gpus_per_node = spec.resources.gpus;
  row.created_at = row.queued_at = created_at;
  row.state = state;
  if (state == JobState::delayed) {  // as ControlPlane::add_job has it
    row.not_before =
        spec.schedule ? ControlPlane::first_run(spec, created_at) : spec.begin_time.value_or(Instant{});
    row.reason = spec.schedule ? "waits for its next run" : "waits for its begin time";
  } else if (state == JobState::blocked) {
    row.reason = spec.depends_on.empty() ? "waits for other tasks of its array" : "waits for other jobs";
  }
  auto job = job_view(row, spec.name, std::nullopt, std::move(storage));
  job.emplace("labels", labels_view(spec));
  job.emplace("progress", nullptr);
  job.emplace("allocation", json::array());
  return job;
}

json::object labels_view(const JobSpec& spec) {
  json::object labels;
  for (const auto& [key, value] : spec.labels) labels.emplace(key, value);
  return labels;
}

void add_live_parts(json::object& job, const ControlPlane& plane, const Job& live) {
  job.emplace("labels", labels_view(*live.spec));
  const Attempt* attempt = plane.find_attempt({live.row.id, live.row.epoch});
  job.emplace("progress", attempt != nullptr && attempt->progress
                              ? json::value(progress_view(*attempt->progress))
                              : json::value(nullptr));
  job.emplace("hang", attempt == nullptr ? json::value(nullptr) : hang_view(*attempt));
  job.emplace("stragglers", attempt == nullptr ? json::array() : stragglers_view(*attempt, plane.cluster()));
  job.emplace("allocation",
              attempt == nullptr ? json::array() : allocation_view(attempt->row, plane.cluster()));
}

void add_outlook(json::object& job, const ControlPlane& plane, const Job& live, Now now) {
  json::array budgets;
  const auto or_null = [](const std::optional<Duration>& d) {
    return d ? json::value(to_seconds(*d)) : json::value(nullptr);
  };
  for (const auto& b : retry_budgets(live.row, *live.spec, now.wall))
    budgets.push_back(json::object{{"cause", name(b.cause)},
                                   {"limit", b.limit},
                                   {"used", b.used},
                                   {"window_seconds", or_null(b.window)},
                                   {"next_delay_seconds", or_null(b.next_delay)}});
  job.emplace("budgets", std::move(budgets));
  job.emplace("no_progress", json::object{{"limit", live.spec->retry.no_progress_limit},
                                          {"in_a_row", live.row.no_progress}});
  job.emplace("eta", eta_view(plane.eta(live.row.id, now)));
  std::optional<Instant> end;
  if (const auto planned = plane.planned_run(live.row.id, now)) end = planned->start.at + planned->runs;
  const auto& running = plane.planner().running();
  if (const auto it = running.find(live.row.id); it != running.end())
    end = planner::expected_end(plane.planner(), it->second, now.wall);
  job.emplace("ends_at", end ? json::value(wire::format_instant(*end)) : json::value(nullptr));
}

std::string with_spec(const json::object& job, std::string_view spec_json) {
  std::string body = json::serialize(job);
  body.reserve(body.size() + spec_json.size() + 16);
  body.back() = ',';
  return body.append("\"spec\":").append(spec_json).append("}");
}

json::object attempt_view(const AttemptRow& row, const Cluster& cluster, const Attempt* live,
                          const std::vector<CheckpointRow>& checkpoints) {
  const auto lost = compute_lost_work(row, checkpoints);
  json::array gang;
  for (const auto& member : row.gang) gang.push_back(member_view(member, cluster));
  const bool ended = row.state == AttemptState::ended;
  const auto step =
      live != nullptr && live->progress ? std::max(row.last_step, live->progress->step) : row.last_step;
  return {
      {"number", row.number},
      {"epoch", row.epoch.value},
      {"state", name(row.state)},
      {"result", row.result == AttemptResult::none ? json::value(nullptr) : json::value(name(row.result))},
      {"cause", cause_or_null(row.cause)},
      {"detail", row.detail},
      {"exit_code", ended ? json::value(row.exit_code) : json::value(nullptr)},
      {"gang", std::move(gang)},
      {"resume_step", step_or_null(row.resume_step)},
      {"last_step", step_or_null(step)},
      {"lost_steps", lost ? json::value(lost->steps) : json::value(nullptr)},
      {"lost_gpu_seconds", lost ? json::value(lost->gpu_seconds) : json::value(nullptr)},
      {"placed_at", instant_or_null(row.placed_at)},
      {"preflight_at", instant_or_null(row.preflight_at)},
      {"starting_at", instant_or_null(row.starting_at)},
      {"running_at", instant_or_null(row.running_at)},
      {"restored_at", instant_or_null(row.restored_at)},
      {"caught_up_at", instant_or_null(row.caught_up_at)},
      {"fault_at", instant_or_null(row.fault_at)},
      {"stopping_at", instant_or_null(row.stopping_at)},
      {"ended_at", instant_or_null(row.ended_at)},
      {"stages", stages_view(row)},
      {"evidence", evidence_view(row.evidence_json)}};
}

json::object event_view(const EventRow& row, const Cluster* cluster) {
  json::value node = nullptr;
  if (row.node) node = json::value(cluster == nullptr ? to_string(row.node) : node_name(*cluster, row.node));
  return {{"id", row.id.value},
          {"at", instant_or_null(row.at)},
          {"job_id", id_or_null(row.job)},
          {"node", std::move(node)},
          {"epoch", id_or_null(row.epoch)},
          {"kind", row.kind},
          {"from", row.from},
          {"to", row.to},
          {"cause", cause_or_null(row.cause)},
          {"detail", row.detail}};
}

json::object fault_view(const FaultRow& row, const Cluster& cluster) {
  const auto gpu = cluster.gpus.find(row.gpu);
  return {{"id", row.id.value},
          {"at", instant_or_null(row.at)},
          {"node", node_name(cluster, row.node)},
          {"gpu_uuid", gpu == cluster.gpus.end() ? json::value(nullptr) : json::value(gpu->second.row.uuid)},
          {"job_id", id_or_null(row.job)},
          {"epoch", id_or_null(row.epoch)},
          {"class", row.fault_class},
          {"xid", row.xid},
          {"action", row.action},
          {"detail", row.detail},
          {"rule", row.rule},
          {"slot", row.slot},
          {"shared_by", row.shared_by}};
}

std::string_view gpu_state(const Gpu& gpu) {
  if (!gpu.row.present) return "absent";
  switch (gpu.row.health) {
    case GpuHealth::quarantined: return "quarantined";
    case GpuHealth::dirty: return "dirty";
    case GpuHealth::healthy: break;
  }
  return gpu.holder.job ? "allocated" : "free";
}

json::object gpu_view(const Gpu& gpu, const ControlPlane& plane, const std::optional<Visible>& visible) {
  const JobId job = gpu.holder.job;
  return {{"index", gpu.row.index},
          {"uuid", gpu.row.uuid},
          {"model", gpu.row.model},
          {"memory_bytes", gpu.row.memory_bytes},
          {"pci", gpu.row.pci},
          {"health", name(gpu.row.health)},
          {"health_reason", gpu.row.health_reason},
          {"state", gpu_state(gpu)},
          {"job_id", id_or_null(job && is_visible(visible, plane, job) ? job : JobId())}};
}

AbsentGpus absent_gpus(const Cluster& cluster) {
  AbsentGpus absent;
  for (const auto& [id, gpu] : cluster.gpus)
    if (!gpu.row.present) absent[gpu.row.node].push_back(&gpu);
  return absent;
}

// What speaks against a node, and how much: newest first.
json::object lemon_view(const ControlPlane& plane, const Node& node, Now now) {
  const LemonCount count =
      count_lemon_failures(plane.ledger().lemon_failures(node.row.id), node.row.registered_at, now.wall);
  const LemonScore score = plane.lemon_score(node.row.id);
  json::array terms;
  constexpr std::size_t kShown = 20;
  for (auto term = count.terms.rbegin(); term != count.terms.rend() && terms.size() < kShown; ++term)
    terms.push_back(json::object{{"at", instant_or_null(term->failure.at)},
                                 {"shared_by", term->failure.shared_by},
                                 {"weight", term->weight}});
  return {{"failures", count.failures},       {"per_day", score.per_day}, {"ratio", score.ratio},
          {"probability", score.probability}, {"flagged", score.flagged}, {"weight", node.suspicion},
          {"terms", std::move(terms)}};
}

json::object node_view(const Node& node, const ControlPlane& plane, const AbsentGpus& absent,
                       const std::optional<Visible>& visible) {
  const Cluster& cluster = plane.cluster();
  const auto index = plane.planner().nodes().find(node.row.id);
  const auto* held = index ? &plane.planner().nodes().at(*index) : nullptr;
  json::object labels;
  for (const auto& [key, value] : node.row.labels) labels.emplace(key, value);
  json::array gpus, jobs;
  for (const GpuId id : node.gpus) gpus.push_back(gpu_view(cluster.gpus.at(id), plane, visible));
  if (const auto it = absent.find(node.row.id); it != absent.end())
    for (const Gpu* gpu : it->second) gpus.push_back(gpu_view(*gpu, plane, visible));
  for (const auto& key : node.members)
    if (is_visible(visible, plane, key.job)) jobs.emplace_back(key.job.value);
  json::array conditions;
  for (const auto& c : node.conditions)
    conditions.push_back(json::object{{"kind", c.kind},
                                      {"subject", c.subject},
                                      {"detail", c.detail},
                                      {"since", instant_or_null(c.since)},
                                      {"effect", name(judge_condition(c.kind).effect)}});
  return {{"id", node.row.id.value},
          {"name", node.row.name},
          {"queue", node.row.queue},
          {"address", node.row.address},
          {"state", name(node.row.state)},
          {"service", name(node.row.service)},
          {"service_reason", node.row.service_reason},
          {"service_at", instant_or_null(node.row.service_at)},
          {"service_until", instant_or_null(node.row.service_until)},
          {"returns", node.row.returns},
          {"suspicion", node.suspicion},
          {"linked", node.linked},
          {"conditions", std::move(conditions)},
          {"cpus", node.row.cpus},
          {"cpus_used", held == nullptr ? 0 : held->cpus_held},
          {"memory_bytes", node.row.memory_bytes},
          {"memory_used_bytes", held == nullptr ? 0 : held->memory_held},
          {"driver", node.row.driver},
          {"simulated_gpus", node.row.simulated_gpus},
          {"kill_mode", node.row.kill_mode},
          {"worker_version", node.row.worker_version},
          {"labels", std::move(labels)},
          {"registered_at", instant_or_null(node.row.registered_at)},
          {"state_at", instant_or_null(node.row.state_at)},
          {"gpus", std::move(gpus)},
          {"jobs", std::move(jobs)}};
}

json::object inspection_view(const Node& node) {
  json::array checks;
  bool passed = node.inspection.has_value();
  const auto seconds = [](std::int64_t us) { return static_cast<double>(us) / 1e6; };
  if (node.inspection)
    for (const auto& c : node.inspection->checks) {
      if (c.result == "failed") passed = false;
      checks.push_back(json::object{{"name", c.name},
                                    {"owner", c.owner},
                                    {"result", c.result},
                                    {"detail", c.detail},
                                    {"limit_seconds", seconds(c.limit_us)},
                                    {"took_seconds", seconds(c.took_us)}});
    }
  return {{"node", node.row.name},
          {"under_way", node.inspection_asked != 0},
          {"at", node.inspection ? instant_or_null(node.inspection->at) : json::value(nullptr)},
          {"trigger", node.inspection ? node.inspection->trigger : ""},
          {"passed", passed},
          {"checks", std::move(checks)}};
}

json::array reasons_view(const std::vector<Reason>& reasons) {
  json::array out;
  for (const auto& reason : reasons)
    out.push_back(json::object{
        {"code", reason.code}, {"text", reason.text}, {"need", reason.need}, {"have", reason.have}});
  return out;
}

json::object explanation_view(const Explanation& e) {
  json::array blockers, would_help;
  for (const auto& b : e.blockers)
    blockers.push_back(json::object{{"code", b.code},
                                    {"text", b.text},
                                    {"job_id", b.job ? json::value(b.job.value) : json::value(nullptr)}});
  for (const auto& c : e.would_help) would_help.push_back(json::object{{"field", c.field}, {"to", c.to}});
  return {{"job_id", e.job.value},
          {"blockers", std::move(blockers)},
          {"would_help", std::move(would_help)},
          {"state", name(e.state)},
          {"never", e.never},
          {"position", e.position ? json::value(*e.position) : json::value(nullptr)},
          {"reasons", reasons_view(e.reasons)}};
}

json::value eta_view(const std::optional<Eta>& eta) {
  if (!eta) return nullptr;
  return json::object{{"at", instant_or_null(eta->at)},
                      {"from", instant_or_null(eta->from)},
                      {"to", instant_or_null(eta->to)}};
}

}  // namespace tutti::api
