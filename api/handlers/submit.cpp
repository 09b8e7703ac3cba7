// POST /v1/jobs and POST /v1/jobs:batch. The hot path: body → spec → one commit → answer from memory.
// A replay (same Idempotency-Key, same body) is answered with the same bytes as the first time, so an answer
// says only what was fixed at the submission; for a replay it is rebuilt from the stored spec and time.
#include <algorithm>
#include <boost/json/monotonic_resource.hpp>
#include <boost/json/serialize.hpp>
#include <map>
#include <set>
#include <utility>

#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/spec_body.h"
#include "api/handlers/view.h"
#include "api/wire/job_spec_codec.h"
#include "api/wire/strict_json.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxBatch = 1000;
constexpr std::size_t kMaxKey = 256;

// ---------------------------------------------------------------- reading

/// Stored with the key, so it must never change: FNV-1a of 64 bits with a final mix.
std::uint64_t body_hash(std::string_view body, BodyKind kind) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  const auto add = [&h](unsigned char byte) { h = (h ^ byte) * 0x100000001b3ULL; };
  for (const char c : body) add(static_cast<unsigned char>(c));
  add(static_cast<unsigned char>(kind));
  return mix(h);
}

Result<std::string> idempotency_key(const http::Request& request) {
  const auto header = request.header("Idempotency-Key");
  if (!header) return std::string();
  const bool printable = std::ranges::all_of(*header, [](char c) { return c > 0x20 && c < 0x7F; });
  if (header->empty() || header->size() > kMaxKey || !printable)
    return bad_field("Idempotency-Key",
                     "a key has 1 to " + std::to_string(kMaxKey) + " printable characters without spaces");
  return std::string(*header);
}

// ---------------------------------------------------------------- answering

struct Submission {  // what the answer needs to know of it
  SpecPtr spec;
  std::string spec_json;
  std::string owner;
};

std::string first_body(JobId id, const Submission& s, Instant created_at) {
  unsigned char buffer[4096];
  json::monotonic_resource resource(buffer);
  return with_spec(submitted_view(id, s.owner, *s.spec, created_at, &resource), s.spec_json);
}

std::string replayed_body(const JobView& view, Now now) {
  const auto parsed = wire::parse_spec_json(view.spec_json, now);
  return with_spec(submitted_view(view.row.id, view.row.owner, parsed.spec, view.row.created_at),
                   view.spec_json);
}

/// The time of submission, if memory still has the job (it has, unless the same batch ended it).
std::optional<Instant> created_at(const Backend& backend, JobId id) {
  const ControlPlane* plane = backend.plane();
  const Job* job = plane == nullptr ? nullptr : plane->find_job(id);
  return job == nullptr ? std::nullopt : std::optional(job->row.created_at);
}

/// Said at once to who asks for what this cluster does not have.
std::string never_warning(const Backend& backend, JobId id) {
  const ControlPlane* plane = backend.plane();
  const auto* waiting = plane == nullptr ? nullptr : plane->planner().find_waiting(id);
  if (waiting == nullptr || plane->planner().could_ever(waiting->what.shape)) return {};
  for (const auto& reason : plane->explain(id, backend.now()).reasons)
    if (reason.code == "never" || reason.code == "no_nodes") return reason.text;
  return {};
}

void answer_created(const Answer& answer, JobId id, bool replayed, std::string body) {
  auto response = http::text(201, std::move(body), "application/json");
  response.headers.push_back({"Location", "/v1/jobs/" + to_string(id)});
  if (replayed) response.headers.push_back({"Idempotent-Replayed", "true"});
  answer.send(std::move(response));
}

void answer_from_rows(const ApiPtr& api, const Answer& answer, Submitted submitted) {
  read_rows(
      api, answer, [id = submitted.id](Reader& reader) { return reader.find_job(id); },
      [api, answer, submitted](std::optional<JobView> view) {
        if (!view) return answer.fail(no_such_job(submitted.id));
        answer_created(answer, submitted.id, submitted.replayed, replayed_body(*view, api->backend.now()));
      });
}

// Jobs that others depend on may be over: memory forgets those, the rows know them.
void submit_all(const ApiPtr& api, const Answer& answer, std::vector<SubmitRequest> requests,
                Backend::SubmitReply reply) {
  std::set<JobId> wanted;
  for (const auto& r : requests)
    for (const auto& d : r.spec->depends_on) wanted.insert(d.job);
  if (wanted.empty()) return api->backend.submit(std::move(requests), std::move(reply));
  read_rows(
      api, answer,
      [wanted](Reader& reader) {
        std::map<JobId, PastJob> past;
        for (const JobId id : wanted)
          if (const auto view = reader.find_job(id); view && is_terminal(view->row.state))
            past[id] = {view->row.state, view->row.ran > Duration::zero()};
        return past;
      },
      [api, requests = std::move(requests), reply = std::move(reply)](const std::map<JobId, PastJob>& past) {
        auto known = requests;
        for (auto& r : known) r.past = past;
        api->backend.submit(std::move(known), reply);
      });
}

