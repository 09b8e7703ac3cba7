// Writes the header block of an answer. Who calls it: session.cpp. Std only.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/http/message.h"

namespace tutti::http {

struct HeadOptions {
  std::optional<std::size_t> content_length;
  bool chunked = false;
  bool close = false;
  bool http_1_0 = false;
  bool tls = false;               // Strict-Transport-Security only then: it would lock plain HTTP out
  const Headers* more = nullptr;  // after the handler's own
};

/// What a page may do that says nothing itself: nothing.
inline constexpr std::string_view kClosedPolicy =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What every answer says to browsers beside what its handler says: no guessing of types, no framing, no
/// scripts but our own, nothing kept. No CORS headers ever: pages of other origins may not read this API.
struct SecurityHeader {
  std::string_view name, value;
};
std::span<const SecurityHeader> security_headers();
inline constexpr SecurityHeader kStrictTransport{"Strict-Transport-Security", "max-age=31536000"};

/// Replaces `out`. Content-Length, Transfer-Encoding, Connection and Date are ours; a handler's are left out.
/// Line breaks in names or values would forge headers, so they become spaces. The security headers are on
/// every answer; a handler's own Content-Security-Policy, Cache-Control or Referrer-Policy stands instead of
/// ours. Nothing says what software this is.
void write_head(std::string& out, int status, const Headers& headers, const HeadOptions& options);

}  // namespace tutti::http
