#include "api/http/response_head.h"

#include <array>
#include <charconv>
#include <ctime>
#include <initializer_list>

namespace tutti::http {
namespace {

/// "Sun, 06 Nov 1994 08:49:37 GMT", made once per second and thread.
std::string_view date_now() {
  thread_local std::time_t made_for = 0;
  thread_local std::array<char, 40> text{};
  thread_local std::size_t size = 0;
  const auto now = std::time(nullptr);
  if (now != made_for) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    size = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    made_for = now;
  }
  return {text.data(), size};
}

void append_number(std::string& out, std::size_t number) {
  std::array<char, 24> digits{};
  const auto end = std::to_chars(digits.begin(), digits.end(), number).ptr;
  out.append(digits.begin(), end);
}

bool is_ours(std::string_view name) {
  for (const std::string_view ours :
       {"content-length", "transfer-encoding", "connection", "date", "server"}) {
    if (equal_ignoring_case(name, ours)) return true;
  }
  return false;
}

void append_clean(std::string& out, std::string_view text) {
  for (const char c : text) out.push_back(c == '\r' || c == '\n' || c == '\0' ? ' ' : c);
}

constexpr auto kSecurityHeaders = std::to_array<SecurityHeader>({
    {"X-Content-Type-Options", "nosniff"},
    {"Content-Security-Policy", kClosedPolicy},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cache-Control", "no-store"},
});

void append_header(std::string& out, std::string_view name, std::string_view value) {
  append_clean(out, name);
  out.append(": ");
  append_clean(out, value);
  out.append("\r\n");
}

void append_headers(std::string& out, const Headers& headers) {
  for (const auto& header : headers)
    if (!is_ours(header.name)) append_header(out, header.name, header.value);
}

}  // namespace

std::span<const SecurityHeader> security_headers() { return kSecurityHeaders; }

void write_head(std::string& out, int status, const Headers& headers, const HeadOptions& options) {
  out.assign("HTTP/1.1 ");
  append_number(out, static_cast<std::size_t>(status));
  out.append(" ").append(reason_phrase(status)).append("\r\nDate: ").append(date_now()).append("\r\n");
  append_headers(out, headers);
  if (options.more != nullptr) append_headers(out, *options.more);
  for (const auto& [name, value] : kSecurityHeaders)
    if (find_header(headers, name) == nullptr) append_header(out, name, value);
  if (options.tls) append_header(out, kStrictTransport.name, kStrictTransport.value);
  if (options.content_length) {
    out.append("Content-Length: ");
    append_number(out, *options.content_length);
    out.append("\r\n");
  }
  if (options.chunked) out.append("Transfer-Encoding: chunked\r\n");
  if (options.close) {
    out.append("Connection: close\r\n");
  } else if (options.http_1_0) {
    out.append("Connection: keep-alive\r\n");
  }
  out.append("\r\n");
}

}  // namespace tutti::http
