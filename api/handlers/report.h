// The operator's report of one day (UTC): how much of the cluster was used, who waited, what was lost to
// what, how fast jobs came back, what is set aside, and whether there was room to spare. Made of what is
// recorded, by the queries that there are; what is not recorded is null. Called by GET /v1/report and by
// ReportWriter, which keeps it as a file. Control thread; rows are read aside.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/handlers/backend.h"
#include "db/history.h"
#include "db/usage.h"

namespace tutti {

class History;

struct DayReport {
  Instant day;    // its midnight
  Instant until;  // the next one, or now: then the day is not over
  Instant made_at;
  Usage total, by_queue, by_project;
  std::int64_t submitted = 0;
  RecoveryTimes recoveries{};                            // of faults that no user is charged with
  std::vector<FaultGroup> by_class, by_action, by_node;  // of nodes the id

  // The cluster at some instants of the day. Nothing of a time before the first event.
  struct Sample {
    Instant at;
    std::int64_t gpus = 0, used = 0, idle = 0, unhealthy = 0, closed = 0, away = 0;
    std::optional<std::int64_t> asked;  // by jobs that were ready; nullopt: too many to be counted
  };
  std::vector<Sample> samples;
  Instant known_from{};  // the first event, or `day` if that was later; epoch 0 = nothing is known
  bool exact = false;  // false: a GPU that was away and came back may be counted as if it had been there
  struct Aside {
    std::string node;
    std::int32_t gpu = -1;  // index; -1 = the node
    std::string what, why;
  };
  std::vector<Aside> set_aside;                   // at the end of the day; at most kMostSetAside
  std::optional<std::int64_t> set_aside_count;    // nullopt: not known
  std::map<std::string, std::string> node_names;  // by id
};
inline constexpr std::size_t kMostSetAside = 200;

/// `done` on the control thread. `history` may be null: then nothing is known of machines.
void make_report(Backend& backend, const History* history, Instant day,
                 std::function<void(Result<DayReport>)> done);

/// What a history knows of the day: samples and what was set aside. Blocks, for a bounded time.
void add_machines(HistoryStore& store, DayReport& report);

boost::json::object report_view(const DayReport& report);

enum class ReportStyle : std::uint8_t {
  text,     // columns by spaces
  markdown  // tables and headings
};
/// Of report_view.
std::string report_text(const boost::json::object& report, ReportStyle style);

}  // namespace tutti
