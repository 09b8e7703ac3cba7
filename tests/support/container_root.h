// The root directory of a container made of this machine's own /bin/sh and some tools with their libraries:
// no registry, no download. It has a file /in-the-image that no node has.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace tutti::testing {

inline std::vector<std::string> libraries_of(const std::string& program) {
  std::vector<std::string> out;
  FILE* ldd = popen(("ldd '" + program + "' 2>/dev/null").c_str(), "r");
  if (ldd == nullptr) throw std::runtime_error("ldd");
  char line[4096];
  while (std::fgets(line, sizeof line, ldd) != nullptr) {
    const std::string text(line);
    const auto begin = text.find('/');
    const auto end = text.find(" (");
    if (begin != std::string::npos && end != std::string::npos && begin < end)
      out.push_back(text.substr(begin, end - begin));
  }
  pclose(ldd);
  return out;
}

inline void make_container_root(const std::string& root, std::vector<std::string> programs = {}) {
  namespace fs = std::filesystem;
  for (const auto* tool : {"sh", "cat", "sleep", "ls", "df", "id", "env", "mv", "touch", "stat", "readlink"})
    programs.push_back(std::string("/bin/") + tool);
  std::set<std::string> files;
  for (const auto& program : programs) {
    files.insert(program);
    for (const auto& library : libraries_of(program)) files.insert(library);
  }
  for (const auto& file : files) {
    const auto to = root + file;
    fs::create_directories(fs::path(to).parent_path());
    fs::copy_file(fs::canonical(file), to, fs::copy_options::overwrite_existing);
  }
  fs::create_directories(root + "/etc");
  fs::create_directories(root + "/opt/data");
  std::ofstream(root + "/in-the-image") << "made on the spot\n";
  std::ofstream(root + "/etc/passwd") << "root:x:0:0::/root:/bin/sh\n";
}

}  // namespace tutti::testing
