#include "scheduler/service/history_archive.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

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

[[noreturn]] void fail(const fs::path& path) {
  throw std::runtime_error(path.string() + ": " + std::strerror(errno != 0 ? errno : EIO));
}

// Names in the directory last.
void sync_directory(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(path);
  const bool good = ::fsync(fd) == 0;
  ::close(fd);
  if (!good) fail(path);
}

// Lines packed into PATH.new, which goes away with this object unless it is published.
class PackedLines {
 public:
  explicit PackedLines(fs::path path) : path_(std::move(path)) {
    path_ += ".new";
    // Specs hold what people put into the environment of their jobs.
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd_ < 0) fail(path_);
    const int packed = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    gz_ = packed < 0 ? nullptr : ::gzdopen(packed, "wb");
    if (gz_ != nullptr) return;
    const int error = errno;
    if (packed >= 0) ::close(packed);
    give_up();
    errno = error;
    fail(path_);
  }
  ~PackedLines() {
    if (gz_ != nullptr) ::gzclose(gz_);
    give_up();
  }
  PackedLines(const PackedLines&) = delete;
  PackedLines& operator=(const PackedLines&) = delete;

  void add(const std::string& line) {
    errno = 0;
    if (::gzwrite(gz_, line.data(), static_cast<unsigned>(line.size())) != static_cast<int>(line.size()) ||
        ::gzputc(gz_, '\n') != '\n')
      fail(path_);
    ++lines_;
  }
  /// All of it is on the disk.
  void finish() {
    errno = 0;
    if (::gzclose(std::exchange(gz_, nullptr)) != Z_OK || ::fsync(fd_) != 0) fail(path_);
  }
  void publish(const fs::path& name) {
    if (::rename(path_.c_str(), name.c_str()) != 0) fail(name);
    published_ = true;
  }
  std::int64_t lines() const { return lines_; }

 private:
  void give_up() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    if (!published_) ::unlink(path_.c_str());
  }

  fs::path path_;
  int fd_ = -1;
  gzFile gz_ = nullptr;
  std::int64_t lines_ = 0;
  bool published_ = false;
};

}  // namespace

struct HistoryArchive::Month {
  explicit Month(Instant month) : from(month), until(next_month(month)), place{month, 0} {}
  Instant from, until;
  HistoryPlace place;                               // of the part that is being written
  std::vector<std::unique_ptr<PackedLines>> files;  // by part; all but the last are finished
  std::size_t finished = 0;
};

HistoryArchive::HistoryArchive(std::shared_ptr<RetentionStore> store, Settings settings)
    : store_(std::move(store)), settings_(std::move(settings)) {
  std::error_code ec;
  fs::create_directories(settings_.directory, ec);
  if (ec || ::access(settings_.directory.c_str(), W_OK | X_OK) != 0)
    throw std::runtime_error("--history-archive " + settings_.directory.string() +
                             ": cannot be made or written" + (ec ? ": " + ec.message() : ""));
}

HistoryArchive::~HistoryArchive() = default;

std::optional<Instant> HistoryArchive::advance(Instant before) {
  const Instant limit = month_of(before);
  if (!until_) {
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
  const HistoryPart part = kHistoryParts[m.finished];
  if (m.files.size() == m.finished)
    m.files.push_back(std::make_unique<PackedLines>(settings_.directory /
                                                    (name_of(m.from) + "-" + name_of(part) + ".jsonl.gz")));
  const Instant window =
      std::min(Instant(std::chrono::floor<std::chrono::hours>(m.place.at)) + kWindow, m.until);
  const HistoryPage page = store_->read(part, m.place, window, settings_.page);
  for (const auto& line : page.lines) m.files.back()->add(line);
  if (page.lines.size() >= static_cast<std::size_t>(settings_.page)) {
    m.place = page.last;
  } else if (window < m.until) {
    m.place = {window, 0};
  } else {
    m.files.back()->finish();
    ++m.finished;
    m.place = {m.from, 0};
  }
  return m.finished == kHistoryParts.size();
}

void HistoryArchive::publish() {
  std::int64_t lines = 0;
  for (std::size_t i = 0; i < month_->files.size(); ++i) {
    if (month_->files[i]->lines() == 0) continue;
    const std::string stem = name_of(month_->from) + "-" + name_of(kHistoryParts[i]);
    fs::path name = settings_.directory / (stem + ".jsonl.gz");
    for (int n = 2; fs::exists(name); ++n)
      name = settings_.directory / (stem + "-" + std::to_string(n) + ".jsonl.gz");
    month_->files[i]->publish(name);
    lines += month_->files[i]->lines();
  }
  if (lines == 0) return;
  sync_directory(settings_.directory);
  spdlog::info("history: {} is archived, {} rows", name_of(month_->from), lines);
}

}  // namespace tutti
