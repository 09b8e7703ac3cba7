// e2e_janitor PID DIRECTORY PREFIX: waits until the test run PID has ended, in whatever way, then clears what
// it may have left: processes whose environment names DIRECTORY, network namespaces and interfaces whose
// names begin with PREFIX, and DIRECTORY itself unless it is to be kept.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/e2e/failure.h"
#include "tests/e2e/site.h"

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  const tutti::e2e::Fd test(static_cast<int>(syscall(SYS_pidfd_open, std::atoi(argv[1]), 0)));
  const std::string directory = argv[2], prefix = argv[3];
  if (!directory.starts_with("/tmp/tutti-e2e-") || prefix.size() < 4) return 64;
  if (test) {
    pollfd p{test.get(), POLLIN, 0};
    while (poll(&p, 1, -1) <= 0) {
    }
  }
  std::error_code ec;
  const bool over = !std::filesystem::exists(directory, ec);
  for (const auto* name : {"TUTTI_ATTEMPT_DIR", "E2E_ROOT"})
    tutti::e2e::kill_all(name, directory, std::chrono::seconds(20));
  tutti::e2e::remove_mounts(directory);
  for (const auto& cluster : std::filesystem::directory_iterator(directory, ec))
    tutti::e2e::remove_cgroups(cluster.path());
  try {
    tutti::e2e::remove_network(prefix);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "e2e_janitor: %s\n", e.what());
  }
  if (over || std::filesystem::exists(directory + "/keep", ec) || std::getenv("TUTTI_E2E_KEEP") != nullptr)
    return 0;
  std::filesystem::remove_all(directory, ec);
  return 0;
}
