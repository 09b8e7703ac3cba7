// POST /v1/jobs/{id}:cancel | :hold | :release | :requeue: what people do to a job. Each answers with the job
// as it is after the commit.
#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"

namespace tutti::api {
namespace {

/// `act` sends the request to the backend.
using Act = void (*)(Backend&, JobId, std::string who, std::string reason, Reply<JobId>);

void act_on_job(const ApiPtr& api, const http::Request& request, const Answer& answer, Act act) {
  auto reason = read_reason(request, answer, false);
  if (!reason) return;
  const auto& who = identity_of(request).owner;
  resolve_job(api, answer, request.param("id"), [api, answer, act, who, reason = *reason](JobId id) {
    act(api->backend, id, who, reason, [api, answer](Result<JobId> done) {
      if (!done) return answer.fail(done.error());
      answer_with_job(api, answer, *done);
    });
  });
}

std::string who_and_why(std::string who, const std::string& reason) {
  return reason.empty() ? who : who + ": " + reason;
}

void cancel(const ApiPtr& api, const http::Request& request, Answer answer) {
  act_on_job(api, request, answer,
             [](Backend& b, JobId id, std::string who, std::string reason, Reply<JobId> reply) {
               b.cancel(id, who_and_why(std::move(who), reason), std::move(reply));
             });
}
void hold(const ApiPtr& api, const http::Request& request, Answer answer) {
  act_on_job(api, request, answer,
             [](Backend& b, JobId id, std::string, std::string reason, Reply<JobId> reply) {
               b.hold(id, std::move(reason), std::move(reply));
             });
}
void release(const ApiPtr& api, const http::Request& request, Answer answer) {
  act_on_job(api, request, answer, [](Backend& b, JobId id, std::string, std::string, Reply<JobId> reply) {
    b.release(id, std::move(reply));
  });
}
void requeue(const ApiPtr& api, const http::Request& request, Answer answer) {
  act_on_job(api, request, answer,
             [](Backend& b, JobId id, std::string who, std::string reason, Reply<JobId> reply) {
               b.requeue(id, who_and_why(std::move(who), reason), std::move(reply));
             });
}

}  // namespace

void add_job_action_routes(const Routes& routes) {
  routes.post("/v1/jobs/{id}:cancel", "jobs.cancel", cancel);
  routes.post("/v1/jobs/{id}:hold", "jobs.hold", hold);
  routes.post("/v1/jobs/{id}:release", "jobs.release", release);
  routes.post("/v1/jobs/{id}:requeue", "jobs.requeue", requeue);
}

}  // namespace tutti::api
