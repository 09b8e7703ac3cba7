#include "worker/container/image_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"

namespace tutti::container {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using supervisor::Fd;

// Longer than from the end of its preparation to the start of its ranks.
constexpr auto kUnusedFor = std::chrono::minutes(20);
constexpr std::string_view kWork = ".work";
constexpr std::uintmax_t kAsGoodAsNothing = 64 << 20;  // bytes free on a disk

Fd open_lock(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) supervisor::throw_errno("open " + path);
  return fd;
}

std::int64_t bytes_below(const std::string& folder) {
  std::int64_t sum = 0;
  std::error_code ec;
  for (fs::recursive_directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    struct stat s{};
    if (lstat(it->path().c_str(), &s) == 0) sum += s.st_blocks * 512;
  }
  return sum;
}

std::int64_t noted_size(const std::string& folder) {
  const auto text = supervisor::read_file(folder + "/size", 64);
  return text ? std::atoll(text->c_str()) : 0;
}

// Also folders that their owner may not write to: layers have such, and one that was cut short leaves them
// so.
void remove_tree(const std::string& folder, std::error_code& ec) {
  fs::remove_all(folder, ec);
  if (!ec) return;
  std::error_code over;
  fs::recursive_directory_iterator it(folder, over);
  for (const fs::recursive_directory_iterator end; !over && it != end; it.increment(over)) {
    std::error_code odd;
    if (it->symlink_status(odd).type() == fs::file_type::directory)
      fs::permissions(it->path(), fs::perms::owner_all, fs::perm_options::add, odd);
  }
  fs::remove_all(folder, ec);
}

struct Entry {
  std::string folder;
  fs::file_time_type used;
  std::int64_t bytes = 0;
};

// A folder under its own name is whole: one that is only half removed must not have it.
void remove_image(const std::string& folder, std::error_code& ec) {
  const auto work = folder + std::string(kWork);
  fs::remove_all(work, ec);
  if (!ec) fs::rename(folder, work, ec);
  if (!ec) fs::remove_all(work, ec);
}

// What an interrupted fetch, or removal, has left; what is being made is locked.
void remove_left(const std::string& work) {
  const auto lock = open_lock(work.substr(0, work.size() - kWork.size()) + ".lock");
  std::error_code ec;  // what cannot be removed now is tried again by the next
  if (flock(lock.get(), LOCK_EX | LOCK_NB) == 0) remove_tree(work, ec);
}

// Makes room for what has just come, by what has not been used for longest. Returns what is left.
std::int64_t shrink(const std::string& cache, std::int64_t limit, const std::string& spared) {
  std::vector<Entry> all;
  std::vector<std::string> left;
  std::int64_t sum = 0;
  for (const auto& entry : fs::directory_iterator(cache)) {
    const auto path = entry.path().string();
    if (!entry.is_directory()) continue;
    if (path.ends_with(kWork)) {
      left.push_back(path);
      continue;
    }
    std::error_code ec;
    all.push_back({path, fs::last_write_time(path + ".lock", ec), noted_size(path)});
    sum += all.back().bytes;
  }
  for (const auto& work : left) remove_left(work);
  std::ranges::sort(all, {}, &Entry::used);
  for (const auto& entry : all) {
    if (sum <= limit) break;
    if (entry.folder == spared || fs::file_time_type::clock::now() - entry.used < kUnusedFor) continue;
    const auto lock = open_lock(entry.folder + ".lock");
    if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) continue;  // somebody runs in it
    std::error_code ec;
    remove_image(entry.folder, ec);
    if (!ec) sum -= entry.bytes;
  }
  return sum;
}

std::vector<std::string> read_variables(const std::string& folder) {
  const auto text = supervisor::read_file(folder + "/variables");
  if (!text) throw std::runtime_error(folder + " is damaged: remove it");
  std::vector<std::string> out;
  const auto list = json::parse(*text);
  for (const auto& v : list.as_array()) out.emplace_back(v.as_string());
  return out;
}

