#include "api/http/sse.h"

#include <algorithm>

namespace tutti::http {
namespace {

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ");
  std::copy_if(value.begin(), value.end(), std::back_inserter(out),
               [](char c) { return c != '\n' && c != '\r' && c != '\0'; });
  out.push_back('\n');
}

/// A line ends at "\r\n", "\n" or "\r", as readers see it.
std::string_view take_line(std::string_view& rest, bool& more) {
  const auto end = rest.find_first_of("\r\n");
  const auto line = rest.substr(0, end);
  more = end != std::string_view::npos;
  if (more) {
    const bool pair = rest[end] == '\r' && end + 1 < rest.size() && rest[end + 1] == '\n';
    rest.remove_prefix(end + (pair ? 2 : 1));
  }
  return line;
}

}  // namespace

std::string sse_event(std::string_view id, std::string_view event, std::string_view data) {
  std::string out;
  out.reserve(id.size() + event.size() + data.size() + 32);
  if (!id.empty()) append_field(out, "id", id);
  if (!event.empty()) append_field(out, "event", event);
  for (bool more = true; more;) out.append("data: ").append(take_line(data, more)).push_back('\n');
  out.push_back('\n');
  return out;
}

std::string sse_comment(std::string_view text) {
  std::string out;
  for (bool more = true; more;) out.append(": ").append(take_line(text, more)).push_back('\n');
  out.push_back('\n');
  return out;
}

std::string sse_retry(int milliseconds) { return "retry: " + std::to_string(milliseconds) + "\n\n"; }

}  // namespace tutti::http
