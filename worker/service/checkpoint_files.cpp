#include "worker/service/checkpoint_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "worker/supervisor/fd.h"

namespace tutti::worker {
namespace {

using supervisor::Fd;
using supervisor::kComplete;
using supervisor::Manifest;
using supervisor::Shard;

constexpr std::size_t kMaxEntries = 10'000;  // of a checkpoint folder
constexpr std::size_t kMaxRefused = 16;      // of one look
constexpr int kLooks = 3;                    // until what is not in order is told
constexpr std::size_t kChunk = 4 << 20;
constexpr std::string_view kTrash = ".tutti-deleted-";
constexpr int kMaxDepth = 32;  // of folders that are deleted

std::string why_errno() { return std::strerror(errno); }

Fd open_folder(int at, const char* name, bool follow) {
  const int nofollow = follow ? 0 : O_NOFOLLOW;
  return Fd(openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | nofollow));
}

struct DirCloser {
  void operator()(DIR* d) const { closedir(d); }
};
using Dir = std::unique_ptr<DIR, DirCloser>;

Dir list(int fd) {
  const int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return nullptr;
  Dir dir(fdopendir(copy));
  if (!dir) close(copy);
  return dir;
}

// What went wrong, and whether it is the file's doing (damage) or the server's.
struct Trouble {
  std::string why;
  bool damage = true;
  bool missing = false;  // it is not there
  bool any() const { return !why.empty(); }
};

Trouble trouble(const std::string& what) {
  const int e = errno;
  const bool damage = e == ENOENT || e == ENOTDIR || e == ELOOP || e == ENAMETOOLONG;
  if (e == ENOENT) return {what + " is missing", true, true};
  if (e == ELOOP) return {what + " is a symbolic link, which is not followed", true};
  return {what + ": " + why_errno(), damage};
}

// A regular file below `folder`, reached without links. The size is known before it is opened: opening a
// device or a FIFO may wait or do something.
struct OpenFile {
  Fd fd;
  struct stat info{};
  Trouble trouble;
};

OpenFile find_file(int folder, const std::string& name, bool open_it) {
  OpenFile out;
  Fd inner;
  int at = folder;
  std::size_t begin = 0;
  for (auto slash = name.find('/'); slash != std::string::npos; slash = name.find('/', begin)) {
    Fd next = open_folder(at, name.substr(begin, slash - begin).c_str(), false);
    if (!next) {
      // The link itself is told apart from a plain file in the way.
      out.trouble = trouble(name);
      return out;
    }
    inner = std::move(next);
    at = inner.get();
    begin = slash + 1;
  }
  const std::string leaf = name.substr(begin);
  if (fstatat(at, leaf.c_str(), &out.info, AT_SYMLINK_NOFOLLOW) != 0) {
    out.trouble = trouble(name);
  } else if (S_ISLNK(out.info.st_mode)) {
    out.trouble = {name + " is a symbolic link, which is not followed", true};
  } else if (!S_ISREG(out.info.st_mode)) {
    out.trouble = {name + " is no regular file", true};
  } else if (open_it) {
    out.fd = Fd(openat(at, leaf.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    if (!out.fd || fstat(out.fd.get(), &out.info) != 0)
      out.trouble = trouble(name);
    else if (!S_ISREG(out.info.st_mode))
      out.trouble = {name + " is no regular file", true};
  }
  return out;
}

struct ReadManifest {
  std::optional<Manifest> manifest;
  Trouble trouble;
};

ReadManifest read_manifest(const OpenFile& file) {
  const auto size = static_cast<std::size_t>(file.info.st_size);
  if (size > supervisor::kMaxManifest)
    return {std::nullopt,
            {std::string(kComplete) + " has " + std::to_string(size) + " bytes, more than " +
                 std::to_string(supervisor::kMaxManifest),
             true}};
  std::string text(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const auto n = pread(file.fd.get(), text.data() + done, size - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return {std::nullopt, {std::string(kComplete) + ": " + why_errno(), false}};
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  text.resize(done);
  auto parsed = supervisor::parse_manifest(text);
  if (!parsed.manifest) return {std::nullopt, {std::string(kComplete) + " " + parsed.why, true}};
  return {std::move(parsed.manifest), {}};
}

// Every file that it lists is there in its size. Without a bound of its own: on a slow file server the answer
// comes late, and no answer would fail the attempt.
Trouble check_sizes(int folder, const Manifest& m) {
  for (const Shard& s : m.list) {
    const auto file = find_file(folder, s.file, false);
    if (file.trouble.any()) return file.trouble;
    if (file.info.st_size != s.bytes)
      return {s.file + " has " + std::to_string(file.info.st_size) + " bytes, not " + std::to_string(s.bytes),
              true};
  }
  return {};
}

ChecksumResult compare_one(int folder, const Shard& s, std::vector<char>& buffer,
                           const std::function<bool()>& stop) {
  const auto file = find_file(folder, s.file, true);
  if (file.trouble.any())
    return {file.trouble.damage ? ChecksumResult::damaged : ChecksumResult::unreadable, file.trouble.why};
  supervisor::Crc32c crc;
  std::int64_t done = 0;
  while (true) {
    if (stop()) return {ChecksumResult::unfinished, "stopped"};
    const auto n = pread(file.fd.get(), buffer.data(), buffer.size(), done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return {ChecksumResult::unreadable, s.file + ": " + why_errno()};
    if (n == 0) break;
    crc.add(buffer.data(), static_cast<std::size_t>(n));
    done += n;
    if (done > s.bytes) break;
  }
  // What is read once should not push out the pages of jobs.
  posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (done != s.bytes)
    return {ChecksumResult::damaged,
            s.file + " has " + std::to_string(done) + " bytes, not " + std::to_string(s.bytes)};
  if (crc.value() != *s.crc32c)
    return {ChecksumResult::damaged, s.file + ": its checksum is " + supervisor::crc_text(crc.value()) +
                                         ", not " + supervisor::crc_text(*s.crc32c) +
                                         ": its data have changed"};
  return {};
}

ChecksumResult compare_all(int folder, const Manifest& m, const std::function<bool()>& stop) {
  std::vector<char> buffer(kChunk);
  for (const Shard& s : m.list) {
    if (!s.crc32c) continue;
    if (auto result = compare_one(folder, s, buffer, stop); result.what != ChecksumResult::held)
      return result;
  }
  return {};
}

// The folder of a checkpoint, which lies directly in the job's checkpoint folder.
struct Place {
  Fd dir, folder;
  std::string name;
  Trouble trouble;
};

bool holds_a_checkpoint(int dir) {
  const Dir entries = list(dir);
  std::size_t seen = 0;
  while (entries && ++seen <= kMaxEntries) {
    const dirent* e = readdir(entries.get());
    if (e == nullptr) return false;
    if (std::strncmp(e->d_name, "step-", 5) == 0) return true;
  }
  return entries != nullptr;  // too many to look at: it is not empty
}

Place open_place(const std::string& dir, const std::string& path) {
  Place p;
  p.dir = open_folder(AT_FDCWD, dir.c_str(), true);
  if (!p.dir) {
    p.trouble = {"the checkpoint folder " + dir + " cannot be opened here: " + why_errno(), false};
    return p;
  }
  if (path.size() <= dir.size() + 1 || !path.starts_with(dir) || path[dir.size()] != '/' ||
      path.find('/', dir.size() + 1) != std::string::npos || path.ends_with("/..")) {
    p.trouble = {path + " does not lie in " + dir, true};
    return p;
  }
  p.name = path.substr(dir.size() + 1);
  p.folder = open_folder(p.dir.get(), p.name.c_str(), false);
  if (p.folder) return p;
  p.trouble = trouble(path);
  // An empty folder is more likely one where nothing is mounted than one from which all have been deleted.
  if (p.trouble.damage && !holds_a_checkpoint(p.dir.get()))
    p.trouble = {
        "the checkpoint folder " + dir + " has no checkpoints on this node; is its file system mounted?",
        false};
  return p;
}

struct Opened {
  Place place;
  std::optional<Manifest> manifest;
  Trouble trouble;
};

// The checkpoint of that step and epoch, or why it is not that.
Opened open_checkpoint(const std::string& dir, const std::string& path, std::int64_t step,
                       std::int64_t epoch) {
  Opened o;
  o.place = open_place(dir, path);
  if (o.place.trouble.any()) {
    o.trouble = o.place.trouble;
    return o;
  }
  const auto file = find_file(o.place.folder.get(), kComplete, true);
  if (file.trouble.any()) {
    o.trouble = file.trouble;
    return o;
  }
  auto read = read_manifest(file);
  o.trouble = read.trouble;
  if (!read.manifest) return o;
  o.manifest = std::move(read.manifest);
  if (epoch > 0 && o.manifest->epoch != epoch)
    o.trouble = {std::string(kComplete) + " is of epoch " + std::to_string(o.manifest->epoch) + ", not " +
                     std::to_string(epoch),
                 true};
  else if (step >= 0 && o.manifest->step != step)
    o.trouble = {std::string(kComplete) + " is of step " + std::to_string(o.manifest->step) + ", not " +
                     std::to_string(step),
                 true};
  return o;
}

// ---------------------------------------------------------------- finding

class Search {
 public:
  Search(const std::string& dir, AttemptKey key, SeenCheckpoints& seen, bool last)
      : dir_(dir), key_(key), seen_(seen), last_(last) {}

  FoundCheckpoints run() {
    const Fd fd = open_folder(AT_FDCWD, dir_.c_str(), true);
    if (!fd) return {};
    const Dir entries = list(fd.get());
    if (!entries) return {};
    std::size_t count = 0;
    while (const dirent* entry = readdir(entries.get())) {
      if (++count > kMaxEntries) break;
      if (std::strncmp(entry->d_name, "step-", 5) == 0) look_at(fd.get(), entry->d_name);
    }
    std::ranges::sort(out_.found, [](const auto& a, const auto& b) {
      return std::tie(a.step, a.path) < std::tie(b.step, b.path);
    });
    return std::move(out_);
  }

 private:
  void look_at(int dir, const std::string& name) {
    const std::string path = dir_ + "/" + name;
    const Fd folder = open_folder(dir, name.c_str(), false);
    if (!folder) {
      struct stat info{};
      if (fstatat(dir, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode))
        not_in_order(path, info, {"is a symbolic link, which is not followed", true});
      return;  // a plain file of that name is none of ours
    }
    struct stat info{};
    if (fstatat(folder.get(), kComplete, &info, AT_SYMLINK_NOFOLLOW) != 0) return;  // being written
    if (is_told(path, info)) return;
    const auto file = find_file(folder.get(), kComplete, true);
    if (file.trouble.any()) return not_in_order(path, info, file.trouble);
    const auto read = read_manifest(file);
    if (!read.manifest) return not_in_order(path, file.info, read.trouble);
    if (read.manifest->epoch < key_.epoch.value) return tell(path, file.info);  // an earlier attempt's
    const auto wrong = check_sizes(folder.get(), *read.manifest);
    if (wrong.any() && !is_time(path, file.info)) return;
    tell(path, file.info);
    if (!wrong.any() && std::ranges::any_of(read.manifest->list, [](const Shard& s) { return !!s.crc32c; }))
      out_.listed.push_back(path);
    protocol::CheckpointFound found;
    found.key = key_;
    found.epoch_in_file = read.manifest->epoch;
    found.step = read.manifest->step;
    found.path = path;
    found.bytes = read.manifest->bytes;
    found.shards = read.manifest->shards;
    found.cost_us = read.manifest->save_us;
    // What only could not be looked at may be whole: it is looked at again before anything begins from it.
    if (wrong.damage) found.problem = wrong.why;
    out_.found.push_back(std::move(found));
  }

  SeenCheckpoint& mark_of(const std::string& path, const struct stat& info) {
    const std::int64_t changed = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec;
    auto& mark = seen_[path];
    if (mark.inode != info.st_ino || mark.changed != changed) mark = {info.st_ino, changed, 0, false};
    return mark;
  }
  bool is_told(const std::string& path, const struct stat& info) { return mark_of(path, info).told; }
  void tell(const std::string& path, const struct stat& info) { mark_of(path, info).told = true; }
  bool is_time(const std::string& path, const struct stat& info) {
    return ++mark_of(path, info).looks >= kLooks || last_;
  }

  void not_in_order(const std::string& path, const struct stat& info, const Trouble& wrong) {
    if (!wrong.damage) return;  // the server's doing: at the next look, as often as it takes
    if (is_told(path, info) || !is_time(path, info) || out_.refused.size() >= kMaxRefused) return;
    tell(path, info);
    std::int64_t step = -1;
    const std::string_view digits = std::string_view(path).substr(dir_.size() + 1 + 5);
    std::from_chars(digits.data(), digits.data() + digits.size(), step);
    out_.refused.push_back({key_, 0, step, path, protocol::CheckpointVerdict::refused, wrong.why});
  }

  const std::string& dir_;
  AttemptKey key_;
  SeenCheckpoints& seen_;
  bool last_;
  FoundCheckpoints out_;
};

// ---------------------------------------------------------------- deleting

// Everything below `fd`. "" = gone.
std::string delete_below(int fd, int depth, const std::function<bool()>& stop) {
  if (depth > kMaxDepth) return "its folders are nested too deeply";
  const Dir entries = list(fd);
  if (!entries) return why_errno();
  while (true) {
    errno = 0;
    const dirent* e = readdir(entries.get());
    if (e == nullptr) return errno == 0 ? "" : why_errno();
    const std::string name = e->d_name;
    if (name == "." || name == "..") continue;
    if (stop()) return "not done in time";
    if (unlinkat(fd, name.c_str(), 0) == 0 || errno == ENOENT) continue;
    if (errno != EISDIR && errno != EPERM) return name + ": " + why_errno();
    const Fd inner = open_folder(fd, name.c_str(), false);
    if (!inner) return name + ": " + why_errno();
    if (auto why = delete_below(inner.get(), depth + 1, stop); !why.empty()) return why;
    if (unlinkat(fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) return name + ": " + why_errno();
  }
}

std::string delete_renamed(int dir, const std::string& trash, uid_t owner,
                           const std::function<bool()>& stop) {
  const Fd folder = open_folder(dir, trash.c_str(), false);
  if (!folder) return errno == ENOENT ? "" : why_errno();
  struct stat info{};
  if (fstat(folder.get(), &info) != 0) return why_errno();
  if (info.st_uid != owner) return "it does not belong to the user of the job";
  if (auto why = delete_below(folder.get(), 0, stop); !why.empty()) return why;
  if (unlinkat(dir, trash.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) return why_errno();
  return "";
}

std::string try_delete(const std::string& dir, uid_t owner, const protocol::DeleteCheckpoint& order,
                       const std::function<bool()>& stop) {
  const Fd at = open_folder(AT_FDCWD, dir.c_str(), true);
  if (!at) return dir + ": " + why_errno();
  // The same order again finds what it has renamed before.
  const std::string trash = std::string(kTrash) + "step-" + std::to_string(order.step) + "-epoch-" +
                            std::to_string(order.epoch_in_file);
  struct stat info{};
  const bool begun = fstatat(at.get(), trash.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
  if (auto why = delete_renamed(at.get(), trash, owner, stop); !why.empty()) return why;
  const auto opened = open_checkpoint(dir, order.path, order.step, order.epoch_in_file);
  if (!opened.place.folder)
    return begun || opened.trouble.missing ? "" : opened.trouble.why;  // missing: done before
  if (!opened.manifest || opened.trouble.any())
    return "it is not what was to be deleted: " + opened.trouble.why;
  if (fstat(opened.place.folder.get(), &info) != 0) return why_errno();
  if (info.st_uid != owner) return "it does not belong to the user of the job";
  if (renameat(at.get(), opened.place.name.c_str(), at.get(), trash.c_str()) != 0) return why_errno();
  // Was it put in place of the one we looked at, in this moment? Then it goes back.
  struct stat moved{};
  if (fstatat(at.get(), trash.c_str(), &moved, AT_SYMLINK_NOFOLLOW) != 0) return why_errno();
  if (moved.st_ino != info.st_ino || moved.st_dev != info.st_dev) {
    renameat(at.get(), trash.c_str(), at.get(), opened.place.name.c_str());
    return "it was replaced while it was to be deleted";
  }
  fsync(at.get());
  return delete_renamed(at.get(), trash, owner, stop);
}

}  // namespace

FoundCheckpoints find_checkpoints(const std::string& dir, AttemptKey key, SeenCheckpoints& seen, bool last) {
  return Search(dir, key, seen, last).run();
}

ChecksumResult compare_checksums(const std::string& dir, const std::string& path, std::int64_t step,
                                 std::int64_t epoch, const std::function<bool()>& stop) {
  const auto opened = open_checkpoint(dir, path, step, epoch);
  if (opened.trouble.any())
    return {opened.trouble.damage ? ChecksumResult::damaged : ChecksumResult::unreadable, opened.trouble.why};
  return compare_all(opened.place.folder.get(), *opened.manifest, stop);
}

ResumeCheck check_resume(const std::string& dir, const protocol::Prepare& p,
                         const std::function<bool()>& stop) {
  using What = ResumeCheck::What;
  const auto opened = open_checkpoint(dir, p.resume_path, p.resume_step, p.resume_epoch);
  Trouble wrong = opened.trouble;
  if (!wrong.any()) wrong = check_sizes(opened.place.folder.get(), *opened.manifest);
  if (wrong.any()) return {wrong.damage ? What::damaged : What::unreachable, wrong.why, false};
  const auto sums = compare_all(opened.place.folder.get(), *opened.manifest, stop);
  switch (sums.what) {
    case ChecksumResult::held: return {What::usable, "", true};
    case ChecksumResult::unfinished: return {What::usable, "", false};
    case ChecksumResult::damaged: return {What::damaged, sums.why, false};
    case ChecksumResult::unreadable: return {What::unreachable, sums.why, false};
  }
  return {What::unreachable, "", false};
}

protocol::CheckpointDeleted delete_checkpoint(const std::string& dir, uid_t owner,
                                              const protocol::DeleteCheckpoint& order,
                                              const std::function<bool()>& stop) {
  const auto why = try_delete(dir, owner, order, stop);
  return {order.key, order.epoch_in_file, order.path, why.empty(), why};
}

}  // namespace tutti::worker
