// What a cluster's parts have written into their files. Of cluster*.cpp.
#pragma once

#include <cstddef>
#include <fstream>
#include <iterator>
#include <string>

namespace tutti::e2e {

inline std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

/// At most so many bytes, with "…" before them where there are more.
inline std::string end_of(const std::string& path, std::size_t bytes) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return text.size() <= bytes ? text : "…" + text.substr(text.size() - bytes);
}

}  // namespace tutti::e2e
