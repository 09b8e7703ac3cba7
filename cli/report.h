// `tutti report`: the operator's report of a day, and what each project and user is to be charged for. Called
// by commands/machines.cpp.
#pragma once

#include <string>

#include "cli/verbs.h"

namespace tutti::cli {

struct ReportOptions {
  std::string day;              // YYYY-MM-DD; "" = yesterday
  std::string format = "text";  // text, markdown, json; of projects: csv, json
  std::string file;             // "" = standard output
  bool projects = false;        // GPU-hours by project and user instead
  std::string since, until;     // of projects, instead of a day
};
int run_report(Session& session, const ReportOptions& options);

/// The day before an instant, as YYYY-MM-DD in UTC, and the day after one; "" where it is none.
std::string day_before(std::chrono::system_clock::time_point now);
std::string day_after(const std::string& day);
/// GPU-hours by project and user, of an answer of /v1/usage.
std::string chargeback_csv(const boost::json::object& usage);

}  // namespace tutti::cli
