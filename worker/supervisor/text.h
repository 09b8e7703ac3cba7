// Bytes that users' programs wrote, made fit for JSON. Called wherever a log tail or an error text enters a
// message.
#pragma once

#include <string>
#include <string_view>

namespace tutti::supervisor {

// Valid UTF-8 is kept, every other byte becomes U+FFFD; NUL becomes a space.
std::string to_utf8(std::string_view bytes);

}  // namespace tutti::supervisor
