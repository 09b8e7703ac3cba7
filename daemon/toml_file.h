// A configuration file: TOML with keys at the top and values that are strings, numbers, booleans, or lists of
// them. Read by daemon/config.h; what the keys mean is not known here.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

namespace tutti::daemon {

enum class TomlKind : std::uint8_t {
  text,
  number,
  boolean
};

struct TomlEntry {
  std::string key;
  std::vector<std::string> values;  // as a flag would be given them
  TomlKind kind = TomlKind::text;   // of each value
  bool list = false;
  int line = 0;
};

/// In the order of the file. Throws std::runtime_error "FILE:LINE: what is wrong".
std::vector<TomlEntry> read_toml(std::istream& in, const std::string& file);

}  // namespace tutti::daemon
