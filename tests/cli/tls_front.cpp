#include "tests/cli/tls_front.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace tutti::cli::test {

TlsFront::TlsFront(int port) {
  char name[] = "/tmp/tutti-tls-XXXXXX";
  folder_ = mkdtemp(name);
  const std::string make =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test "
      "-addext subjectAltName=IP:127.0.0.1 -keyout " +
      folder_ + "/key.pem -out " + folder_ + "/cert.pem >" + folder_ + "/log 2>&1";
  if (std::system(make.c_str()) != 0) throw std::runtime_error("openssl made no certificate: see " + folder_);
  int out[2];
  if (pipe(out) != 0) throw std::runtime_error("pipe");
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out[1], 1);
    const std::string program = std::string(std::getenv("TUTTI_SOURCE")) + "/tests/cli/tls_proxy.py";
    const std::string cert = folder_ + "/cert.pem", key = folder_ + "/key.pem", plain = std::to_string(port);
    execlp("python3", "python3", program.c_str(), cert.c_str(), key.c_str(), plain.c_str(), nullptr);
    _exit(126);
  }
  close(out[1]);
  std::string line;
  pollfd wait{out[0], POLLIN, 0};
  char buffer[64];
  while (line.find('\n') == std::string::npos) {
    const ssize_t n = poll(&wait, 1, 20'000) == 1 ? read(out[0], buffer, sizeof buffer) : 0;
    if (n <= 0) throw std::runtime_error("the TLS front does not start");
    line.append(buffer, static_cast<std::size_t>(n));
  }
  close(out[0]);
  port_ = std::stoi(line);
}

TlsFront::~TlsFront() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::filesystem::remove_all(folder_);
}

}  // namespace tutti::cli::test
