// The report of a day: gathering, its JSON form, and GET /v1/report.
#include "api/handlers/report.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>

#include "api/handlers/answer.h"
#include "api/handlers/history.h"
#include "api/wire/text_values.h"
#include "scheduler/core/retry.h"

namespace tutti {
namespace {

namespace json = boost::json;

constexpr Duration kDay = std::chrono::hours(24);
constexpr Duration kSampleEvery = std::chrono::hours(1);
constexpr std::chrono::seconds kSampling(20);  // then the rest of the day stays unknown
constexpr int kGroups = 20;                    // classes, actions and nodes that are named
constexpr int kAllClasses = 10'000;            // the number of faults is the sum over all of them

// ---------------------------------------------------------------- rows

std::vector<Cause> causes_of_no_user() {
  std::vector<Cause> out;
  for (std::size_t c = 1; c < kCauseCount; ++c) {
    const auto whose = class_of(static_cast<Cause>(c));
    if (whose != CauseClass::user && whose != CauseClass::person) out.push_back(static_cast<Cause>(c));
  }
  return out;
}

void read_rows_of(Reader& reader, DayReport& report) {
  const auto usage = [&](std::vector<UsageKey> by) {
    return reader.usage({.since = report.day, .until = report.until, .by = std::move(by)});
  };
  report.total = usage({});
  report.by_queue = usage({UsageKey::queue});
  report.by_project = usage({UsageKey::project});
  report.recoveries = reader.recovery_times(report.day, report.until, causes_of_no_user());
  JobFilter submitted;
  submitted.since = report.day;
  submitted.until = report.until;
  for (const auto& group : reader.count_jobs(submitted, JobKey::state, kGroups))
    report.submitted += group.jobs;
  FaultFilter faults;
  faults.since = report.day;
  faults.until = report.until;
  report.by_class = reader.count_faults(faults, FaultKey::fault_class, kAllClasses);
  report.by_action = reader.count_faults(faults, FaultKey::action, kGroups);
  report.by_node = reader.count_faults(faults, FaultKey::node, kGroups);
}

// ---------------------------------------------------------------- machines

void count(const PastNode& node, const PastGpu& gpu, DayReport::Sample& sample) {
  if (!gpu.row.present) return;
  ++sample.gpus;
  if (gpu.row.health != GpuHealth::healthy)
    ++sample.unhealthy;
  else if (gpu.holder)
    ++sample.used;
  else if (node.row.state != NodeState::reachable)
    ++sample.away;
  else if (node.row.service != NodeService::schedulable && node.row.service != NodeService::probation)
    ++sample.closed;
  else
    ++sample.idle;
}

std::optional<std::int64_t> asked_for(const PastQueue& queue) {
  if (queue.cut) return std::nullopt;
  std::int64_t gpus = 0;
  for (const auto& job : queue.jobs)
    if (job.row.state == JobState::queued) gpus += std::int64_t{job.row.nodes} * job.row.gpus_per_node;
  return gpus;
}

bool is_set_aside(NodeService service) {
  return service == NodeService::quarantined || service == NodeService::repair;
}

void note_set_aside(const PastMachines& machines, DayReport& report) {
  std::int64_t n = 0;
  const auto note = [&](DayReport::Aside aside) {
    if (++n <= static_cast<std::int64_t>(kMostSetAside)) report.set_aside.push_back(std::move(aside));
  };
  for (const auto& node : machines.nodes) {
    report.node_names[to_string(node.row.id)] = node.row.name;
    if (node.row.service == NodeService::retired) continue;
    if (is_set_aside(node.row.service))
      note({node.row.name, -1, std::string(name(node.row.service)), node.row.service_reason});
    for (const auto& gpu : node.gpus)
      if (gpu.row.present && gpu.row.health != GpuHealth::healthy)
        note({node.row.name, gpu.row.index, std::string(name(gpu.row.health)), gpu.row.health_reason});
  }
  report.set_aside_count = n;
}

}  // namespace

void add_machines(HistoryStore& store, DayReport& report) {
  const auto give_up = std::chrono::steady_clock::now() + kSampling;
  // Of the last instant nothing is taken back that lies on it.
  const Instant end = report.until - Duration(1);
  const PastMachines last = store.machines(end);
  note_set_aside(last, report);
  report.exact = last.known_since && *last.known_since <= report.day;
  const auto first = store.first_event();
  if (first && *first < report.until) report.known_from = std::max(*first, report.day);
  for (Instant at = report.day; at < report.until; at += kSampleEvery) {
    if (!first || at < *first) continue;
    if (std::chrono::steady_clock::now() > give_up) break;
    DayReport::Sample sample;
    sample.at = at;
    for (const auto& node : store.machines(at).nodes)
      if (node.row.service != NodeService::retired)
        for (const auto& gpu : node.gpus) count(node, gpu, sample);
    sample.asked = asked_for(store.queue(at, std::nullopt, kMostPastJobs));
    report.samples.push_back(sample);
  }
}

void make_report(Backend& backend, const History* history, Instant day,
                 std::function<void(Result<DayReport>)> done) {
  auto report = std::make_shared<DayReport>();
  report->day = day;
  report->made_at = backend.now().wall;
  report->until = std::min(day + kDay, report->made_at);
  const auto machines = [history, report, done] {
    if (history == nullptr) return done(*report);
    history->reading()([store = history->store(), report] { add_machines(*store, *report); },
                       [report, done](std::exception_ptr failure) {
                         if (failure) return done(api::history_unreadable(failure));
                         done(*report);
                       });
  };
  backend.read(
      [report, machines](Reader& reader) -> std::function<void()> {
        read_rows_of(reader, *report);
        return machines;
      },
      [done](const Error& error) { done(error); });
}

// ---------------------------------------------------------------- JSON

namespace {

json::value number_or_null(const std::optional<double>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}
json::value ratio(double part, double whole) {
  return whole > 0 ? json::value(part / whole) : json::value(nullptr);
}

json::object lost_by_cause(const UsageRow& row) {
  json::object out;
  for (std::size_t c = 0; c < kCauseCount; ++c)
    if (row.lost_by[c] > Duration::zero())
      out.emplace(name(static_cast<Cause>(c)), to_seconds(row.lost_by[c]));
  return out;
}

json::object waits_view(const UsageRow& row) {
  return {{"placed", row.attempts},
          {"p50_seconds", number_or_null(row.wait_p50)},
          {"p90_seconds", number_or_null(row.wait_p90)}};
}

json::array groups_view(const std::vector<FaultGroup>& groups, const char* key,
                        const std::map<std::string, std::string>* names = nullptr) {
  json::array out;
  for (const auto& group : groups) {
    if (out.size() >= std::size_t{kGroups}) break;
    std::string text = group.key;
    if (names != nullptr && text == "0") continue;  // of no node
    if (names != nullptr)
      if (const auto found = names->find(text); found != names->end()) text = found->second;
    out.push_back(json::object{{key, text}, {"faults", group.faults}, {"jobs_hit", group.jobs_hit}});
  }
  return out;
}

json::object samples_view(const DayReport& report) {
  json::array samples;
  std::optional<std::int64_t> least_idle, most_asked;
  double gpus = 0;
  for (const auto& s : report.samples) {
    gpus += static_cast<double>(s.gpus);
    least_idle = std::min(least_idle.value_or(s.idle), s.idle);
    if (s.asked) most_asked = std::max(most_asked.value_or(*s.asked), *s.asked);
    samples.push_back(json::object{{"at", wire::format_instant(s.at)},
                                   {"gpus", s.gpus},
                                   {"used", s.used},
                                   {"idle", s.idle},
                                   {"unhealthy", s.unhealthy},
                                   {"closed", s.closed},
                                   {"away", s.away},
                                   {"asked_for", s.asked ? json::value(*s.asked) : json::value(nullptr)}});
  }
  const auto or_null = [](const std::optional<std::int64_t>& n) {
    return n ? json::value(*n) : json::value(nullptr);
  };
  return {
      {"least_idle_gpus", or_null(least_idle)},
      {"most_asked_gpus", or_null(most_asked)},
      {"mean_gpus", report.samples.empty() ? json::value(nullptr)
                                           : json::value(gpus / static_cast<double>(report.samples.size()))},
      {"exact", report.exact},
      {"samples", std::move(samples)}};
}

// What the GPUs could have given in the hours that are known: each sample stands for the time until the next
// one, the first also for what is known before it. A cluster's first day begins with its first event.
std::optional<double> capacity_of(const DayReport& report) {
  if (report.samples.empty()) return std::nullopt;
  double gpu_seconds = 0;
  for (const auto& s : report.samples) {
    const bool first = &s == &report.samples.front();
    const Instant from = first && report.known_from != Instant{} ? report.known_from : s.at;
    const Instant to = std::min(s.at + kSampleEvery, report.until);
    gpu_seconds += static_cast<double>(s.gpus) * to_seconds(to - from);
  }
  return gpu_seconds;
}

// False: it was given up, and the time held is of more hours than the capacity.
bool known_to_the_end(const DayReport& report) {
  return !report.samples.empty() && report.samples.back().at + kSampleEvery >= report.until;
}

json::array projects_view(const Usage& usage) {
  std::vector<const UsageRow*> rows;
  for (const auto& row : usage.rows) rows.push_back(&row);
  std::ranges::sort(rows, std::greater(), [](const UsageRow* row) { return row->gpu; });
  json::array out;
  for (const UsageRow* row : rows)
    out.push_back(json::object{{"project", row->project},
                               {"jobs", row->jobs},
                               {"gpu_seconds", to_seconds(row->gpu)},
                               {"lost_gpu_seconds", to_seconds(row->lost)},
                               {"wait_p50_seconds", number_or_null(row->wait_p50)}});
  return out;
}

json::array recoveries_view(const DayReport& report) {
  json::array out;
  for (std::size_t i = 0; i < kRecoveryStages.size(); ++i) {
    const StageTimes& stage = report.recoveries[i];
    out.push_back(json::object{{"stage", kRecoveryStages[i]},
                               {"attempts", stage.attempts},
                               {"p50_seconds", number_or_null(stage.p50)},
                               {"p99_seconds", number_or_null(stage.p99)}});
  }
  return out;
}

json::object faults_view(const DayReport& report) {
  std::int64_t faults = 0;
  for (const auto& group : report.by_class) faults += group.faults;
  return {{"faults", faults},
          {"by_class", groups_view(report.by_class, "class")},
          {"by_action", groups_view(report.by_action, "action")},
          {"by_node", groups_view(report.by_node, "node", &report.node_names)}};
}

}  // namespace

json::object report_view(const DayReport& report) {
  const UsageRow& total = report.total.total;
  json::object spare = samples_view(report);
  const std::optional<double> capacity = capacity_of(report);
  json::array queues, aside;
  for (const auto& row : report.by_queue.rows) {
    json::object one = waits_view(row);
    one.emplace("queue", row.queue);
    queues.push_back(std::move(one));
  }
  for (const auto& a : report.set_aside)
    aside.push_back(json::object{{"node", a.node},
                                 {"gpu", a.gpu < 0 ? json::value(nullptr) : json::value(a.gpu)},
                                 {"what", a.what},
                                 {"why", a.why}});
  json::object waits = waits_view(total);
  waits.emplace("by_queue", std::move(queues));
  const double held = to_seconds(total.gpu), lost = to_seconds(total.lost);
  return {{"day", wire::format_instant(report.day).substr(0, 10)},
          {"from", wire::format_instant(report.day)},
          {"until", wire::format_instant(report.until)},
          {"complete", report.until - report.day == kDay},
          {"made_at", wire::format_instant(report.made_at)},
          {"utilisation",
           json::object{{"gpu_seconds", held},
                        {"capacity_gpu_seconds", number_or_null(capacity)},
                        {"ratio", known_to_the_end(report) ? ratio(held, *capacity) : json::value(nullptr)}}},
          {"jobs", json::object{{"submitted", report.submitted},
                                {"active", total.jobs},
                                {"placed", total.attempts},
                                {"succeeded", total.succeeded},
                                {"failed", total.failed},
                                {"cancelled", total.cancelled}}},
          {"waits", std::move(waits)},
          {"goodput", json::object{{"lost_gpu_seconds", lost},
                                   {"lost_by_cause", lost_by_cause(total)},
                                   {"lost_ratio", ratio(lost, held)}}},
          {"recoveries", recoveries_view(report)},
          {"faults", faults_view(report)},
          {"set_aside_count",
           report.set_aside_count ? json::value(*report.set_aside_count) : json::value(nullptr)},
          {"set_aside", std::move(aside)},
          {"spare", std::move(spare)},
          {"projects", projects_view(report.by_project)}};
}

// ---------------------------------------------------------------- GET /v1/report

namespace api {
namespace {

enum class Form : std::uint8_t {
  json,
  text,
  markdown
};

Result<Instant> day_param(const http::Request& request, Instant now) {
  const Instant today = std::chrono::floor<std::chrono::days>(now);
  const auto text = request.query_param("day");
  if (!text || text->empty()) return today - kDay;
  const auto day = text->size() == 10 ? wire::parse_instant(*text + "T00:00:00Z") : std::nullopt;
  if (!day) return bad_field("day", "not a day: '" + text->substr(0, 100) + "'", "like 2026-10-01, in UTC");
  if (*day > now)
    return bad_field("day", "this day has not begun", "today's is as of now; default: yesterday");
  return *day;
}

Result<Form> form_of(const http::Request& request) {
  const auto format = request.query_param("format");
  if (format && *format == "json") return Form::json;
  if (format && *format == "text") return Form::text;
  if (format && *format == "markdown") return Form::markdown;
  if (format)
    return bad_field("format", "unknown format '" + format->substr(0, 100) + "'", "json, text or markdown");
  const auto accept = request.header("Accept");
  if (accept && accept->find("text/markdown") != std::string_view::npos) return Form::markdown;
  if (accept && accept->find("text/plain") != std::string_view::npos) return Form::text;
  return Form::json;
}

void get_report(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (const auto other = other_param(request, {"day", "format"})) return answer.fail(*other);
  const auto day = day_param(request, api->backend.now().wall);
  if (!day) return answer.fail(day.error());
  const auto form = form_of(request);
  if (!form) return answer.fail(form.error());
  make_report(api->backend, api->services.history, *day, [answer, form = *form](Result<DayReport> report) {
    if (!report) return answer.fail(report.error());
    const json::object view = report_view(*report);
    switch (form) {
      case Form::json: return answer.json(200, view);
      case Form::text: return answer.send(http::text(200, report_text(view, ReportStyle::text)));
      case Form::markdown:
        return answer.send(
            http::text(200, report_text(view, ReportStyle::markdown), "text/markdown; charset=utf-8"));
    }
  });
}

}  // namespace

void add_report_routes(const Routes& routes) {
  routes.get("/v1/report", "report.get", Need::operate, get_report);
}

}  // namespace api
}  // namespace tutti