// One job, or one for each task of its array.
std::vector<Submission> expand(JobSpec spec, const std::string& owner) {
  std::vector<Submission> out;
  const auto add = [&](JobSpec&& one) {
    Submission s;
    s.spec = std::make_shared<const JobSpec>(std::move(one));
    s.spec_json = wire::encode_spec(*s.spec);
    s.owner = owner;
    out.push_back(std::move(s));
  };
  spec.array_task.reset();  // of the job it was copied from, if it was
  const auto plan = std::exchange(spec.array, std::nullopt);
  if (!plan) {
    add(std::move(spec));
    return out;
  }
  for (std::size_t i = 0; i < plan->tasks.size(); ++i) {
    const auto& task = plan->tasks[i];
    JobSpec one = spec;
    one.array_task = ArrayTask{.index = task.index,
                               .position = static_cast<int>(i),
                               .tasks = static_cast<int>(plan->tasks.size()),
                               .max_parallel = plan->max_parallel};
    for (const char* variable : {"ARRAY_INDEX", "TUTTI_ARRAY_INDEX"})
      one.env.emplace(variable, std::to_string(task.index));
    for (const auto& [variable, value] : task.variables) one.env.emplace(variable, value);
    add(std::move(one));
  }
  return out;
}

void submit_job(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto key = idempotency_key(request);
  if (!key) return answer.fail(key.error());
  auto spec = read_spec(api, request, answer);
  if (!spec) return;
  const auto hash = body_hash(request.body, kind_of(request.header("Content-Type").value_or("")));
  auto tasks = expand(std::move(*spec), identity_of(request).owner);
  std::vector<SubmitRequest> requests;
  for (std::size_t i = 0; i < tasks.size(); ++i)
    requests.push_back(
        SubmitRequest{.spec = tasks[i].spec,
                      .spec_json = tasks[i].spec_json,
                      .owner = tasks[i].owner,
                      .idempotency_key = key->empty() || i == 0 ? *key : *key + "/" + std::to_string(i),
                      .body_hash = hash});
  submit_all(
      api, answer, std::move(requests),
      [api, answer, submission = std::move(tasks.front())](const std::vector<Result<Submitted>>& results) {
        const auto& result = results.front();
        if (!result) return answer.fail(result.error());
        if (const auto warning = never_warning(api->backend, result->id); !warning.empty())
          answer.header("Tutti-Warning", warning);
        const auto at = result->replayed ? std::nullopt : created_at(api->backend, result->id);
        if (!at) return answer_from_rows(api, answer, *result);
        answer_created(answer, result->id, false, first_body(result->id, submission, *at));
      });
}

// ---------------------------------------------------------------- batch

/// One batch on its way: an item is a problem, or a body, or still to be read from rows.
struct BatchAnswer {
  std::vector<std::string> results;                          // JSON of each, in order
  std::vector<std::size_t> asked;                            // items sent to the backend
  std::vector<Submission> submissions;                       // of `asked`
  std::vector<std::pair<std::size_t, Submitted>> from_rows;  // items that memory cannot answer

  void fail(std::size_t item, const http::Problem& problem) {
    results[item] = "{\"status\":" + std::to_string(problem.status) +
                    ",\"problem\":" + json::serialize(problem_json(problem)) + "}";
  }
  void created(std::size_t item, bool replayed, std::string_view body) {
    results[item] = "{\"status\":201,\"replayed\":" + std::string(replayed ? "true" : "false") + ",\"job\":";
    results[item].append(body).append("}");
  }
  std::string body() const {
    std::string out = "{\"results\":[";
    for (const auto& result : results) out.append(out.back() == '[' ? "" : ",").append(result);
    return out += "]}";
  }
};
using BatchPtr = std::shared_ptr<BatchAnswer>;

