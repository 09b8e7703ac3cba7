// A JSON string literal. Core has no JSON library; evidence is the one thing that it writes as JSON.
#pragma once

#include <string>
#include <string_view>

namespace tutti {

inline std::string quoted(std::string_view text) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (u < 0x20)
      ((out += "\\u00") += kHex[u >> 4]) += kHex[u & 15];
    else
      out += c;
  }
  return out += '"';
}

}  // namespace tutti
