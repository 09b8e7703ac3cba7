// GET /v1/jobs/{id}/checkpoints: which there are, what is known of them, and how often to save.
#include <algorithm>
#include <cstdio>

#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/page.h"
#include "api/handlers/view.h"
#include "scheduler/core/checkpoint_advice.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr Duration kFaultWindow = std::chrono::hours(30 * 24);
constexpr std::size_t kMeasured = 10;  // of the newest checkpoints

struct JobCheckpoints {
  JobRow job;
  std::vector<CheckpointRow> checkpoints;
  std::int64_t faults = 0;  // that end gangs, in the window
};

// A wrong COMPLETE.json now and then should not bend the advice.
std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::optional<double> measured_cost(const std::vector<CheckpointRow>& rows) {
  std::vector<double> costs;
  for (auto c = rows.rbegin(); c != rows.rend() && costs.size() < kMeasured; ++c)
    if (c->cost > Duration::zero()) costs.push_back(to_seconds(c->cost));
  return median(std::move(costs));
}

// Between those of one attempt.
std::optional<double> measured_interval(const std::vector<CheckpointRow>& rows) {
  std::vector<double> intervals;
  for (std::size_t i = rows.size(); i-- > 1 && intervals.size() < kMeasured;)
    if (rows[i].epoch == rows[i - 1].epoch && rows[i].at > rows[i - 1].at)
      intervals.push_back(to_seconds(rows[i].at - rows[i - 1].at));
  return median(std::move(intervals));
}

FleetFaults fleet_of(const Cluster& cluster, std::int64_t faults, Instant now) {
  FleetFaults fleet{faults, 0};
  for (const auto& [id, node] : cluster.nodes)
    fleet.node_seconds +=
        to_seconds(std::clamp(now - node.row.registered_at, Duration::zero(), kFaultWindow));
  return fleet;
}

// From its last checkpoint, or since it runs; of a running job with a limit only.
bool is_overdue(const ControlPlane& plane, const JobCheckpoints& found, Instant now) {
  const Job* live = plane.find_job(found.job.id);
  if (live == nullptr || live->spec->checkpoint.max_interval <= Duration::zero()) return false;
  const Attempt* attempt = plane.find_attempt({live->row.id, live->row.epoch});
  if (attempt == nullptr || attempt->row.state != AttemptState::running) return false;
  Instant last = attempt->row.running_at;
  for (const auto& c : found.checkpoints)
    if (c.epoch == live->row.epoch) last = std::max(last, c.at);
  return now - last > live->spec->checkpoint.max_interval;
}

std::string rough(double seconds) {
  char text[32];
  if (seconds < 120)
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  else if (seconds < 2 * 3600)
    std::snprintf(text, sizeof text, "%.0f min", seconds / 60);
  else if (seconds < 2 * 86400)
    std::snprintf(text, sizeof text, "%.1f h", seconds / 3600);
  else
    std::snprintf(text, sizeof text, "%.0f days", seconds / 86400);
  return text;
}

std::string advice_text(std::optional<double> interval, std::optional<double> cost, double mean,
                        double best) {
  const std::string fault = "a gang of this size meets a fault every " + rough(mean) + " or so";
  if (!cost)
    return fault +
           "; what saving costs is not known: write save_seconds into COMPLETE.json, or use "
           "tutti-checkpoint";
  std::string text = "saving takes " + rough(*cost) + " and " + fault + ": save about every " + rough(best);
  if (!interval) return text;
  text += ", now every " + rough(*interval);
  if (*interval > 2 * best) text += ", which is too seldom";
  if (*interval < best / 4) text += ", which is more often than pays";
  return text;
}

json::value number_or_null(std::optional<double> d) { return d ? json::value(*d) : json::value(nullptr); }

json::object advice_view(const ControlPlane& plane, const JobCheckpoints& found, Instant now) {
  const auto cost = measured_cost(found.checkpoints);
  const auto interval = measured_interval(found.checkpoints);
  const Duration mean = mean_time_to_fault(fleet_of(plane.cluster(), found.faults, now), found.job.nodes);
  const Duration best = best_interval(from_seconds(cost.value_or(0)), mean);
  std::optional<double> loss;
  if (cost && interval) loss = expected_loss(from_seconds(*interval), from_seconds(*cost), mean);
  return {{"text", advice_text(interval, cost, to_seconds(mean), to_seconds(best))},
          {"interval_seconds", number_or_null(interval)},
          {"cost_seconds", number_or_null(cost)},
          {"mean_time_to_fault_seconds", to_seconds(mean)},
          {"best_interval_seconds", cost ? json::value(to_seconds(best)) : json::value(nullptr)},
          {"expected_loss", number_or_null(loss)},
          {"overdue", is_overdue(plane, found, now)}};
}

json::object checkpoint_view(const CheckpointRow& row, Instant now) {
  return {{"step", row.step},
          {"path", row.path},
          {"bytes", row.bytes},
          {"shards", row.shards},
          {"epoch", row.epoch.value},
          {"at", instant_or_null(row.at)},
          {"age_seconds", std::max(to_seconds(now - row.at), 0.0)},
          {"state", name(row.state)},
          {"detail", row.detail},
          {"restored", row.restored},
          {"cost_seconds",
           row.cost > Duration::zero() ? json::value(to_seconds(row.cost)) : json::value(nullptr)},
          {"retired_at", instant_or_null(row.retired_at)},
          {"deleted_at", instant_or_null(row.deleted_at)}};
}

std::optional<JobCheckpoints> read(Reader& reader, JobId id, Instant since) {
  const auto job = reader.find_job(id);
  if (!job) return std::nullopt;
  return JobCheckpoints{job->row, reader.checkpoints(id), reader.count_serious_faults(since)};
}

void get_checkpoints(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto page = page_of(request);
  if (!page) return answer.fail(page.error());
  const JobId id = job_of(request);
  const Instant now = api->backend.now().wall;
  read_rows(
      api, answer, [id, now](Reader& reader) { return read(reader, id, now - kFaultWindow); },
      [api, answer, id, now, page = *page](const std::optional<JobCheckpoints>& found) {
        if (!found) return answer.fail(no_such_job(id));
        const ControlPlane* plane = api->backend.plane();
        if (plane == nullptr) return answer.fail(not_ready(api->backend));
        json::array checkpoints;
        std::int64_t bytes = 0;
        const auto& all = found->checkpoints;
        for (std::size_t i = page.begin; i < page.end(all.size()); ++i)
          checkpoints.push_back(checkpoint_view(all[i], now));
        for (const auto& row : all) {
          if (row.deleted_at == Instant{} && row.bytes <= INT64_MAX - bytes) bytes += row.bytes;
        }
        answer.json(200, json::object{{"checkpoints", std::move(checkpoints)},
                                      {"bytes", bytes},
                                      {"next_page_token", page.next_token(all.size())},
                                      {"advice", advice_view(*plane, *found, now)}});
      });
}

}  // namespace

void add_checkpoint_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/checkpoints", "checkpoints.list", Need::job_read, get_checkpoints);
}

}  // namespace tutti::api
