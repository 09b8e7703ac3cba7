#include "worker/container/sandbox.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <stdexcept>

namespace tutti::container {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostWords = 8900;  // bubblewrap takes 9000
constexpr auto kDriver = "/.tutti/driver";
constexpr auto kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

bool below(const std::string& path, const std::string& folder) {
  return path == folder || path.starts_with(folder == "/" ? folder : folder + "/");
}

bool is_there(const std::string& path) {
  struct stat s{};
  return lstat(path.c_str(), &s) == 0 && !S_ISLNK(s.st_mode);
}

using Targets =
    std::map<std::string, std::vector<std::string>>;  // path inside → words that make it; in order

class Layout {
 public:
  Layout(const std::string& root, const Targets& targets) : root_(root), targets_(targets) {}

  std::vector<std::string> words() {
    words_ = {"--tmpfs", "/"};
    fill("");
    for (const auto& [target, how] : targets_) words_.insert(words_.end(), how.begin(), how.end());
    return std::move(words_);
  }

 private:
  // A mount point is missing somewhere below: it cannot be made in the image itself.
  bool lacks_one(const std::string& folder) const {
    for (auto it = targets_.upper_bound(folder + "/"); it != targets_.end(); ++it) {
      if (!it->first.starts_with(folder + "/")) break;
      if (!is_there(root_ + it->first)) return true;
    }
    return false;
  }

  void fill(const std::string& folder) {
    std::vector<fs::directory_entry> entries;
    std::error_code ec;
    for (fs::directory_iterator it(root_ + folder, ec), end; !ec && it != end; it.increment(ec))
      entries.push_back(*it);
    if (ec) throw std::runtime_error("cannot list " + root_ + folder + ": " + ec.message());
    std::ranges::sort(entries);
    for (const auto& entry : entries) {
      const auto inside = folder + "/" + entry.path().filename().string();
      if (targets_.contains(inside)) continue;
      if (words_.size() > kMostWords) break;
      if (entry.is_symlink()) {
        words_.insert(words_.end(), {"--symlink", fs::read_symlink(entry.path()).string(), inside});
      } else if (entry.is_directory() && lacks_one(inside)) {
        words_.insert(words_.end(), {"--dir", inside});
        fill(inside);
      } else if (entry.is_directory() || entry.is_regular_file()) {
        words_.insert(words_.end(), {"--ro-bind", entry.path().string(), inside});
      }
    }
  }

  const std::string& root_;
  const Targets& targets_;
  std::vector<std::string> words_;
};

std::string real_path(const std::string& path) {
  std::error_code ec;
  const auto real = fs::canonical(path, ec);
  return ec ? std::string() : real.string();
}

void add_system(const ContainerPlan& plan, const Host& host, Targets& targets) {
  targets["/proc"] = host.own_proc ? std::vector<std::string>{"--proc", "/proc"}
                                   : std::vector<std::string>{"--bind", "/proc", "/proc"};
  targets["/sys"] = {"--ro-bind", "/sys", "/sys"};  // NCCL looks there for its topology
  targets["/dev"] = {"--dev", "/dev"};
  targets["/dev/shm"] = {"--bind", plan.shm ? plan.dir + "/" + kShm : "/dev/shm", "/dev/shm"};
  for (const auto& device : host.devices) targets[device] = {"--dev-bind", device, device};
  targets["/run"] = {"--dir", "/run"};
  for (const auto* tmp : {"/tmp", "/var/tmp"}) targets[tmp] = {"--bind", plan.dir + "/tmp", tmp};
  for (const auto* name : {"passwd", "group"})
    targets[std::string("/etc/") + name] = {"--ro-bind", plan.dir + "/" + kFolder + "/" + name,
                                            std::string("/etc/") + name};
  for (const std::string file : {"/etc/hosts", "/etc/resolv.conf"})
    if (const auto real = real_path(file); !real.empty()) targets[file] = {"--ro-bind", real, file};
  for (const auto& library : host.driver) {
    const auto inside = std::string(kDriver) + "/" + fs::path(library).filename().string();
    targets[inside] = {"--ro-bind", real_path(library), inside};
  }
}

void add_folders(const ContainerPlan& plan, const std::string& root, Targets& targets) {
  const auto same = [&](const char* how, const std::string& path) { targets[path] = {how, path, path}; };
  const auto allow = [&](const char* field, const std::string& path) {
    if (const auto why = why_not_shown(plan, field, path); !why.empty()) throw std::runtime_error(why);
  };
  same("--bind", plan.dir);
  if (!plan.programs.empty()) same("--ro-bind", plan.programs);
  for (const auto& path : plan.also)
    if (fs::exists(path)) same("--bind", path);
  if (!plan.home.empty() && plan.home != "/")
    targets[plan.home] = {"--bind", plan.dir + "/" + kFolder + "/home", plan.home};
  if (!plan.workdir.empty()) {
    if (fs::is_directory(plan.workdir)) {
      allow("workdir", plan.workdir);
      same("--bind", plan.workdir);
    } else if (!is_there(root + plan.workdir)) {
      throw std::runtime_error("workdir " + plan.workdir + " is neither on this node nor in the image");
    }
  }
  if (!plan.checkpoint_dir.empty()) {
    allow("checkpoint.dir", plan.checkpoint_dir);
    same("--bind", plan.checkpoint_dir);
  }
  for (const auto& m : plan.mounts) {
    if (const auto why = why_not_mounted(plan, m.source); !why.empty()) throw std::runtime_error(why);
    targets[m.target] = {m.read_only ? "--ro-bind" : "--bind", m.source, m.target};
  }
}

// The image's own say less than the user's and Tutti's; but what any login has it says for itself.
void add_variables(const ContainerPlan& plan, const std::vector<std::string>& variables, const Host& host,
                   std::vector<std::string>& words) {
  const std::set<std::string> users(plan.user_variables.begin(), plan.user_variables.end());
  constexpr std::string_view kLogin[] = {"PATH", "SHELL", "LANG"};
  std::map<std::string, std::string> out = {{"PATH", kPath}, {"SHELL", "/bin/sh"}};
  for (const auto& variable : variables) {
    const auto at = variable.find('=');
    if (at == std::string::npos || at == 0) continue;
    const auto name = variable.substr(0, at);
    if (name == "HOME" || name == "USER" || name == "LOGNAME") continue;
    if (std::ranges::find(kLogin, name) == std::end(kLogin) && std::getenv(name.c_str()) != nullptr) continue;
    out[name] = variable.substr(at + 1);
  }
  if (!host.driver.empty()) {
    const char* given = std::getenv("LD_LIBRARY_PATH");
    std::string path = given != nullptr ? given : out["LD_LIBRARY_PATH"];
    out["LD_LIBRARY_PATH"] = path.empty() ? kDriver : kDriver + (":" + path);
  }
  for (const auto& [name, value] : out)
    if (!users.contains(name) || name == "LD_LIBRARY_PATH")
      words.insert(words.end(), {"--setenv", name, value});
}

}  // namespace

