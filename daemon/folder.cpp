#include "daemon/folder.h"

#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace tutti::daemon {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void complain(const std::string& flag, const std::string& folder, const std::string& why) {
  throw std::runtime_error(flag + " " + folder + ": cannot be made or written: " + why);
}

// A link that leads nowhere is there.
fs::path nearest_that_is_there(const std::string& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  std::error_code ec;
  while (!fs::exists(fs::symlink_status(path, ec)) && path.has_relative_path()) path = path.parent_path();
  return path;
}

}  // namespace

void look_at_folder(const std::string& flag, const std::string& folder) {
  const fs::path nearest = nearest_that_is_there(folder);
  std::error_code ec;
  if (!fs::is_directory(nearest, ec)) complain(flag, folder, nearest.string() + " is no directory");
  std::string trial = (nearest / ".tutti-trial-XXXXXX").string();
  const bool good = ::access(nearest.c_str(), R_OK) == 0 && ::mkdtemp(trial.data()) != nullptr;
  if (good)
    ::rmdir(trial.c_str());
  else if (errno != ENOSPC && errno != EDQUOT)
    complain(flag, folder, nearest.string() + ": " + std::strerror(errno));
}

void make_folder(const std::string& flag, const std::string& folder) {
  look_at_folder(flag, folder);
  std::error_code ec;
  fs::create_directories(folder, ec);
  if (ec) complain(flag, folder, ec.message());
}

}  // namespace tutti::daemon
