#include "scheduler/service/report_writer.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "api/handlers/history.h"
#include "api/handlers/report.h"
#include "api/wire/text_values.h"
#include "daemon/folder.h"

namespace tutti {
namespace {

constexpr Duration kAgainAfter = std::chrono::minutes(5);

[[noreturn]] void fail(const std::string& path) {
  throw std::runtime_error(path + ": " + std::strerror(errno));
}

// Whole or not at all, also over a crash of the machine.
void write_whole(const std::string& path, const std::string& text) {
  const std::string beside = path + ".new";
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd < 0) fail(beside);
  std::size_t done = 0;
  while (done < text.size()) {
    const auto n = ::write(fd, text.data() + done, text.size() - done);
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  const bool good = done == text.size() && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  if (!good) {
    errno = error;
    fail(beside);
  }
  if (::rename(beside.c_str(), path.c_str()) != 0) fail(path);
}

}  // namespace

ReportWriter::ReportWriter(Backend& backend, const History* history, Aside disk, std::string directory)
    : backend_(backend), history_(history), disk_(std::move(disk)), directory_(std::move(directory)) {
  if (!directory_.empty()) daemon::make_folder("--report-dir", directory_);
}

void ReportWriter::step() {
  if (directory_.empty() || under_way_ || backend_.plane() == nullptr) return;
  const Now now = backend_.now();
  const Instant yesterday = Instant(std::chrono::floor<std::chrono::days>(now.wall)) - std::chrono::hours(24);
  if (written_ && *written_ >= yesterday) return;
  if (now.mono < again_at_) return;
  const std::string name = directory_ + "/" + wire::format_instant(yesterday).substr(0, 10);
  // The JSON file is written last: where it is, the day is done.
  if (::access((name + ".json").c_str(), F_OK) == 0) {
    written_ = yesterday;
    return;
  }
  write(yesterday, name);
}

void ReportWriter::write(Instant day, std::string name) {
  under_way_ = true;
  const auto ended = [this, day, name](const std::string& trouble) {
    under_way_ = false;
    if (trouble.empty()) {
      written_ = day;
      return spdlog::info("report of the day written: {}.md", name);
    }
    again_at_ = backend_.now().mono + kAgainAfter;
    spdlog::error("the report of the day cannot be written: {}; tried again in five minutes", trouble);
  };
  make_report(backend_, history_, day, [this, name, ended](Result<DayReport> report) {
    if (!report) return ended(report.error().message);
    const auto view = report_view(*report);
    disk_(
        [name, markdown = report_text(view, ReportStyle::markdown), json = boost::json::serialize(view)] {
          write_whole(name + ".md", markdown);
          write_whole(name + ".json", json + "\n");
        },
        [ended](std::exception_ptr failure) { ended(failure ? text_of(failure) : ""); });
  });
}

}  // namespace tutti
