// How things look in a terminal: tables that fit, relative times, colours that are never the only sign. Used
// by every verb that prints. Pure.
//
// Invariants
// 1. No line of a table is wider than Look::width; `wide` and CSV are never cut.
// 2. Text of the server cannot move the cursor: control characters are shown as '?' (in tables, not in logs).
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti::cli {

struct Look {
  std::size_t width = 100;
  bool colour = false;
  bool wide = false;
  bool utc = false;  // instants in full instead of ages
  Instant now{};
};

enum class Tone : std::uint8_t {
  plain,
  good,
  busy,
  warn,
  bad,
  dim
};

struct Cell {
  std::string text;
  Tone tone = Tone::plain;
  std::optional<std::string> raw = {};  // for CSV, where it is not `text`
};

struct Column {
  std::string title;
  bool right = false;
  bool shrinks = false;  // may be cut with "…" so that the table fits
  bool wide_only = false;
};

struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
};

std::string render_table(const Table& table, const Look& look);
// Only these columns, in this order; titles in any case, with or without their spaces. Throws Failure{usage}
// and names those that there are.
Table choose_columns(const Table& table, const std::vector<std::string>& titles);
std::string render_csv(const Table& table);  // RFC 4180, with a header, wide columns included
// "key  value" lines that fit, but for `wide`; empty values are left out.
std::string render_fields(const std::vector<std::pair<std::string, Cell>>& fields, const Look& look);
std::string paint(std::string_view text, Tone tone, const Look& look);

std::size_t display_width(std::string_view text);  // code points
std::string clean(std::string_view text);          // one line, no control characters
std::string cut(std::string_view text, std::size_t width);

std::string short_duration(Duration d);  // "45s", "3m", "2h10m", "5d"
std::string short_bytes(std::int64_t bytes);
// "3m ago"-like age of an instant of the API ("3m", or "in 3m" when it is to come); the instant itself in CSV
// and with Look::utc.
Cell time_cell(std::string_view instant, const Look& look);
Cell seconds_cell(std::optional<double> seconds);
// From one instant of the API to another, or to now when the second is empty.
Cell span_cell(std::string_view from, std::string_view to, const Look& look);

Tone tone_of(std::string_view state);  // of jobs, attempts, nodes and GPUs
Cell state_cell(const std::string& state);

}  // namespace tutti::cli
