// POST /v1/jobs/{id}:cancel | :hold | :release | :requeue | :signal: what people do to a job. Each answers
// with the job as it is after the commit; with array=1 they act on all tasks of its array, and answer with
// how many.
#include <algorithm>
#include <array>

#include "api/handlers/body.h"
#include "api/handlers/job_lookup.h"
#include "api/wire/job_spec_codec.h"

namespace tutti::api {
namespace {

// What is done to one job, on the control thread.
using Act = Result<JobId> (*)(ControlPlane&, Now, JobId, const std::string& who, const std::string& reason);
using Bound = std::function<Result<JobId>(ControlPlane&, Now, JobId)>;

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

void act_on_array(const ApiPtr& api, const Answer& answer, const Identity& who, JobId id, Bound act) {
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

void act_on_one_or_all(const ApiPtr& api, const http::Request& request, const Answer& answer,
                       const Bound& one) {
  const auto all = int_param(request, "array", 0, 0, 1);
  if (!all) return answer.fail(all.error());
  const JobId id = job_of(request);
  const bool array = *all == 1;
  if (array) return act_on_array(api, answer, identity_of(request), id, one);
  api->backend.change_jobs([one, id](ControlPlane& plane, Now now) { return one(plane, now, id); },
                           [api, answer](const Result<JobId>& done) {
                             if (!done) return answer.fail(done.error());
                             answer_with_job(api, answer, *done);
                           });
}

void act_on_job(const ApiPtr& api, const http::Request& request, const Answer& answer, Act act) {
  auto reason = read_reason(request, answer, false);
  if (!reason) return;
  act_on_one_or_all(api, request, answer,
                    [act, who = identity_of(request).owner, reason = *reason](
                        ControlPlane& plane, Now now, JobId id) { return act(plane, now, id, who, reason); });
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

struct SignalBody {
  std::string signal, reason;
};

void read_signal(wire::SpecReader& r, const wire::Path& at, const boost::json::value& v, SignalBody& into) {
  auto name = r.string(at, v, 16);
  if (!name) return;
  if (name->starts_with("SIG")) name->remove_prefix(3);
  const auto known = wire::signal_names();
  if (*name == "KILL")
    return r.problem(at, "KILL ends the attempt, and would count as its own failure",
                     "to end a job, cancel it");
  if (std::ranges::find(known, *name) == known.end()) {
    std::string names;
    for (const auto word : known)
      if (word != "KILL") names += (names.empty() ? "" : ", ") + std::string(word);
    return r.problem(at, "unknown signal '" + std::string(*name) + "'", "known: " + names);
  }
  into.signal = std::string(*name);
}

constexpr auto kSignalFields = std::to_array<wire::Field<SignalBody>>({
    {"signal", read_signal},
    {"reason", read_text<&SignalBody::reason, 1000>},
});

void signal(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto body = read_body(api, request, answer, kSignalFields);
  if (!body) return;
  if (body->signal.empty())
    return answer.fail(bad_field("signal", "which signal is missing", "like {\"signal\": \"USR1\"}"));
  act_on_one_or_all(
      api, request, answer,
      [signal = body->signal, who = who_and_why(identity_of(request).owner, body->reason)](
          ControlPlane& plane, Now now, JobId id) { return plane.on_signal(now, id, signal, who); });
}

}  // namespace

void add_job_action_routes(const Routes& routes) {
  routes.post("/v1/jobs/{id}:cancel", "jobs.cancel", Need::job_change, cancel);
  routes.post("/v1/jobs/{id}:hold", "jobs.hold", Need::job_change, hold);
  routes.post("/v1/jobs/{id}:release", "jobs.release", Need::job_change, release);
  routes.post("/v1/jobs/{id}:requeue", "jobs.requeue", Need::job_change, requeue);
  routes.post("/v1/jobs/{id}:signal", "jobs.signal", Need::job_change, signal);
}

}  // namespace tutti::api
