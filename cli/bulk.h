// What the verbs that change many jobs share: targets, POST /v1/jobs:bulk, and one after the other. Used by
// changes.cpp and update.cpp.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <string>
#include <vector>

#include "cli/verbs.h"

namespace tutti::cli {

// Throws Failure{usage} when neither or both are given.
void check_targets(const std::string& verb, const std::vector<std::string>& ids, const JobFilter& filter);
boost::json::object filter_body(const JobFilter& filter, Instant now);

struct BulkOptions {
  std::string verb;
  bool yes = false, dry_run = false;
  int limit = 10'000;  // jobs, over as many requests as that takes
};
// `body`: action, filter and the rest, without dry_run and limit. Unless `yes`: counts first, asks, then
// changes what was counted.
int run_bulk(Session& session, boost::json::object body, const BulkOptions& options);

// `act` with the id of each; all are tried. The exit status of the first that failed.
int each_job(Session& session, const std::vector<std::string>& words,
             const std::function<void(const std::string&)>& act);

}  // namespace tutti::cli
