// POST /v1/jobs:simulate and POST /v1/jobs/{id}:simulate: what would become of a job, and of others because
// of it. Nothing is written; the answer is the planner's own, on a copy of its state.
#include "api/handlers/answer.h"
#include "api/handlers/change_body.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/spec_body.h"
#include "api/handlers/view.h"
#include "api/wire/strict_json.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

/// Jobs that the caller may not see are only counted.
json::object what_if_view(const WhatIf& w, const ControlPlane& plane, const Identity& who) {
  const auto visible = visible_to(who);
  std::size_t hidden = 0;
  json::object out = explanation_view(seen_by(visible, plane, w.why, &hidden));
  if (!w.why.job) out["job_id"] = nullptr;
  out["starts_now"] = w.starts_now;
  json::array nodes, preempts, others;
  for (const auto& node : w.nodes) nodes.emplace_back(node);
  for (const JobId id : w.preempts) {
    if (is_visible(visible, plane, id))
      preempts.emplace_back(id.value);
    else
      ++hidden;
  }
  for (const auto& shift : w.others) {
    if (!is_visible(visible, plane, shift.job)) {
      ++hidden;
      continue;
    }
    others.push_back(json::object{{"job_id", shift.job.value},
                                  {"before", instant_or_null(shift.before)},
                                  {"after", instant_or_null(shift.after)}});
  }
  out["hidden"] = hidden;
  out["nodes"] = std::move(nodes);
  out["preempts"] = std::move(preempts);
  out["others"] = std::move(others);
  out["eta"] = eta_view(w.eta);
  return out;
}

void simulate_job(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto spec = read_spec(api, request, answer);
  if (!spec) return;
  if (const auto error = refuses_submission(identity_of(request), *spec)) return answer.fail(*error);
  const auto result = plane->simulate(*spec, identity_of(request).owner, api->backend.now());
  if (!result) return answer.fail(result.error());
  answer.json(200, what_if_view(*result, *plane, identity_of(request)));
}

void simulate_change(const ApiPtr& api, const http::Request& request, Answer answer) {
  json::value body;
  if (auto error = wire::parse_strict_json(request.body, body))
    return answer.send(malformed("JSON", std::move(error->message), error->line, error->column));
  const auto change = read_change(body, api->backend.now(), true);
  if (!change) return answer.fail(change.error());
  const JobId id = job_of(request);
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const Job* job = plane->find_job(id);
  if (job != nullptr && change->priority)
    if (const auto error = refuses_priority(identity_of(request), job->row.project, *change->priority))
      return answer.fail(*error);
  const auto result = plane->simulate_change(id, *change, api->backend.now());
  if (!result) return answer.fail(result.error());
  answer.json(200, what_if_view(*result, *plane, identity_of(request)));
}

}  // namespace

void add_simulate_routes(const Routes& routes) {
  routes.post("/v1/jobs:simulate", "jobs.simulate", Need::submit, simulate_job);
  routes.post("/v1/jobs/{id}:simulate", "jobs.simulate_change", Need::job_read, simulate_change);
}

}  // namespace tutti::api
