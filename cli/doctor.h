// `tutti doctor`: is this client set up, and is the cluster behind it well? Each finding is ok, warn or fail,
// and says the way out. Reads only. Called by commands/access.cpp.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "cli/verbs.h"

namespace tutti::cli {

enum class Finding {
  ok,
  warn,  // works, but not as it should
  fail   // does not work; `doctor` ends with 1
};

struct Check {
  std::string name;
  Finding finding = Finding::ok;
  std::string text;
  std::string way_out;
};

// One request each, with this deadline.
int run_doctor(const Printer& printer, const ConnectionFlags& flags, std::chrono::milliseconds timeout);

// Seconds that our clock is ahead of an HTTP date; nothing when it is none.
std::optional<double> clock_ahead(std::string_view http_date, std::chrono::system_clock::time_point now);
// Versions "major.minor.patch": a server is understood by clients one major older and newer.
bool versions_fit(std::string_view client, std::string_view server);

}  // namespace tutti::cli
