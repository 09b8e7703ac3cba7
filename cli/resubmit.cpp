// resubmit: a job once more, as a new one: its spec as it was, with what is to be different.
#include <boost/json/serialize.hpp>
#include <ostream>

#include "cli/bulk.h"
#include "cli/documents.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

// The spec as it can be submitted: without what the server has written into it.
json::value submittable(const json::object& job, const std::string& id) {
  json::object spec = object_of(job, "spec");
  if (spec.empty()) throw Failure(Exit::failed, "the server does not show the spec of job " + id);
  spec.erase("scheduled_by");
  if (const auto* array = spec.if_contains("array"); array != nullptr && array->is_object()) {
    // One task of an array, which keeps its index.
    const std::string index = text_of(array->get_object(), "index");
    if (index.empty())
      spec.erase("array");
    else
      spec["array"] = json::object{{"range", index}};
  }
  // A begin that is over says nothing any more; a deadline that is over has to be said anew.
  spec.erase("begin_time");
  return spec;
}

}  // namespace

int run_resubmit(Session& session, const ResubmitOptions& options) {
  const std::vector<std::string> ids = expand_ids(session, options.ids);
  if (ids.size() > 1 && (!options.key.empty() || options.wait || options.follow))
    throw Failure(Exit::usage, "resubmit: --key, --wait and --follow go with one job");
  SubmitOptions submit;
  submit.key = options.key;
  submit.wait = options.wait;
  submit.follow = options.follow;
  submit.dry_run = options.dry_run;
  int job_status = 0;
  const int status = each_job(session, ids, [&](const std::string& id) {
    json::value tree = submittable(as_object(session.client.get("/v1/jobs/" + id).tree), id);
    for (const auto& assignment : options.edits.set) apply_set(tree, assignment);
    for (const auto& assignment : options.edits.env) apply_env(tree, assignment);
    if (!options.edits.name.empty()) tree.get_object()["name"] = options.edits.name;
    job_status = submit_spec(session, {json::serialize(tree), "application/json"}, submit);
  });
  return status != 0 ? status : job_status;
}

}  // namespace tutti::cli
