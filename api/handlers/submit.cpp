// POST /v1/jobs and POST /v1/jobs:batch. The hot path: body → spec → one commit → answer from memory.
// A replay (same Idempotency-Key, same body) is answered with the same bytes as the first time, so an answer
// says only what was fixed at the submission; for a replay it is rebuilt from the stored spec and time.
#include <algorithm>
#include <boost/json/monotonic_resource.hpp>
#include <boost/json/serialize.hpp>
#include <map>
#include <utility>

#include "api/handlers/answer.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/limits.h"
#include "api/handlers/secret_check.h"
#include "api/handlers/spec_body.h"
#include "api/handlers/submit_requests.h"
#include "api/handlers/tracing.h"
#include "api/handlers/view.h"
#include "api/handlers/webhook_service.h"
#include "api/wire/job_spec_codec.h"
#include "api/wire/strict_json.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxBatch = 1000;
constexpr std::size_t kMaxKey = 256;
constexpr char kItemMark = ' ';  // between the key of a batch and the item: no key has one

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

std::string first_body(JobId id, const std::string& owner, const JobSpec& spec, const std::string& spec_json,
                       Instant created_at, JobState state) {
  unsigned char buffer[4096];
  json::monotonic_resource resource(buffer);
  return with_spec(submitted_view(id, owner, spec, created_at, state, &resource), spec_json);
}

std::string replayed_body(const JobView& view, Now now) {
  const auto& submitted = view.submitted_json.empty() ? view.spec_json : view.submitted_json;
  const auto parsed = wire::parse_spec_json(submitted, now);
  return with_spec(
      submitted_view(view.row.id, view.row.owner, parsed.spec, view.row.created_at, view.initial_state),
      submitted);
}

/// From memory, which has the job unless this is a replay or the same batch ended it.
std::optional<std::string> body_from_memory(const Backend& backend, const SubmitRequest& request,
                                            const Submitted& submitted) {
  const ControlPlane* plane = backend.plane();
  const Job* job = plane == nullptr || submitted.replayed ? nullptr : plane->find_job(submitted.id);
  if (job == nullptr) return std::nullopt;
  const bool as_sent = request.after.empty();  // else it now has the ids of those it waits for
  return first_body(submitted.id, request.owner, *job->spec,
                    as_sent ? request.spec_json : wire::encode_spec(*job->spec), job->row.created_at,
                    submitted.state);
}

/// Said at once to who asks for what this cluster does not have.
std::string never_warning(const Backend& backend, const Submitted& submitted) {
  const ControlPlane* plane = backend.plane();
  if (!submitted.never || plane == nullptr) return {};
  return plane->never_starts(submitted.id, backend.now()).value_or("");
}