void finish_batch(const ApiPtr& api, const Answer& answer, const BatchPtr& batch) {
  if (batch->from_rows.empty()) return answer.send(http::text(200, batch->body(), "application/json"));
  read_rows(
      api, answer,
      [batch](Reader& reader) {
        std::vector<std::optional<JobView>> views;
        for (const auto& [item, submitted] : batch->from_rows) views.push_back(reader.find_job(submitted.id));
        return views;
      },
      [api, answer, batch](const std::vector<std::optional<JobView>>& views) {
        for (std::size_t i = 0; i < views.size(); ++i) {
          const auto& [item, submitted] = batch->from_rows[i];
          if (views[i])
            batch->created(item, submitted.replayed, replayed_body(*views[i], api->backend.now()));
          else
            batch->fail(item, problem_of(no_such_job(submitted.id)));
        }
        answer.send(http::text(200, batch->body(), "application/json"));
      });
}

void on_batch_submitted(const ApiPtr& api, const Answer& answer, const BatchPtr& batch,
                        const std::vector<Result<Submitted>>& results) {
  // Nothing has happened at all: one honest 503 instead of a thousand small ones.
  const auto refused = [](const auto& r) { return !r && r.error().code == Errc::unavailable; };
  if (!results.empty() && std::ranges::all_of(results, refused)) return answer.fail(results.front().error());
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto item = batch->asked[i];
    if (!results[i]) {
      batch->fail(item, problem_of(results[i].error()));
      continue;
    }
    const auto at = results[i]->replayed ? std::nullopt : created_at(api->backend, results[i]->id);
    if (at)
      batch->created(item, false, first_body(results[i]->id, batch->submissions[i], *at));
    else
      batch->from_rows.emplace_back(item, *results[i]);
  }
  finish_batch(api, answer, batch);
}

/// The list of specs in {"jobs": […]}; answers by itself when there is none.
const json::array* batch_items(const json::value& body, const Answer& answer) {
  const auto* object = body.if_object();
  if (object == nullptr) {
    answer.fail(bad_field("body", "the body must be an object", "{\"jobs\": [spec, …]}"));
    return nullptr;
  }
  for (const auto& member : *object) {
    if (member.key() == "jobs") continue;
    answer.fail(bad_field(member.key(), "unknown field", "only 'jobs' is known"));
    return nullptr;
  }
  const auto* jobs = object->if_contains("jobs");
  const auto* items = jobs == nullptr ? nullptr : jobs->if_array();
  if (items == nullptr) {
    answer.fail(bad_field("jobs", "must be a list of job specs"));
    return nullptr;
  }
  if (items->size() > kMaxBatch) {
    answer.fail(bad_field("jobs", "must have at most " + std::to_string(kMaxBatch) + " jobs, not " +
                                      std::to_string(items->size())));
    return nullptr;
  }
  return items;
}

void submit_batch(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto content_type = request.header("Content-Type").value_or("");
  if (kind_of(content_type) != BodyKind::json)
    return answer.send(unsupported_type(content_type, "application/json"));
  const auto key = idempotency_key(request);
  if (!key) return answer.fail(key.error());
  json::value body;
  if (auto error = wire::parse_strict_json(request.body, body))
    return answer.send(malformed("JSON", std::move(error->message), error->line, error->column));
  const auto* items = batch_items(body, answer);
  if (items == nullptr) return;

  auto batch = std::make_shared<BatchAnswer>();
  batch->results.resize(items->size());
  std::vector<SubmitRequest> requests;
  for (std::size_t i = 0; i < items->size(); ++i) {
    auto parse = wire::parse_spec((*items)[i], api->backend.now());
    if (parse.ok() && parse.spec.array)
      parse.problems.push_back({"array", "an array is submitted by itself", "POST /v1/jobs"});
    parse.spec.array_task.reset();
    if (!parse.ok()) {
      batch->fail(i, spec_problem(parse));
      continue;
    }
    Submission submission;
    submission.spec = std::make_shared<const JobSpec>(std::move(parse.spec));
    submission.spec_json = wire::encode_spec(*submission.spec);
    submission.owner = identity_of(request).owner;
    requests.push_back(SubmitRequest{.spec = submission.spec,
                                     .spec_json = submission.spec_json,
                                     .owner = submission.owner,
                                     .idempotency_key = key->empty() ? "" : *key + "/" + std::to_string(i),
                                     .body_hash = body_hash(json::serialize((*items)[i]), BodyKind::json)});
    batch->asked.push_back(i);
    batch->submissions.push_back(std::move(submission));
  }
  if (requests.empty()) return finish_batch(api, answer, batch);
  submit_all(api, answer, std::move(requests),
             [api, answer, batch](const std::vector<Result<Submitted>>& results) {
               on_batch_submitted(api, answer, batch, results);
             });
}

}  // namespace

void add_submit_routes(const Routes& routes) {
  routes.post("/v1/jobs", "jobs.submit", submit_job);
  routes.post("/v1/jobs:batch", "jobs.submit_batch", submit_batch);
}

}  // namespace tutti::api
