#include "api/http/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

namespace tutti::http {
namespace {

std::size_t resident_pages() {
  std::ifstream in("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  in >> size >> resident;
  return resident;
}

std::size_t open_files() {
  std::error_code ec;
  std::size_t n = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", ec), end; !ec && at != end; at.increment(ec))
    ++n;
  return n > 0 ? n - 1 : 0;  // one of them is that of this look
}

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
}

double start_time() {
  static const double at =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return at;
}
// Of the process, and not of the first scrape.
[[maybe_unused]] const double kStarted = start_time();

}  // namespace

void add_process_metrics(MetricText& text, std::string_view version, std::string_view program) {
  text.add("tutti_build_info", {version, program}, 1);
  text.add("tutti_start_time_seconds", start_time());
  rusage used{};
  if (getrusage(RUSAGE_SELF, &used) == 0)
    text.add("tutti_process_cpu_seconds_total", seconds(used.ru_utime) + seconds(used.ru_stime));
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  text.add("tutti_process_resident_memory_bytes", static_cast<double>(resident_pages()) * page);
  text.add("tutti_process_open_fds", static_cast<double>(open_files()));
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0)
    text.add("tutti_process_max_fds", static_cast<double>(files.rlim_cur));
}

}  // namespace tutti::http
