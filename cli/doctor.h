// `tutti doctor`: is this client set up, and is the cluster behind it well? With --machine also this machine,
// with
// --db also a database (doctor_machine.h). Each finding is ok, warn or fail,
// and says the way out. Reads only. Called by commands/access.cpp.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <optional>
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

struct DoctorOptions {
  bool machine = false;                             // also this machine
  std::string db;                                   // connection string of the database to look at; "" = none
  std::string data = "/var/lib/tutti";              // of a scheduler here
  std::string state_dir = "/var/lib/tutti-worker";  // of a worker here
  bool json = false;
};

// One request each, with this deadline.
int run_doctor(const Printer& printer, const ConnectionFlags& flags, std::chrono::milliseconds timeout,
               const DoctorOptions& options);
std::vector<Check> doctor_checks(const Look& look, const ConnectionFlags& flags,
                                 std::chrono::milliseconds timeout, const DoctorOptions& options);
boost::json::object doctor_view(const std::vector<Check>& checks);

// Seconds that our clock is ahead of an HTTP date; nothing when it is none.
std::optional<double> clock_ahead(std::string_view http_date, std::chrono::system_clock::time_point now);
// Versions "major.minor.patch": a server is understood by clients one major older and newer.
bool versions_fit(std::string_view client, std::string_view server);

}  // namespace tutti::cli
