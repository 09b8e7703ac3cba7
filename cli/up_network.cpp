#include "cli/up_network.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <stdexcept>

extern char** environ;

namespace tutti::cli {
namespace {

constexpr int kMaxNodes = 250;

// Runs to its end (`ip` does not wait for anything). True: exit status 0. Quiet.
bool run(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const auto& w : words) argv.push_back(const_cast<char*>(w.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  for (const int fd : {0, 1, 2}) posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) return false;
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return false;
  return status == 0;
}

void must(const std::vector<std::string>& words) {
  if (run(words)) return;
  std::string line;
  for (const auto& w : words) line += (line.empty() ? "" : " ") + w;
  throw std::runtime_error("cannot " + line);
}

}  // namespace

UpNetwork::UpNetwork(const std::string& data, int nodes) : nodes_(nodes) {
  if (nodes > kMaxNodes) throw std::runtime_error("at most " + std::to_string(kMaxNodes) + " nodes");
  const auto hash = static_cast<unsigned>(std::hash<std::string>{}(data));
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "tu%04x", hash & 0xffffU);
  prefix_ = text.data();
  subnet_ = "10." + std::to_string(64 + (hash >> 8) % 64) + "." + std::to_string(hash & 255U);
  remove();
  try {
    const std::string bridge = prefix_ + "b";
    must({"ip", "link", "add", bridge, "type", "bridge"});
    must({"ip", "address", "add", host_address() + "/24", "dev", bridge});
    must({"ip", "link", "set", bridge, "up"});
    for (int i = 1; i <= nodes; ++i) {
      const std::string ns = name_space(i);
      must({"ip", "netns", "add", ns});
      must({"ip", "link", "add", cable(i), "type", "veth", "peer", "name", "eth0", "netns", ns});
      must({"ip", "-n", ns, "address", "add", address(i) + "/24", "dev", "eth0"});
      must({"ip", "-n", ns, "link", "set", "eth0", "up"});
      must({"ip", "-n", ns, "link", "set", "lo", "up"});
      must({"ip", "link", "set", cable(i), "master", bridge, "up"});
    }
    must(inside(1, "n1", {"true"}));
  } catch (...) {
    remove();
    throw;
  }
}

UpNetwork::~UpNetwork() { remove(); }

void UpNetwork::remove() noexcept {
  for (int i = 1; i <= nodes_; ++i) {
    run({"ip", "link", "delete", cable(i)});
    run({"ip", "netns", "delete", name_space(i)});
  }
  run({"ip", "link", "delete", prefix_ + "b"});
}

// Not `ip netns exec`: it mounts a new /sys, and the cgroups below it would be out of sight.
std::vector<std::string> UpNetwork::inside(int node, const std::string& host_name,
                                           const std::vector<std::string>& argv) const {
  std::vector<std::string> out = {"/usr/bin/nsenter",
                                  "--net=/run/netns/" + name_space(node),
                                  "unshare",
                                  "--uts",
                                  "sh",
                                  "-c",
                                  "echo \"$0\" >/proc/sys/kernel/hostname && exec \"$@\"",
                                  host_name};
  out.insert(out.end(), argv.begin(), argv.end());
  return out;
}

}  // namespace tutti::cli
