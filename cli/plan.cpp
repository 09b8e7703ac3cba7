// plan: what would become of a job that is not submitted, or of a queued one if it were changed.
#include <algorithm>
#include <ostream>

#include "cli/documents.h"
#include "cli/job_details.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string names(const json::array& items) {
  std::string out;
  constexpr std::size_t kShown = 16;
  for (std::size_t i = 0; i < std::min(items.size(), kShown); ++i)
    out += (i == 0 ? "" : ", ") + clean(scalar_text(items[i]));
  if (items.size() > kShown) out += ", … (" + std::to_string(items.size()) + ")";
  return out;
}

std::string plan_text(const json::object& body, const Look& look) {
  std::string text;
  const json::array& preempts = array_of(body, "preempts");
  if (flag_of(body, "starts_now"))
    text += paint("it would start now", Tone::good, look) + " on " + names(array_of(body, "nodes")) + "\n";
  else if (!preempts.empty())
    text += "it would start as soon as these have given way: jobs " + names(preempts) + "\n";
  else
    text += explain_text(body, look, "it would wait");
  const json::array& others = array_of(body, "others");
  if (!others.empty()) text += "because of it others would start at another time:\n";
  constexpr std::size_t kShown = 10;
  for (std::size_t i = 0; i < std::min(others.size(), kShown); ++i) {
    const json::object& other = as_object(others[i]);
    text += "  job " + text_of(other, "job_id") + ": " + time_cell(text_of(other, "before"), look).text +
            " → " + time_cell(text_of(other, "after"), look).text + "\n";
  }
  if (others.size() > kShown) text += "  … and " + std::to_string(others.size() - kShown) + " more\n";
  return text;
}

}  // namespace

int run_plan(Session& session, const PlanOptions& options) {
  Document document;
  if (!options.job.empty()) {
    if (!options.file.empty())
      throw Failure(Exit::usage, "plan: give a file, or --job with what is to change, not both");
    json::object change;
    if (options.priority >= 0) change["priority"] = options.priority;
    if (options.nodes > 0) change["nodes"] = options.nodes;
    if (options.quota >= 0) change["quota_gpus"] = options.quota;
    if (options.max_gpus >= 0) change["max_gpus"] = options.max_gpus;
    if (!options.time_limit.empty()) change["time_limit"] = options.time_limit;
    document = session.client.post("/v1/jobs/" + resolve_job(session, options.job) + ":simulate", change);
  } else {
    if (options.file.empty()) throw Failure(Exit::usage, "plan: give a job spec, or --job ID --priority N");
    SpecEdits edits = options.edits;
    edits.default_project = session.client.connection().project;
    SpecText spec = make_spec(options.file, read_spec_file(options.file, session.in), edits);
    document = session.client.post_text("/v1/jobs:simulate", std::move(spec.body), spec.content_type);
  }
  const json::object& body = as_object(document.tree);
  session.print(document, [&] { return plan_text(body, session.look); }, [&] { return reasons_table(body); });
  return 0;
}

}  // namespace tutti::cli
