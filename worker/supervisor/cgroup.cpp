#include "worker/supervisor/cgroup.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

std::string unescape(const std::string& text) {  // mountinfo writes a space as \040
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string note_path(const Config& config) { return config.dir + "/cgroup"; }

std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The value of `name` in a flat keyed file such as cgroup.events.
std::optional<std::int64_t> keyed_value(const std::string& path, const std::string& name) {
  const auto text = read_file(path, 4096);
  if (!text) return std::nullopt;
  std::istringstream lines(*text);
  std::string key;
  std::int64_t value = 0;
  while (lines >> key >> value)
    if (key == name) return value;
  return std::nullopt;
}

}  // namespace

std::string find_own_cgroup(const std::string& mountinfo, const std::string& own) {
  std::string inside;
  std::istringstream own_lines(own);
  for (std::string line; std::getline(own_lines, line);)
    if (line.starts_with("0::")) inside = line.substr(3);
  if (inside.empty()) return {};
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t dash = line.find(" - cgroup2 ");
    if (dash == std::string::npos) continue;
    std::istringstream fields(line.substr(0, dash));
    std::string skip, root, mount;
    fields >> skip >> skip >> skip >> root >> mount;
    root = unescape(root);
    if (root != "/") {  // a bind mount of a part of the tree: only what lies below it can be named
      if (inside != root && !inside.starts_with(root + "/")) continue;
      inside.erase(0, root.size());
    }
    std::string path = unescape(mount) + inside;
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
  }
  return {};
}

std::string find_own_cgroup() {
  return find_own_cgroup(read_file("/proc/self/mountinfo", 4 << 20).value_or(""),
                         read_file("/proc/self/cgroup").value_or(""));
}

std::string cgroup_name(const Config& config) {
  std::uint32_t hash = 2166136261u;  // FNV-1a of the directory
  for (const char c : config.dir) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  char text[80];
  std::snprintf(text, sizeof text, "tutti-%lld-%lld-%08x", static_cast<long long>(config.key.job.value),
                static_cast<long long>(config.key.epoch.value), hash);
  return text;
}

std::string cgroup_of(const Config& config) {
  if (config.kill_mode == "process-group") return {};
  // The supervisor may have been started from another place in the tree than we are now. The name is checked:
  // a note that was tampered with must not make us kill something else.
  if (const auto note = read_file(note_path(config), 4096))
    if (last_part(*note) == cgroup_name(config) && note->find("/../") == std::string::npos) return *note;
  const std::string parent = config.cgroup_parent.empty() ? find_own_cgroup() : config.cgroup_parent;
  return parent.empty() ? std::string() : parent + "/" + cgroup_name(config);
}

std::string create_cgroup(const Config& config, std::string& problem) {
  const std::string path = cgroup_of(config);
  if (path.empty()) {
    problem = "no cgroup v2 hierarchy is mounted";
    return {};
  }
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
    problem = "cannot make " + path + ": " + std::strerror(errno);
    return {};
  }
  if (access((path + "/cgroup.kill").c_str(), W_OK) != 0 || !cgroup_populated(path)) {
    problem = path + " has no cgroup.kill (Linux 5.14) or no cgroup.events";
    rmdir(path.c_str());
    return {};
  }
  replace_file(note_path(config), path, false, 0600);
  if (config.memory_bytes > 0) limit_memory(path, config.memory_bytes);
  return path;
}

// The controller must be enabled above, which the kernel refuses while processes are there (as when we share
// our own cgroup with the attempts): then there is no limit. With --cgroup-parent there is one.
bool limit_memory(const std::string& path, std::int64_t bytes) {
  const std::string file = path + "/memory.max";
  if (access(file.c_str(), W_OK) != 0)
    poke_file(path.substr(0, path.rfind('/')) + "/cgroup.subtree_control", "+memory");
  return poke_file(file, std::to_string(bytes));
}

bool kill_cgroup(const std::string& path) { return poke_file(path + "/cgroup.kill", "1"); }
bool freeze_cgroup(const std::string& path) { return poke_file(path + "/cgroup.freeze", "1"); }

std::optional<bool> cgroup_populated(const std::string& path) {
  const auto value = keyed_value(path + "/cgroup.events", "populated");
  if (!value) return std::nullopt;
  return *value != 0;
}

bool remove_cgroup(const std::string& path) {
  if (DIR* dir = opendir(path.c_str())) {
    while (const dirent* entry = readdir(dir)) {
      const std::string name = entry->d_name;
      if (entry->d_type == DT_DIR && name != "." && name != "..") remove_cgroup(path + "/" + name);
    }
    closedir(dir);
  }
  return rmdir(path.c_str()) == 0 || errno == ENOENT;
}

std::optional<std::int64_t> oom_kills(const std::string& path) {
  return path.empty() ? std::nullopt : keyed_value(path + "/memory.events", "oom_kill");
}

}  // namespace tutti::supervisor
