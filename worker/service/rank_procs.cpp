#include "worker/service/rank_procs.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "worker/supervisor/files.h"

namespace tutti::worker {
namespace {

using supervisor::read_file;

constexpr std::size_t kMaxProcesses = 64;
constexpr std::size_t kMaxThreads = 256;

std::string proc(pid_t pid, const std::string& leaf) { return "/proc/" + std::to_string(pid) + "/" + leaf; }

struct Stat {
  char state = 'X';
  long long ticks = 0;
};

Stat stat_of(pid_t pid) {
  const auto text = read_file(proc(pid, "stat"), 4096);
  const auto name_end = text ? text->rfind(')') : std::string::npos;
  if (name_end == std::string::npos || name_end + 2 > text->size()) return {};
  std::istringstream fields(text->substr(name_end + 1));
  Stat s;
  std::string skip;
  fields >> s.state;
  for (int i = 4; i < 14; ++i) fields >> skip;
  long long user = 0, system = 0, children_user = 0, children_system = 0;
  fields >> user >> system >> children_user >> children_system;  // fields 14 to 17 of proc(5)
  s.ticks = user + system + children_user + children_system;
  return s;
}

char state_in(const std::string& stat) {
  const auto name_end = stat.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= stat.size() ? 'X' : stat[name_end + 2];
}

std::int64_t io_of(pid_t pid) {
  const auto text = read_file(proc(pid, "io"), 4096);
  if (!text) return 0;
  std::int64_t sum = 0;
  std::istringstream lines(*text);
  std::string name;
  for (long long value = 0; lines >> name >> value;)
    if (name == "rchar:" || name == "wchar:") sum += value;
  return sum;
}

std::string wait_of(pid_t pid) {
  auto text = read_file(proc(pid, "wchan"), 256).value_or("");
  return text == "0" ? "" : text;
}

}  // namespace

std::vector<pid_t> processes_under(pid_t program) {
  std::vector<pid_t> found;
  if (program <= 1) return found;
  found.push_back(program);
  for (std::size_t i = 0; i < found.size() && found.size() < kMaxProcesses; ++i) {
    const std::string tasks = proc(found[i], "task");
    DIR* dir = opendir(tasks.c_str());
    if (dir == nullptr) continue;
    std::size_t threads = 0;
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_name[0] == '.' || ++threads > kMaxThreads) continue;
      std::istringstream children(read_file(tasks + "/" + entry->d_name + "/children", 65536).value_or(""));
      for (pid_t child = 0; children >> child && found.size() < kMaxProcesses;)
        if (std::ranges::find(found, child) == found.end()) found.push_back(child);
    }
    closedir(dir);
  }
  return found;
}

std::string why_not_to_stop(pid_t pid) {
  const std::string tasks = proc(pid, "task");
  DIR* dir = opendir(tasks.c_str());
  if (dir == nullptr) return "it has gone";
  std::string why;
  while (const dirent* entry = why.empty() ? readdir(dir) : nullptr) {
    if (entry->d_name[0] == '.') continue;
    const char state = state_in(read_file(tasks + "/" + entry->d_name + "/stat", 4096).value_or(""));
    if (state == 'D' || state == 'T' || state == 't')
      why = "thread " + std::string(entry->d_name) + " of process " + std::to_string(pid) +
            (state == 'D' ? " waits in the kernel" : " is stopped");
  }
  closedir(dir);
  return why;
}

RankUse look_at_rank(pid_t program) {
  static const long long ticks_per_second = sysconf(_SC_CLK_TCK);
  RankUse use;
  long long ticks = 0;
  bool any = false;
  for (const pid_t pid : processes_under(program)) {
    const Stat s = stat_of(pid);
    if (s.state == 'X') continue;
    ticks += s.ticks;
    use.io_bytes += io_of(pid);
    if (s.state == 'Z') continue;
    const bool stopped = s.state == 'T' || s.state == 't';
    if (!any || (stopped && use.state != "T")) {  // the program's own, unless another one is stopped
      use.state = stopped ? "T" : std::string(1, s.state);
      use.waits_in = wait_of(pid);
    }
    any = true;
  }
  if (!any) use.state = "gone";
  use.cpu = Duration(ticks * 1'000'000 / ticks_per_second);
  return use;
}

}  // namespace tutti::worker
