// Spans, and how they are written and handed on: W3C trace context (the header traceparent) and OTLP over
// HTTP in its JSON form. Pure; std only but for the JSON writer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti::trace {

struct Context {
  std::string trace_id;  // 32 hex digits, not all zero
  std::string span_id;   // 16
  bool sampled = false;
};
/// nullopt: no such header, or not a legal one; then a trace begins here. Versions after 00 are read as 00.
std::optional<Context> parse_traceparent(std::string_view header);
std::string traceparent_of(const Context& context);

enum class Kind : std::uint8_t {  // as OTLP numbers them
  internal = 1,
  server = 2
};

using Value = std::variant<std::int64_t, std::string>;

struct Span {
  std::string trace_id, span_id, parent_id;  // parent "" = the root
  std::string name;
  Kind kind = Kind::internal;
  Instant from, until;
  std::vector<std::pair<std::string, Value>> attributes;
  std::string error;  // "" = it went well
};

/// The body of POST …/v1/traces.
std::string otlp_json(const std::vector<Span>& spans, std::string_view service, std::string_view version);

}  // namespace tutti::trace
