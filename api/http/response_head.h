// Writes the header block of an answer. Who calls it: session.cpp. Std only.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "api/http/message.h"

namespace tutti::http {

struct HeadOptions {
  std::optional<std::size_t> content_length;
  bool chunked = false;
  bool close = false;
  bool http_1_0 = false;
};

/// Replaces `out`. Content-Length, Transfer-Encoding, Connection and Date are ours; a handler's are left out.
/// Line breaks in names or values would forge headers, so they become spaces.
void write_head(std::string& out, int status, const Headers& headers, const HeadOptions& options);

}  // namespace tutti::http
