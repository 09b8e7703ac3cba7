// POST /v1/jobs/{id}:cancel | :hold | :release | :requeue: what people do to a job. Each answers with the job
// as it is after the commit; with array=1 they act on all tasks of its array, and answer with how many.
#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"

namespace tutti::api {
namespace {

// What is done to one job, on the control thread.
using Act = Result<JobId> (*)(ControlPlane&, Now, JobId, const std::string& who, const std::string& reason);

struct ArrayOutcome {
  JobId array;
  int changed = 0, refused = 0;
  std::optional<Error> first_refusal;
};

// Every task that is not over; an error only if nothing at all was changed.
Result<JobId> act_on_tasks(ControlPlane& plane, const Identity& who, JobId task_of, ArrayOutcome& out,
                           const std::function<Result<JobId>(JobId)>& act) {
  const auto tasks = plane.array_tasks(task_of);
  if (tasks.empty())
    return Error{.code = Errc::illegal_transition,
                 .message = "job " + to_string(task_of) + " is not of an array with unfinished tasks",
                 .hint = "name the array by its first task; without array=1 one job is meant",
                 .field = "array"};
  out.array = JobId(tasks.front().value - plane.find_job(tasks.front())->spec->array_task->position);
  for (const JobId task : tasks) {
    const Job* live = plane.find_job(task);
    if (live == nullptr) continue;  // it ended with one before it
    if (!may_change(who, live->row.project, live->row.owner)) continue;
    const auto done = act(task);
    ++(done ? out.changed : out.refused);
    if (!done && !out.first_refusal) out.first_refusal = done.error();
  }
  if (out.changed == 0 && out.first_refusal) return *out.first_refusal;
  return out.array;
}

void act_on_array(const ApiPtr& api, const Answer& answer, const Identity& who, JobId id,
                  std::function<Result<JobId>(ControlPlane&, Now, JobId)> act) {
  const auto first = [id](Reader& reader) { return array_of(reader, id).first; };
  read_rows(api, answer, first, [api, answer, who, act = std::move(act)](JobId array) {
    auto outcome = std::make_shared<ArrayOutcome>();
    api->backend.change_jobs(
        [=](ControlPlane& plane, Now now) {
          return act_on_tasks(plane, who, array, *outcome, [&](JobId task) { return act(plane, now, task); });
        },
        [=](const Result<JobId>& done) {
          if (!done) return answer.fail(done.error());
          answer.json(200, boost::json::object{{"array", outcome->array.value},
                                               {"changed", outcome->changed},
                                               {"refused", outcome->refused}});
        });
  });
}

void act_on_job(const ApiPtr& api, const http::Request& request, const Answer& answer, Act act) {
  auto reason = read_reason(request, answer, false);
  if (!reason) return;
  const auto all = int_param(request, "array", 0, 0, 1);
  if (!all) return answer.fail(all.error());
  const auto& who = identity_of(request).owner;
  const auto one = [act, who, reason = *reason](ControlPlane& plane, Now now, JobId id) {
    return act(plane, now, id, who, reason);
  };
  const JobId id = job_of(request);
  const bool array = *all == 1;
  if (array) return act_on_array(api, answer, identity_of(request), id, one);
  api->backend.change_jobs([one, id](ControlPlane& plane, Now now) { return one(plane, now, id); },
                           [api, answer](const Result<JobId>& done) {
                             if (!done) return answer.fail(done.error());
                             answer_with_job(api, answer, *done);
                           });
}

void cancel(const ApiPtr& api, const http::Request& request, Answer answer) {
  act_on_job(api, request, answer,
             [](ControlPlane& p, Now now, JobId id, const std::string& who, const std::string& reason) {
               return p.on_cancel(now, id, who_and_why(who, reason));
             });
}
void hold(const ApiPtr& api, const http::Request& request, Answer answer) {
  act_on_job(api, request, answer,
             [](ControlPlane& p, Now now, JobId id, const std::string& who, const std::string& reason) {
               return p.on_hold(now, id, reason, who);
             });
}
void release(const ApiPtr& api, const http::Request& request, Answer answer) {
  act_on_job(api, request, answer,
             [](ControlPlane& p, Now now, JobId id, const std::string& who, const std::string& reason) {
               return p.on_release(now, id, who_and_why(who, reason));
             });
}
void requeue(const ApiPtr& api, const http::Request& request, Answer answer) {
  act_on_job(api, request, answer,
             [](ControlPlane& p, Now now, JobId id, const std::string& who, const std::string& reason) {
               return p.on_requeue(now, id, who_and_why(who, reason));
             });
}

}  // namespace

void add_job_action_routes(const Routes& routes) {
  routes.post("/v1/jobs/{id}:cancel", "jobs.cancel", Need::job_change, cancel);
  routes.post("/v1/jobs/{id}:hold", "jobs.hold", Need::job_change, hold);
  routes.post("/v1/jobs/{id}:release", "jobs.release", Need::job_change, release);
  routes.post("/v1/jobs/{id}:requeue", "jobs.requeue", Need::job_change, requeue);
}

}  // namespace tutti::api
