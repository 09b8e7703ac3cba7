// The job spec as people write it (JSON or YAML, the same tree) and as we store it (canonical JSON).
// Used by api/handlers (submit), scheduler/service (spec_json of rows), worker/service (Prepare.spec_json).
// Pure functions; any thread. Parsing allocates its tree on the stack when it is small and throws nothing on
// the good path.
//
//   1. parse_spec_json(encode_spec(s), any).spec equals s, for every s that a parse has returned.
//   2. All problems are reported at once (at most kMaxSpecProblems), each with the path of its field.
//   3. Nothing is silently ignored: a field we do not know or do not do yet is a problem, unless its value
//      says "nothing" (null, [], {}, "any", preflight none).
#pragma once

#include <boost/json/value.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/job_spec.h"
#include "scheduler/model/time.h"

namespace tutti::wire {

inline constexpr std::size_t kMaxEncodedSpec = 1
                                               << 20;  // bytes, also of submitted JSON; as Prepare.spec_json
inline constexpr std::size_t kMaxSpecProblems = 100;

struct SpecProblem {
  std::string field;    // "resources.gpus"; "" = the whole text
  std::string message;  // "must be between 0 and 64, not 65"
  std::string hint;     // "did you mean 'nodes'?", may be empty
};

struct SpecParse {
  JobSpec spec;  // to be used only if ok()
  std::vector<SpecProblem> problems;
  bool malformed = false;  // not JSON or YAML at all: one problem, and where
  int line = 0;
  int column = 0;

  bool ok() const { return problems.empty(); }
};

/// `now` resolves a begin_time like "+2h".
SpecParse parse_spec_json(std::string_view text, Now now);
SpecParse parse_spec_yaml(std::string_view text, Now now);
/// A tree that has already been read strictly (strict_json.h): one item of a batch.
SpecParse parse_spec(const boost::json::value& tree, Now now);

/// Compact JSON with every default filled in, fields always in the same order.
std::string encode_spec(const JobSpec& spec);

/// Signals that a spec may name, without SIG.
std::span<const std::string_view> signal_names();

}  // namespace tutti::wire
