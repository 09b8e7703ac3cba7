#include "scheduler/trace/span.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "api/wire/utf8.h"

namespace tutti::trace {
namespace {

namespace json = boost::json;

bool is_hex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}
bool is_id(std::string_view text) { return is_hex(text) && text.find_first_not_of('0') != text.npos; }

json::object attribute(std::string_view key, const Value& value) {
  const auto* number = std::get_if<std::int64_t>(&value);
  json::object any;
  if (number != nullptr)
    any.emplace("intValue", std::to_string(*number));  // 64 bits are text in this form
  else
    any.emplace("stringValue", wire::to_utf8(std::get<std::string>(value)));
  return {{"key", key}, {"value", std::move(any)}};
}

std::string nanoseconds(Instant at) { return std::to_string(at.time_since_epoch().count() * 1000); }

json::object view(const Span& span) {
  json::array attributes;
  for (const auto& [key, value] : span.attributes) attributes.push_back(attribute(key, value));
  json::object out{{"traceId", span.trace_id},
                   {"spanId", span.span_id},
                   {"name", wire::to_utf8(span.name)},
                   {"kind", static_cast<int>(span.kind)},
                   {"startTimeUnixNano", nanoseconds(span.from)},
                   {"endTimeUnixNano", nanoseconds(std::max(span.from, span.until))},
                   {"attributes", std::move(attributes)}};
  if (!span.parent_id.empty()) out.emplace("parentSpanId", span.parent_id);
  if (!span.error.empty())
    out.emplace("status", json::object{{"code", 2}, {"message", wire::to_utf8(span.error)}});
  return out;
}

}  // namespace

std::optional<Context> parse_traceparent(std::string_view h) {
  // version-traceid-parentid-flags: 2, 32, 16 and 2 digits
  if (h.size() < 55 || h[2] != '-' || h[35] != '-' || h[52] != '-') return std::nullopt;
  const auto version = h.substr(0, 2), flags = h.substr(53, 2);
  if (!is_hex(version) || version == "ff" || !is_hex(flags)) return std::nullopt;
  if (version == "00" ? h.size() != 55 : h.size() > 55 && h[55] != '-') return std::nullopt;
  Context out{std::string(h.substr(3, 32)), std::string(h.substr(36, 16)), false};
  if (!is_id(out.trace_id) || !is_id(out.span_id)) return std::nullopt;
  const char low = flags[1];
  out.sampled = ((low <= '9' ? low - '0' : low - 'a' + 10) & 1) != 0;
  return out;
}

std::string traceparent_of(const Context& context) {
  return "00-" + context.trace_id + "-" + context.span_id + (context.sampled ? "-01" : "-00");
}

std::string otlp_json(const std::vector<Span>& spans, std::string_view service, std::string_view version) {
  json::array list;
  for (const auto& span : spans) list.push_back(view(span));
  const json::object scope{{"scope", json::object{{"name", "tutti"}, {"version", version}}},
                           {"spans", std::move(list)}};
  const json::object resource{
      {"attributes", json::array{attribute("service.name", std::string(service)),
                                 attribute("service.version", std::string(version))}}};
  return json::serialize(
      json::object{{"resourceSpans",
                    json::array{json::object{{"resource", resource}, {"scopeSpans", json::array{scope}}}}}});
}

}  // namespace tutti::trace
