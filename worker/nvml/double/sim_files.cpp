// See sim_files.h.
#include "worker/nvml/double/sim_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

namespace tutti::nvml::sim {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  bool valid() const { return value_ >= 0; }

 private:
  int value_;
};

std::string because(const std::string& path) { return path + ": " + std::strerror(errno); }

bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

std::string store_state(const Folder& folder, const State& state) {
  const std::string draft = folder.state() + ".new";
  {
    Descriptor file(open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file.valid() || !write_all(file.get(), format_state(state))) return because(draft);
  }
  if (rename(draft.c_str(), folder.state().c_str()) != 0) return because(folder.state());
  return {};
}

// Creates an empty file of exactly this mode, whatever the umask.
std::string create_file(const std::string& path, mode_t mode, int extra_flags) {
  Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | extra_flags, mode));
  if (!file.valid() || fchmod(file.get(), mode) != 0) return because(path);
  return {};
}

std::string make_folders(const std::string& path) {
  for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const std::string part = path.substr(0, at);
    if (mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) return because(part);
    if (at == std::string::npos) return {};
  }
}

}  // namespace

Folder folder_of(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return {path};
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return {"."};
  return {slash == 0 ? "/" : path.substr(0, slash)};
}

std::optional<State> load_state(const Folder& folder, std::string& problem) {
  Descriptor file(open(folder.state().c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!file.valid() || fstat(file.get(), &status) != 0) {
    problem = because(folder.state());
    return std::nullopt;
  }
  if (status.st_size > kMaxStateBytes) {
    problem = folder.state() + ": larger than a state can be";
    return std::nullopt;
  }
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = read(file.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  auto state = parse_state(text, problem);
  if (!state) problem = folder.state() + ": " + problem;
  return state;
}

std::string create_machine(const Folder& folder, NodePlan plan) {
  if (std::string why = make_folders(folder.devices()); !why.empty()) return why;
  char resolved[PATH_MAX];
  if (realpath(folder.devices().c_str(), resolved) == nullptr) return because(folder.devices());
  plan.device_folder = resolved;
  const State state = make_state(plan);
  for (const Gpu& gpu : state.gpus) {
    if (std::string why = create_file(gpu.device_path, 0666, 0); !why.empty()) return why;
  }
  if (std::string why = create_file(folder.lock(), 0644, 0); !why.empty()) return why;
  // Never shortened: a reader's offset into it must stay good.
  if (std::string why = create_file(folder.events(), 0644, O_APPEND); !why.empty()) return why;
  Descriptor lock(open(folder.lock().c_str(), O_RDWR | O_CLOEXEC));
  if (!lock.valid() || flock(lock.get(), LOCK_EX) != 0) return because(folder.lock());
  return store_state(folder, state);
}

std::string update_state(const Folder& folder, const std::function<std::string(State&)>& change) {
  Descriptor lock(open(folder.lock().c_str(), O_RDWR | O_CLOEXEC));
  if (!lock.valid() || flock(lock.get(), LOCK_EX) != 0) {
    return because(folder.lock()) + " (is it a machine made by tutti-gpu-sim init?)";
  }
  std::string problem;
  auto state = load_state(folder, problem);
  if (!state) return problem;
  if (std::string refused = change(*state); !refused.empty()) return refused;
  return store_state(folder, *state);
}

std::string append_event(const Folder& folder, const Event& event) {
  Descriptor file(open(folder.events().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  struct stat status{};
  if (!file.valid() || fstat(file.get(), &status) != 0) return because(folder.events());
  if (status.st_size > kMaxEventLogBytes) return folder.events() + ": full; make the machine anew";
  const std::string line = format_event(event);
  // One write of a short line: with O_APPEND, lines of two writers do not mix.
  if (write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    return because(folder.events());
  }
  return {};
}

}  // namespace tutti::nvml::sim
