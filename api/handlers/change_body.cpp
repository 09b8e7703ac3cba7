#include "api/handlers/change_body.h"

#include <algorithm>
#include <array>

#include "api/wire/spec_reader.h"
#include "api/wire/spec_time.h"

namespace tutti::api {
namespace {

namespace json = boost::json;
using wire::Path;
using wire::SpecReader;

struct Field {
  std::string_view name;
  bool asked_only;
  void (*read)(SpecReader&, const Path&, const json::value&, JobChange&);
};

void read_priority(SpecReader& r, const Path& at, const json::value& v, JobChange& into) {
  if (const auto n = r.integer(at, v, 0, 100)) into.priority = static_cast<int>(*n);
}

template <auto Member>
void read_limit(SpecReader& r, const Path& at, const json::value& v, JobChange& into) {
  if (v.is_null())
    into.*Member = std::optional<Duration>();
  else if (const auto d = r.duration(at, v, std::chrono::seconds(1)))
    into.*Member = std::optional(*d);
}

template <auto Member, auto SpecMember, auto Read>
void read_time(SpecReader& r, const Path& at, const json::value& v, JobChange& into) {
  JobSpec spec;
  const auto before = r.problems.size();
  if (!v.is_null()) Read(r, at, v, spec);
  if (r.problems.size() == before) into.*Member = spec.*SpecMember;
}

void read_labels(SpecReader& r, const Path& at, const json::value& v, JobChange& into) {
  constexpr std::size_t kMost = 64, kName = 128, kValue = 1024;
  const auto* object = r.object(at, v, kMost);
  if (object == nullptr) return;
  for (const auto& m : *object) {
    const Path here{&at, m.key()};
    if (m.key().empty() || m.key().size() > kName)
      r.problem(here, "a label's name has 1 to " + std::to_string(kName) + " bytes");
    if (m.value().is_null())
      into.labels[m.key()] = std::nullopt;
    else if (auto text = r.scalar_text(here, m.value(), kValue))
      into.labels[m.key()] = std::move(*text);
  }
}

template <auto Member, int Min, int Max>
void read_number(SpecReader& r, const Path& at, const json::value& v, JobChange& into) {
  if (const auto n = r.integer(at, v, Min, Max)) into.*Member = static_cast<int>(*n);
}

constexpr auto kFields = std::to_array<Field>({
    {"priority", false, read_priority},
    {"time_limit", false, read_limit<&JobChange::time_limit>},
    {"total_time_limit", false, read_limit<&JobChange::total_time_limit>},
    {"begin_time", false, read_time<&JobChange::begin_time, &JobSpec::begin_time, wire::read_begin_time>},
    {"deadline", false, read_time<&JobChange::deadline, &JobSpec::deadline, wire::read_deadline>},
    {"labels", false, read_labels},
    {"nodes", true, read_number<&JobChange::nodes, 1, 4096>},
    {"quota_gpus", true, read_number<&JobChange::quota_gpus, 0, 1'000'000>},
    {"max_gpus", true, read_number<&JobChange::max_gpus, 0, 1'000'000>},
});

// Of a spec, and fixed once it is submitted.
constexpr auto kFixed = std::to_array<std::string_view>(
    {"apiVersion", "name",        "project",        "queue",       "nodes",   "resources",
     "topology",   "constraints", "exclude_nodes",  "image",       "workdir", "env",
     "secrets",    "launcher",    "procs_per_node", "setup",       "run",     "schedule",
     "depends_on", "array",       "matrix",         "preemptible", "stop",    "checkpoint",
     "retry",      "preflight",   "hang",           "notify",      "compat",  "mounts"});

std::string names(bool asking) {
  std::string text;
  for (const auto& field : kFields)
    if (asking || !field.asked_only) text += (text.empty() ? "" : ", ") + std::string(field.name);
  return text;
}

void unknown(SpecReader& r, const Path& at, bool asking) {
  if (std::ranges::find(kFixed, at.key) != kFixed.end())
    return r.problem(at, "cannot be changed any more", "cancel the job and submit it again");
  std::vector<std::string_view> known;
  for (const auto& field : kFields)
    if (asking || !field.asked_only) known.push_back(field.name);
  auto hint = wire::did_you_mean(at.key, known);
  r.problem(at, "unknown field", hint.empty() ? "known here: " + names(asking) : std::move(hint));
}

}  // namespace

Result<JobChange> read_change(const json::value& body, Now now, bool asking, std::string_view at) {
  std::vector<wire::SpecProblem> problems;
  SpecReader r{problems, now};
  const Path none;
  const Path root{&none, at};
  JobChange change;
  if (const auto* object = r.object(root, body))
    for (const auto& m : *object) {
      const Path here{&root, m.key()};
      const auto* field = std::ranges::find(kFields, std::string_view(m.key()), &Field::name);
      if (field == kFields.end() || (field->asked_only && !asking))
        unknown(r, here, asking);
      else
        field->read(r, here, m.value(), change);
    }
  if (problems.empty() && change.empty()) r.problem(root, "nothing is changed", "give " + names(asking));
  if (problems.empty()) return change;
  auto& first = problems.front();
  return bad_field(first.field.empty() ? "body" : first.field, first.message, first.hint);
}

}  // namespace tutti::api
