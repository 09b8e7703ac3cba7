// Server-sent events: how one event is written (WHATWG HTML, section 9.2). Used with Responder::sse. Std
// only.
#pragma once

#include <string>
#include <string_view>

namespace tutti::http {

/// One event, ready for Stream::write. Empty id or event leave their line out. Data may hold newlines.
/// Newlines in id and event would forge fields, so they are dropped.
std::string sse_event(std::string_view id, std::string_view event, std::string_view data);
/// A comment line: readers ignore it, dead peers do not survive it.
std::string sse_comment(std::string_view text);
/// "retry:" line: how long a browser waits before it reconnects.
std::string sse_retry(int milliseconds);

}  // namespace tutti::http