/// Of those that the job wants to tell: which are not there. No error: an operator may add them yet.
std::string notify_warning(const ApiPtr& api, const JobSpec& spec) {
  std::string text;
  const auto* known = api->services.webhooks == nullptr ? nullptr : api->services.webhooks->webhooks();
  for (const auto& notify : spec.notify) {
    std::string why;
    const auto hook = known == nullptr ? decltype(known->end()){} : known->find(notify.webhook);
    if (known == nullptr)
      why = "is not known at the moment";
    else if (hook == known->end())
      why = "does not exist: nobody is told";
    else if (!hook->second.enabled)
      why = "is not enabled: nobody is told";
    else if (const auto& projects = hook->second.projects;
             !projects.empty() && std::ranges::find(projects, spec.project) == projects.end())
      why = "is not told of project '" + spec.project + "'";
    if (!why.empty()) text += (text.empty() ? "" : "; ") + ("webhook '" + notify.webhook + "' " + why);
  }
  return text;
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

/// False: the project has submitted too much of late, and the answer says so.
bool within_limit(const ApiPtr& api, const std::string& project, const Answer& answer) {
  if (api->services.limits == nullptr) return true;
  auto told = api->services.limits->submission(project);
  for (auto& header : told.headers) answer.header(std::move(header.name), std::move(header.value));
  if (told.problem) answer.send(http::problem(*told.problem));
  return !told.problem;
}

/// Of the request, for its trace.
struct Traced {
  std::string traceparent;
  Instant arrived;
};

void submit_checked(const ApiPtr& api, const Answer& answer, const std::optional<Visible>& visible,
                    std::vector<SubmitItem> items, const Traced& traced) {
  prepare_submissions(api, answer, std::move(items), visible, [api, answer, traced](Submissions all) {
    if (!all.of_item.front()) return answer.fail(all.of_item.front().error());
    const SubmitRequest first = all.requests.front();
    api->backend.submit(std::move(all.requests),
                        [api, answer, first, traced](const std::vector<Result<Submitted>>& results) {
                          const auto& result = results.front();
                          if (!result) return answer.fail(result.error());
                          if (api->services.tracing != nullptr && !result->replayed)
                            api->services.tracing->submitted(traced.traceparent, traced.arrived, result->id);
                          auto warning = never_warning(api->backend, *result);
                          if (const auto more = notify_warning(api, *first.spec); !more.empty())
                            warning += (warning.empty() ? "" : "; ") + more;
                          if (!warning.empty()) answer.header("Tutti-Warning", warning);
                          const auto body = body_from_memory(api->backend, first, *result);
                          if (!body) return answer_from_rows(api, answer, *result);
                          answer_created(answer, result->id, false, *body);
                        });
  });
}

void submit_job(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto key = idempotency_key(request);
  if (!key) return answer.fail(key.error());
  auto spec = read_spec(api, request, answer);
  if (!spec) return;
  if (const auto error = refuses_submission(identity_of(request), *spec)) return answer.fail(*error);
  if (!within_limit(api, spec->project, answer)) return;
  const Traced traced{std::string(request.header("traceparent").value_or("")), api->backend.now().wall};
  std::vector<SubmitItem> items;
  items.push_back(
      {.spec = *std::move(spec),
       .owner = identity_of(request).owner,
       .idempotency_key = *key,
       .body_hash = body_hash(request.body, kind_of(request.header("Content-Type").value_or("")))});
  check_secrets(api, answer, std::move(items),
                [api, answer, traced, visible = visible_to(identity_of(request))](
                    std::vector<SubmitItem> checked, const std::vector<std::optional<Error>>& refused) {
                  if (refused.front()) return answer.fail(*refused.front());
                  submit_checked(api, answer, visible, std::move(checked), traced);
                });
}

// ---------------------------------------------------------------- batch

/// One batch on its way: an item is a problem, or a body, or still to be read from rows.
struct BatchAnswer {
  std::vector<std::string> results;                          // JSON of each, in order
  std::vector<std::pair<std::size_t, SubmitRequest>> asked;  // items sent to the backend, first tasks only
  std::vector<std::size_t> requests;                         // their places among all that was sent
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
  // Nothing has happened at all, or nobody knows: one honest 503 or 504 instead of a thousand small ones.
  for (const Errc all : {Errc::unavailable, Errc::in_doubt}) {
    const auto refused = [all](const auto& r) { return !r && r.error().code == all; };
    if (!results.empty() && std::ranges::all_of(results, refused))
      return answer.fail(results.front().error());
  }
  for (std::size_t i = 0; i < batch->asked.size(); ++i) {
    const auto& [item, request] = batch->asked[i];
    const auto& result = results[batch->requests[i]];
    if (!result)
      batch->fail(item, problem_of(result.error()));
    else if (const auto body = body_from_memory(api->backend, request, *result))
      batch->created(item, false, *body);
    else
      batch->from_rows.emplace_back(item, *result);
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

/// Takes out those whose project has submitted too much of late: each is a problem of its own, unless that is
/// all there is. False: it is, and the answer says so.
bool keep_within_limit(const ApiPtr& api, const Answer& answer, BatchAnswer& batch,
                       std::vector<SubmitItem>& items, std::vector<std::size_t>& places) {
  if (api->services.limits == nullptr) return true;
  std::map<std::string, std::int64_t> counts;
  for (const auto& item : items) ++counts[item.spec.project];
  std::map<std::string, http::Problem> refused;
  http::Headers headers;  // of the first that is refused, or of any: an answer tells of one limit
  for (const auto& [project, count] : counts) {
    auto told = api->services.limits->submission(project, count);
    if (headers.empty() || (told.problem && refused.empty())) headers = std::move(told.headers);
    if (told.problem) refused.emplace(project, *std::move(told.problem));
  }
  for (auto& header : headers) answer.header(std::move(header.name), std::move(header.value));
  if (refused.empty()) return true;
  if (refused.size() == counts.size() && items.size() == batch.results.size()) {
    answer.send(http::problem(refused.begin()->second));
    return false;
  }
  std::vector<SubmitItem> kept;
  std::vector<std::size_t> kept_places;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (const auto problem = refused.find(items[i].spec.project); problem != refused.end()) {
      batch.fail(places[i], problem->second);
      continue;
    }
    kept.push_back(std::move(items[i]));
    kept_places.push_back(places[i]);
  }
  items = std::move(kept);
  places = std::move(kept_places);
  return true;
}

void submit_batch_checked(const ApiPtr& api, const Answer& answer, const BatchPtr& batch,
                          const std::optional<Visible>& visible, std::vector<SubmitItem> items,
                          std::vector<std::size_t> places) {
  prepare_submissions(api, answer, std::move(items), visible,
                      [api, answer, batch, places = std::move(places)](Submissions all) {
                        for (std::size_t i = 0; i < places.size(); ++i) {
                          if (!all.of_item[i]) {
                            batch->fail(places[i], problem_of(all.of_item[i].error()));
                            continue;
                          }
                          batch->asked.emplace_back(places[i], all.requests[*all.of_item[i]]);
                          batch->requests.push_back(*all.of_item[i]);
                        }
                        if (all.requests.empty()) return finish_batch(api, answer, batch);
                        api->backend.submit(
                            std::move(all.requests),
                            [api, answer, batch](const std::vector<Result<Submitted>>& results) {
                              on_batch_submitted(api, answer, batch, results);
                            });
                      });
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
  std::vector<SubmitItem> good;
  std::vector<std::size_t> places;  // of those in the body
  for (std::size_t i = 0; i < items->size(); ++i) {
    auto parse = wire::parse_spec((*items)[i], api->backend.now());
    if (!parse.ok()) {
      batch->fail(i, spec_problem(parse));
      continue;
    }
    if (const auto error = refuses_submission(identity_of(request), parse.spec)) {
      batch->fail(i, problem_of(*error));
      continue;
    }
    good.push_back({.spec = std::move(parse.spec),
                    .owner = identity_of(request).owner,
                    .idempotency_key = key->empty() ? "" : *key + kItemMark + std::to_string(i),
                    .body_hash = body_hash(json::serialize((*items)[i]), BodyKind::json)});
    places.push_back(i);
  }
  if (!keep_within_limit(api, answer, *batch, good, places)) return;
  check_secrets(api, answer, std::move(good),
                [api, answer, batch, places = std::move(places), visible = visible_to(identity_of(request))](
                    std::vector<SubmitItem> checked, const std::vector<std::optional<Error>>& refused) {
                  std::vector<SubmitItem> left;
                  std::vector<std::size_t> places_left;
                  for (std::size_t i = 0; i < checked.size(); ++i) {
                    if (refused[i]) {
                      batch->fail(places[i], problem_of(*refused[i]));
                      continue;
                    }
                    left.push_back(std::move(checked[i]));
                    places_left.push_back(places[i]);
                  }
                  submit_batch_checked(api, answer, batch, visible, std::move(left), std::move(places_left));
                });
}

}  // namespace

void add_submit_routes(const Routes& routes) {
  routes.post("/v1/jobs", "jobs.submit", Need::submit, submit_job);
  routes.post("/v1/jobs:batch", "jobs.submit_batch", Need::submit, submit_batch);
}

}  // namespace tutti::api
