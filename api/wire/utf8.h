// Text that comes from programs (log lines, device names) is bytes; what we send must be UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace tutti::wire {

/// Each byte that is not part of well-formed UTF-8 is replaced by U+FFFD.
std::string to_utf8(std::string_view bytes);
bool is_utf8(std::string_view bytes);

/// The longest prefix of at most `max` bytes that does not cut a character in two.
std::string_view utf8_prefix(std::string_view text, std::size_t max);

}  // namespace tutti::wire
