// How a program writes its log: lines of text, or one JSON object a line. What happened to a job, an attempt
// or a node is logged with its fields, which a JSON line has as members of their own; docs/logs.md lists
// them.
//
// Used by scheduler and worker. set_log_format() once, by main; the rest from any thread.
#pragma once

#include <spdlog/common.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tutti {

/// "json": every line from now on, also those without fields. Else: as spdlog is set up.
void set_log_format(std::string_view format, std::string program);
bool logs_json();

using LogValue = std::variant<std::int64_t, std::string>;
using LogFields = std::vector<std::pair<std::string_view, LogValue>>;

/// One line about something that has happened. Text: `text` alone. JSON: the fields too; empty ones and ids
/// of zero, which mean none, are left out.
void log_change(spdlog::level::level_enum level, const std::string& text, const LogFields& fields);

}  // namespace tutti
