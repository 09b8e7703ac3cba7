#include "scheduler/service/history_archive.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <random>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "daemon/folder.h"

namespace tutti {
namespace {

namespace fs = std::filesystem;
using std::chrono::days;
using std::chrono::months;
using std::chrono::year_month_day;

constexpr Duration kWindow = std::chrono::hours(1);  // of one question to the store

Instant month_of(Instant at) {
  const year_month_day day(std::chrono::floor<days>(at));
  return std::chrono::sys_days(day.year() / day.month() / 1);
}

Instant next_month(Instant month) {
  const year_month_day day(std::chrono::floor<days>(month));
  return std::chrono::sys_days(day + months(1));
}

std::string name_of(Instant month) {
  const year_month_day day(std::chrono::floor<days>(month));
  char text[16];
  std::snprintf(text, sizeof text, "%04d-%02u", static_cast<int>(day.year()),
                static_cast<unsigned>(day.month()));
  return text;
}

const char* name_of(HistoryPart part) {
  switch (part) {
    case HistoryPart::jobs: return "jobs";
    case HistoryPart::events: return "events";
    case HistoryPart::node_events: return "node-events";
    case HistoryPart::faults: return "faults";
  }
  return "?";
}

std::string stem_of(Instant month, HistoryPart part) { return name_of(month) + "-" + name_of(part); }

[[noreturn]] void fail(const fs::path& path) {
  throw std::runtime_error(path.string() + ": " + std::strerror(errno != 0 ? errno : EIO));
}

// Names in the directory last, where its file system has a way to say so.
void sync_directory(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(path);
  const bool good = ::fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP;
  const int error = errno;
  ::close(fd);
  errno = error;
  if (!good) fail(path);
}

const std::string& host_name() {
  static const std::string name = [] {
    char text[256] = {};
    if (::gethostname(text, sizeof text - 1) != 0 || text[0] == 0) return std::string("unknown");
    std::string host = text;
    std::ranges::replace(host, '/', '_');
    return host;
  }();
  return name;
}

// Of this process and no other: pids come again, in containers soon.
const std::string& process_token() {
  static const std::string token = [] {
    std::random_device dice;
    char text[24];
    std::snprintf(text, sizeof text, "%08x%08x", dice(), dice());
    return std::string(text);
  }();
  return token;
}

constexpr std::string_view kPacked = ".jsonl.gz";

// STEM.jsonl.gz.HOST.PID.TOKEN-N.new: nobody else writes to it, not even this process a second time.
std::string unfinished_name(const std::string& stem) {
  static std::atomic<unsigned> number = 0;
  return stem + std::string(kPacked) + "." + host_name() + "." + std::to_string(::getpid()) + "." +
         process_token() + "-" + std::to_string(++number) + ".new";
}

// Such a name, of a process of this host that is gone.
bool is_orphan(std::string_view name) {
  const auto cut = [&name] {
    const auto at = name.rfind('.');
    const std::string_view last = at == name.npos ? std::string_view() : name.substr(at + 1);
    name = name.substr(0, at == name.npos ? 0 : at);
    return last;
  };
  if (cut() != "new") return false;
  const std::string_view token = cut(), pid_text = cut();
  if (!name.ends_with(std::string(kPacked) + "." + host_name())) return false;
  pid_t pid = 0;
  const auto [end, ec] = std::from_chars(pid_text.data(), pid_text.data() + pid_text.size(), pid);
  if (ec != std::errc() || end != pid_text.data() + pid_text.size() || pid <= 0) return false;
  if (pid == ::getpid()) return !token.starts_with(process_token() + "-");
  return ::kill(pid, 0) != 0 && errno == ESRCH;
}

// What processes that were killed have left. What cannot be removed stays, and does no harm.
void remove_orphans(const fs::path& directory) {
  std::error_code ec;
  for (fs::directory_iterator it(directory, ec), end; !ec && it != end; it.increment(ec)) {
    if (!is_orphan(it->path().filename().native())) continue;
    if (::unlink(it->path().c_str()) == 0)
      spdlog::info("history: {} is removed, its writer is gone", it->path().string());
  }
}

// Lines packed into a file without a name of its own yet, which goes away with this object unless it is
// published.
class PackedLines {
 public:
  PackedLines(const fs::path& directory, const std::string& stem) : path_(directory / unfinished_name(stem)) {
    // Specs hold what people put into the environment of their jobs.
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd_ < 0) fail(path_);
    constexpr int kGzip = MAX_WBITS + 16;  // zlib's way to ask for a gzip header
    if (::deflateInit2(&packer_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) == Z_OK)
      return;
    give_up();
    throw std::bad_alloc();
  }
  // Writes nothing: what is thrown away must not reach a disk any more.
  ~PackedLines() {
    ::deflateEnd(&packer_);
    give_up();
  }
  PackedLines(const PackedLines&) = delete;
  PackedLines& operator=(const PackedLines&) = delete;

