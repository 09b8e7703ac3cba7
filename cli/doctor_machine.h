// The part of `tutti doctor` that looks at the machine that it runs on, and at a database that it is told:
// room on disks, cgroups, file limits, PostgreSQL's settings. Reads only. Called by doctor.cpp and the
// support bundle.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/doctor.h"

namespace tutti::cli {

/// `root`: of the file system, for tests; "" = the real one.
std::vector<Check> examine_machine(const DoctorOptions& options, const std::string& root = {});

/// With psql, which has to be installed here. Never puts a password on a command line: one in the connection
/// string is refused.
std::vector<Check> examine_database(const std::string& db, std::chrono::milliseconds timeout);
/// Lines "name|value" of pg_settings and a few more.
std::vector<Check> judge_database(const std::string& rows);
bool has_password(const std::string& connection_string);

Check judge_room(const std::string& what, const std::string& path, std::uint64_t free, std::uint64_t total);
/// The same of inodes; nothing where the file system does not count them, or has enough.
std::optional<Check> judge_inodes(const std::string& what, const std::string& path, std::uint64_t free,
                                  std::uint64_t total);

/// Days until the certificate of an https server ends; nothing where it cannot be seen.
std::optional<double> certificate_days(const std::string& url, const std::string& ca,
                                       std::chrono::milliseconds timeout);

}  // namespace tutti::cli
