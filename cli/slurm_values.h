// How Slurm writes times, sizes, lists of hosts and dates in the options of sbatch. Used by
// sbatch_spec.cpp. Pure: the clock and the time zone come in as a Calendar. nullopt means "not of that
// form".
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti::cli::slurm {

std::optional<std::int64_t> parse_number(std::string_view text);  // digits only, below 10^15

struct TimeLimit {
  bool unlimited = false;
  Duration value{};
};
/// "90" (minutes), "90:30", "1:30:00", "2-12", "2-12:30", "2-12:30:15"; "0", "UNLIMITED", "INFINITE", "-1".
std::optional<TimeLimit> parse_time_limit(std::string_view text);

/// "64G", "512" (MiB), "1T", "800000K": units of 1024. In bytes.
std::optional<std::int64_t> parse_memory(std::string_view text);

struct Count {
  std::string kind;  // of GPU; empty: any
  int count = 0;
};
/// "4", "a100:4". `bare_kind`: "a100" alone is one of them, as in --gres=gpu:a100.
std::optional<Count> parse_count(std::string_view text, bool bare_kind);

/// "n[01-03,7],gpu5": leading zeros are kept. More than `most` hosts are none.
std::optional<std::vector<std::string>> expand_hosts(std::string_view text, std::size_t most);

struct NodeCount {
  std::int64_t least = 1, most = 1;
};
/// "4", "2-4", "1k".
std::optional<NodeCount> parse_nodes(std::string_view text);

struct Signal {
  std::string name;  // as a spec has it: "USR1"
  std::int64_t seconds = 60;
  bool batch_only = false;   // B:
  bool reservation = false;  // R:
};
/// "[R][B:]USR1[@90]"; names with or without SIG, or numbers.
std::optional<Signal> parse_signal(std::string_view text);

struct Dependency {
  std::string kind;      // "afterok", …, "singleton"
  std::string job;       // empty for singleton
  bool delayed = false;  // after:ID+MINUTES
};
struct Dependencies {
  std::vector<Dependency> all;
  bool any_will_do = false;  // separated by '?'
};
std::optional<Dependencies> parse_dependencies(std::string_view text);

/// The wall clock of the place where the script is read.
struct Calendar {
  std::int64_t now = 0;  // Unix seconds
  std::function<std::tm(std::int64_t)> local;
  std::function<std::optional<std::int64_t>(std::tm)> instant;
};
Calendar utc_calendar(std::int64_t now);
Calendar local_calendar();  // now, in the zone of this process

/// --begin and --deadline as a spec has them: "now+2hours" is "+2h", "2026-12-24T08:00" an instant in UTC.
/// Empty: now, or before.
std::optional<std::string> parse_moment(std::string_view text, const Calendar& calendar);

}  // namespace tutti::cli::slurm