// Returns with the lock held: shared when the image is there, exclusively when it is to be made. Shared also
// where nobody has it: its ranks take it meanwhile.
void take(const Fd& lock, const std::string& folder, const std::string& identity) {
  const auto wait = [&](int how) {
    while (flock(lock.get(), how) != 0)
      if (errno != EINTR) supervisor::throw_errno("flock");
  };
  bool said = false;
  while (true) {
    if (fs::exists(folder)) {
      wait(LOCK_SH);
      if (fs::exists(folder)) return;  // else it was removed to make room, while we waited
    }
    if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (!said) std::printf("waiting for another attempt that unpacks %s\n", identity.c_str());
      std::fflush(stdout);
      said = true;
      wait(LOCK_EX);
    }
    if (!fs::exists(folder)) return;
  }
}

struct DiskFull : std::runtime_error {
  using std::runtime_error::runtime_error;
};

bool is_full(const std::string& folder) {
  struct statvfs disk{};
  if (statvfs(folder.c_str(), &disk) != 0) return false;
  const bool no_inodes = disk.f_files > 0 && disk.f_favail == 0;  // some file systems count none
  return no_inodes || std::uintmax_t{disk.f_bavail} * disk.f_frsize < kAsGoodAsNothing;
}

using Make = std::function<std::vector<std::string>(const std::string& work, const std::string& root)>;

// <work>/out/{root,variables,size}; returns its size. What has failed is removed at once: a disk that it has
// filled keeps the node from work, so that nobody would come here again to remove it.
std::int64_t make_image(const std::string& work, const Make& make) {
  std::error_code left;  // of one that was interrupted
  remove_tree(work, left);
  if (left) throw fs::filesystem_error("cannot be removed", work, left);
  try {
    fs::create_directories(work + "/out");
    const auto variables = make(work, work + "/out/root");
    const auto size = bytes_below(work + "/out");
    const json::array list(variables.begin(), variables.end());
    supervisor::replace_file(work + "/out/variables", json::serialize(list), false);
    supervisor::replace_file(work + "/out/size", std::to_string(size), false);
    return size;
  } catch (const std::exception& e) {
    const bool full = is_full(work);
    std::error_code ec;
    remove_tree(work, ec);
    if (full) throw DiskFull(std::string(e.what()) + ": the disk of " + work + " is full");
    throw;
  }
}

// The disk may hold less than the limit: then what nobody uses goes, and it is tried once more.
std::int64_t make_with_room(const std::string& cache, const std::string& folder, const Make& make) {
  const auto work = folder + std::string(kWork);
  try {
    return make_image(work, make);
  } catch (const DiskFull& e) {
    std::printf("%s; images that nobody uses make room, and it is tried again\n", e.what());
    std::fflush(stdout);
  }
  shrink(cache, 0, folder);
  return make_image(work, make);
}

}  // namespace

Fd hold_image(const std::string& lock, std::chrono::milliseconds patience) {
  Fd fd(open(lock.c_str(), O_RDWR));
  if (!fd) supervisor::throw_errno("open " + lock);
  const auto until = std::chrono::steady_clock::now() + patience;
  while (flock(fd.get(), LOCK_SH | LOCK_NB) != 0) {
    const bool others = errno == EWOULDBLOCK || errno == EINTR;
    if (!others || std::chrono::steady_clock::now() >= until) supervisor::throw_errno("hold the image");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return fd;
}

std::string cache_key(const std::string& identity) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char c : identity) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

CachedImage cached_image(
    const std::string& cache, std::int64_t limit, const std::string& identity,
    const std::function<std::vector<std::string>(const std::string& work, const std::string& root)>& make) {
  const auto folder = cache + "/" + cache_key(identity);
  const auto lock = open_lock(folder + ".lock");
  take(lock, folder, identity);
  futimens(lock.get(), nullptr);  // used now
  if (!fs::exists(folder)) {
    const auto size = make_with_room(cache, folder, make);
    const auto work = folder + std::string(kWork);
    fs::rename(work + "/out", folder);
    fs::remove_all(work);
    if (const auto sum = shrink(cache, limit, folder); sum > limit) {
      std::error_code ec;
      remove_image(folder, ec);
      throw std::runtime_error("the image needs " + std::to_string(size >> 20) +
                               " MiB, and images in use hold " + std::to_string((sum - size) >> 20) +
                               " of the " + std::to_string(limit >> 20) +
                               " MiB that are for images on this node (--image-cache)");
    }
  }
  return {folder + "/root", read_variables(folder), folder + ".lock"};
}

}  // namespace tutti::container
