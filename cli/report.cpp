#include "cli/report.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <ostream>
#include <utility>

#include "api/handlers/csv.h"
#include "api/wire/text_values.h"
#include "cli/documents.h"
#include "cli/listing.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;
using std::chrono::days;
using std::chrono::floor;

std::optional<Instant> begin_of(const std::string& day) {
  return day.size() == 10 ? wire::parse_instant(day + "T00:00:00Z") : std::nullopt;
}

std::string text_of_day(Instant at) { return wire::format_instant(at).substr(0, 10); }

std::string hours(const json::object& row, const char* field) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.3f", number_of(row, field).value_or(0) / 3600);
  return text.data();
}

// Whole, or what was there before.
void write_file(const std::string& path, const std::string& text) {
  const std::string half = path + ".part";
  std::ofstream file(half, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file || std::rename(half.c_str(), path.c_str()) != 0) {
    unlink(half.c_str());
    throw Failure(Exit::usage, "cannot write " + path);
  }
}

// Not JSON in every form, which Client::get would insist on.
std::string fetch(Session& session, const std::string& path) {
  Outcome outcome = session.client.try_get(path);
  if (outcome.trouble != Trouble::none)
    throw Failure(Exit::unreachable, session.client.connection().server + " does not answer: " + outcome.why);
  if (outcome.reply.status >= 300) throw failure_of(outcome.reply);
  return std::move(outcome.reply.body);
}

std::string fetch_projects(Session& session, const ReportOptions& options) {
  std::string since = options.since, until = options.until;
  if (since.empty() && until.empty()) {
    const std::string day = options.day.empty() ? day_before(session.look.now) : options.day;
    since = day + "T00:00:00Z";
    until = day_after(day) + "T00:00:00Z";
  } else {
    since = since.empty() ? "" : instant_of(since, session.look.now, "--since");
    until = until.empty() ? "" : instant_of(until, session.look.now, "--until");
  }
  std::string path = "/v1/usage?group_by=project%2Cuser";
  if (!since.empty()) path += "&since=" + percent_encode(since);
  if (!until.empty()) path += "&until=" + percent_encode(until);
  const Document document = session.client.get(path);
  if (flag_of(as_object(document.tree), "cut"))
    session.err << "tutti: there are more rows than the server shows; ask for a shorter time\n";
  return options.format == "json" ? document.text : chargeback_csv(as_object(document.tree));
}

}  // namespace

std::string day_before(std::chrono::system_clock::time_point now) {
  return text_of_day(Instant(floor<days>(now)) - std::chrono::hours(24));
}

std::string day_after(const std::string& day) {
  const auto begin = begin_of(day);
  return begin ? text_of_day(*begin + std::chrono::hours(24)) : "";
}

std::string chargeback_csv(const json::object& usage) {
  api::Csv csv;
  for (const auto column :
       {"since", "until", "project", "user", "gpu_hours", "lost_gpu_hours", "jobs", "attempts"})
    csv.text(column);
  csv.end_row();
  for (const auto& item : array_of(usage, "rows")) {
    const json::object& row = as_object(item);
    for (const auto* field : {"since", "until"}) csv.text(text_of(usage, field).substr(0, 19));
    csv.text(text_of(row, "project"));
    csv.text(text_of(row, "user"));
    csv.number(hours(row, "gpu_seconds"));
    csv.number(hours(row, "lost_gpu_seconds"));
    csv.number(text_of(row, "jobs"));
    csv.number(text_of(row, "attempts"));
    csv.end_row();
  }
  return csv.take();
}

int run_report(Session& session, const ReportOptions& options) {
  if (!options.day.empty() && !begin_of(options.day))
    throw Failure(Exit::usage, "--day " + options.day + ": must be like 2026-10-01, in UTC");
  if (!options.projects && (!options.since.empty() || !options.until.empty()))
    throw Failure(Exit::usage, "--since and --until go with --projects; the report is of one day");
  if (options.projects && !options.day.empty() && (!options.since.empty() || !options.until.empty()))
    throw Failure(Exit::usage, "--day, or --since and --until, not both");
  std::string text;
  if (options.projects) {
    text = fetch_projects(session, options);
  } else {
    std::string path = "/v1/report?format=" + options.format;
    if (!options.day.empty()) path += "&day=" + options.day;
    text = fetch(session, path);
  }
  if (!text.empty() && text.back() != '\n') text += '\n';
  if (options.file.empty() || options.file == "-") {
    session.out << text;
    return 0;
  }
  write_file(options.file, text);
  session.err << options.file << " written\n";
  return 0;
}

}  // namespace tutti::cli
