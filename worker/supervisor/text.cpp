#include "worker/supervisor/text.h"

namespace tutti::supervisor {
namespace {

unsigned byte_at(std::string_view s, std::size_t i) { return static_cast<unsigned char>(s[i]); }

// Length of the well-formed sequence at `i` (shortest form, no surrogates, at most U+10FFFF), or 0.
std::size_t sequence_length(std::string_view s, std::size_t i) {
  const unsigned lead = byte_at(s, i);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                             : lead >= 0xE0 && lead <= 0xEF ? 3
                             : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                            : 0;
  if (length == 0 || i + length > s.size()) return 0;
  for (std::size_t k = 1; k < length; ++k)
    if ((byte_at(s, i + k) & 0xC0) != 0x80) return 0;
  const unsigned second = byte_at(s, i + 1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
      (lead == 0xF4 && second > 0x8F))
    return 0;
  return length;
}

}  // namespace

std::string to_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t length = sequence_length(bytes, i);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      ++i;
    } else {
      if (bytes[i] == '\0')
        out += ' ';
      else
        out.append(bytes, i, length);
      i += length;
    }
  }
  return out;
}

}  // namespace tutti::supervisor
