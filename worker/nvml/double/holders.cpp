// See holders.h.
#include "worker/nvml/double/holders.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

namespace tutti::nvml::sim {
namespace {

constexpr auto kRecent = std::chrono::seconds(1);
constexpr std::string_view kDeviceName = "/nvidia";  // followed by the minor number

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};
using FolderHandle = std::unique_ptr<DIR, CloseFolder>;

// Whether a descriptor of this name may be a device file. No foreign descriptor is looked at any closer: stat
// of a dead network file would block.
bool may_be_device(const std::string& link) {
  char target[4096];
  const ssize_t length = readlink(link.c_str(), target, sizeof target);
  if (length <= 0) return false;
  const std::string_view path(target, static_cast<std::size_t>(length));
  const auto slash = path.rfind('/');
  return slash != std::string_view::npos && path.substr(slash).starts_with(kDeviceName);
}

}  // namespace

Holders& Holders::instance() {
  static Holders* const holders = new Holders;  // never destroyed, like the Driver
  return *holders;
}

// Files are told apart by inode, because in another mount namespace the same file has another path.
Holders::Found Holders::look() {
  Found found;
  FolderHandle processes(opendir("/proc"));
  if (!processes) return found;
  while (const dirent* process = readdir(processes.get())) {
    const char* end = process->d_name + std::strlen(process->d_name);
    unsigned pid = 0;
    const auto [stop, error] = std::from_chars(process->d_name, end, pid);
    if (error != std::errc{} || stop != end) continue;
    const std::string folder = std::string("/proc/") + process->d_name + "/fd";
    FolderHandle descriptors(opendir(folder.c_str()));
    if (!descriptors) continue;
    while (const dirent* descriptor = readdir(descriptors.get())) {
      if (descriptor->d_name[0] == '.') continue;
      const std::string link = folder + "/" + descriptor->d_name;
      struct stat status{};
      if (!may_be_device(link) || stat(link.c_str(), &status) != 0) continue;
      auto& pids = found[{status.st_dev, status.st_ino}];
      if (pids.empty() || pids.back() != pid) pids.push_back(pid);
    }
  }
  for (auto& [file, pids] : found) std::sort(pids.begin(), pids.end());
  return found;
}

std::vector<unsigned> Holders::of(const Found& found, const std::string& device_path) {
  struct stat status{};
  if (stat(device_path.c_str(), &status) != 0) return {};
  const auto entry = found.find({status.st_dev, status.st_ino});
  return entry == found.end() ? std::vector<unsigned>{} : entry->second;
}

std::vector<unsigned> Holders::now(const std::string& device_path) {
  const auto began = std::chrono::steady_clock::now();
  Found found = look();
  std::lock_guard lock(mutex_);
  if (began > looked_at_) {  // else another thread began later than we did, and its answer is fresher
    found_ = std::move(found);
    looked_at_ = began;
  }
  return of(found_, device_path);
}

std::vector<unsigned> Holders::recently(const std::string& device_path) {
  {
    std::lock_guard lock(mutex_);
    if (std::chrono::steady_clock::now() - looked_at_ < kRecent) return of(found_, device_path);
  }
  return now(device_path);
}

}  // namespace tutti::nvml::sim