  void add(const std::string& line) {
    pack(line, Z_NO_FLUSH);
    pack("\n", Z_NO_FLUSH);
    ++lines_;
  }
  /// All of it is on the disk.
  void finish() {
    pack({}, Z_FINISH);
    write_out();
    if (::fsync(fd_) != 0) fail(path_);
  }
  /// False: the name is taken.
  bool publish(const fs::path& name) {
    bool done =
        ::syscall(SYS_renameat2, AT_FDCWD, path_.c_str(), AT_FDCWD, name.c_str(), RENAME_NOREPLACE) == 0;
    if (!done && (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP)) {  // as on NFS
      done = ::link(path_.c_str(), name.c_str()) == 0;
      if (done) ::unlink(path_.c_str());
    }
    if (!done && errno != EEXIST) fail(name);
    published_ = done;
    return done;
  }
  std::int64_t lines() const { return lines_; }

 private:
  void pack(std::string_view text, int flush) {
    packer_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    packer_.avail_in = static_cast<uInt>(text.size());
    do {
      if (packer_.avail_out == 0) write_out();
      ::deflate(&packer_, flush);  // cannot fail: it is only asked for more where there is room
    } while (packer_.avail_out == 0);
  }
  void write_out() {
    const Bytef* from = out_.data();
    while (packer_.next_out != nullptr && from != packer_.next_out) {
      const ssize_t n = ::write(fd_, from, static_cast<std::size_t>(packer_.next_out - from));
      if (n < 0 && errno != EINTR) fail(path_);
      if (n > 0) from += n;
    }
    packer_.next_out = out_.data();
    packer_.avail_out = static_cast<uInt>(out_.size());
  }
  void give_up() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    if (!published_) ::unlink(path_.c_str());
  }

  fs::path path_;
  int fd_ = -1;
  std::vector<Bytef> out_ = std::vector<Bytef>(std::size_t{1} << 16);
  z_stream packer_{};
  std::int64_t lines_ = 0;
  bool published_ = false;
};

}  // namespace

struct HistoryArchive::Month {
  explicit Month(Instant month) : from(month), until(next_month(month)), place{month, 0} {}
  Instant from, until;
  HistoryPlace place;  // of the part that is being written
  // By part; null: published before, or not begun.
  std::array<std::unique_ptr<PackedLines>, kHistoryParts.size()> files;
  std::size_t finished = 0;
};

HistoryArchive::HistoryArchive(std::shared_ptr<RetentionStore> store, Settings settings)
    : store_(std::move(store)), settings_(std::move(settings)) {
  try {
    daemon::make_folder("--history-archive", settings_.directory.string());
  } catch (const std::runtime_error& e) {
    spdlog::warn("{}: old history stays until it can be", e.what());
  }
}

HistoryArchive::~HistoryArchive() = default;

std::optional<Instant> HistoryArchive::advance(Instant before) {
  const Instant limit = month_of(before);
  if (!until_) {
    remove_orphans(settings_.directory);
    const auto oldest = store_->oldest();
    until_ = oldest ? std::min(month_of(*oldest), limit) : limit;
  }
  const auto give_up = std::chrono::steady_clock::now() + settings_.at_once;
  try {
    while (*until_ < limit) {
      if (!month_) month_ = std::make_unique<Month>(*until_);
      bool whole = false;
      while (!(whole = write_some()) && std::chrono::steady_clock::now() < give_up) {
      }
      if (!whole) return std::nullopt;
      publish();
      until_ = month_->until;
      published_ = {};
      month_.reset();
    }
  } catch (...) {
    month_.reset();
    throw;
  }
  return until_;
}

// One page of an hour.
bool HistoryArchive::write_some() {
  Month& m = *month_;
  if (m.finished == kHistoryParts.size()) return true;
  auto& file = m.files[m.finished];
  const auto next = [&m] {
    ++m.finished;
    m.place = {m.from, 0};
    return m.finished == kHistoryParts.size();
  };
  if (published_[m.finished]) return next();
  const HistoryPart part = kHistoryParts[m.finished];
  if (!file) file = std::make_unique<PackedLines>(settings_.directory, stem_of(m.from, part));
  const Instant window =
      std::min(Instant(std::chrono::floor<std::chrono::hours>(m.place.at)) + kWindow, m.until);
  const HistoryPage page = store_->read(part, m.place, window, settings_.page);
  for (const auto& line : page.lines) file->add(line);
  if (!page.lines.empty()) {  // a page may be smaller than it could be, where rows are large
    m.place = page.last;
  } else if (window < m.until) {
    m.place = {window, 0};
  } else {
    file->finish();
    return next();
  }
  return false;
}

void HistoryArchive::publish() {
  std::int64_t lines = 0;
  for (std::size_t i = 0; i < kHistoryParts.size(); ++i) {
    PackedLines* file = month_->files[i].get();
    if (file == nullptr || file->lines() == 0) continue;
    const std::string stem = (settings_.directory / stem_of(month_->from, kHistoryParts[i])).string();
    fs::path name = stem + std::string(kPacked);
    for (int n = 2; !file->publish(name); ++n) name = stem + "-" + std::to_string(n) + std::string(kPacked);
    // What fails from here on begins the month anew, without this part: else there would be a copy each time.
    published_[i] = true;
    lines += file->lines();
  }
  if (std::ranges::find(published_, true) == published_.end()) return;
  sync_directory(settings_.directory);
  spdlog::info("history: {} is archived, {} rows", name_of(month_->from), lines);
}

}  // namespace tutti