std::string why_not_shown(const ContainerPlan& plan, const std::string& field, const std::string& path) {
  std::error_code ec;
  const auto real = fs::weakly_canonical(path, ec).string();  // a checkpoint folder may be still to be made
  if (ec) return field + " " + path + ": " + ec.message();
  if (real == "/") return field + " " + path + ": the node's / is not for jobs; name a folder below it";
  if (plan.closed.empty()) return {};
  auto closed = real_path(plan.closed);
  if (closed.empty()) closed = plan.closed;
  if (below(real, closed)) return field + " " + path + ": the worker's own folder is not for jobs";
  if (below(closed, real))
    return field + " " + path +
           ": the worker's own folder lies in it, which is not for jobs; name a folder " +
           "that does not hold it";
  return {};
}

std::string why_not_mounted(const ContainerPlan& plan, const std::string& source) {
  const auto real = real_path(source);
  if (real.empty()) return "mount " + source + ": there is no such file or folder on this node";
  if (auto why = why_not_shown(plan, "mount", source); !why.empty()) return why;
  if (plan.mount_folders.empty()) return {};
  for (const auto& folder : plan.mount_folders)
    if (const auto allowed = real_path(folder); !allowed.empty() && below(real, allowed)) return {};
  return "mount " + source + ": this node allows no mounts from there (--container-mounts)";
}

std::vector<std::string> library_folders() {
  return {"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64"};
}

Host look_at_host(bool gpus, const std::string& dev, const std::vector<std::string>& folders) {
  Host host;
  std::error_code ec;
  for (fs::directory_iterator it(dev, ec), end; !ec && it != end; it.increment(ec)) {
    const auto name = it->path().filename().string();
    if (name == "infiniband" || name == "gdrdrv" || (gpus && name.starts_with("nvidia")))
      host.devices.push_back(dev + "/" + name);
  }
  std::ranges::sort(host.devices);
  if (!gpus) return host;
  std::set<std::string> names;  // of several folders the first that has it
  for (const auto& folder : folders) {
    std::vector<std::string> found;
    for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
      const auto name = it->path().filename().string();
      const bool driver = name.starts_with("libcuda.so.") || name.starts_with("libcudadebugger.so.") ||
                          name.starts_with("libnvcuvid.so.") || name.starts_with("libnvoptix.so.") ||
                          (name.starts_with("libnvidia-") && name.find(".so.") != std::string::npos &&
                           !name.starts_with("libnvidia-container"));
      if (driver && names.insert(name).second) found.push_back(folder + "/" + name);
    }
    std::ranges::sort(found);
    host.driver.insert(host.driver.end(), found.begin(), found.end());
  }
  return host;
}

std::vector<std::string> sandbox_words(const ContainerPlan& plan, const std::string& root,
                                       const std::vector<std::string>& variables, const Host& host) {
  Targets targets;
  add_system(plan, host, targets);
  add_folders(plan, root, targets);
  // --unshare-user also for root's jobs: they are root in the container, and nobody's outside it.
  std::vector<std::string> words = {plan.bubblewrap, "--die-with-parent", "--unshare-user",
                                    "--unshare-pid", "--cap-drop",        "ALL"};
  auto layout = Layout(root, targets).words();
  words.insert(words.end(), layout.begin(), layout.end());
  add_variables(plan, variables, host, words);
  words.insert(words.end(), {"--chdir", plan.workdir.empty() ? plan.dir + "/work" : plan.workdir, "--"});
  if (words.size() > kMostWords)
    throw std::runtime_error(
        "too many mount points are missing in the image; mount where the image has a folder, or at the top");
  return words;
}

}  // namespace tutti::container
