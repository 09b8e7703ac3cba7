// tutti-launch-agent HOST command…: what mpirun calls in place of ssh (plm_rsh_agent). Asks the supervisor of
// that node to run the command there, passes its output on, ends with its status; 255 like ssh when that
// cannot be. Runs as the job's user under mpirun, with which it dies. One thread, blocking with deadlines.
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>

#include "worker/supervisor/agent_wire.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/launch_line.h"

using namespace tutti::supervisor;

namespace {

constexpr int kCannot = 255;
constexpr std::int64_t kConnectWithin = 5'000'000;
constexpr std::int64_t kAnswerWithin = 10'000'000;

[[noreturn]] void fail(const std::string& why) { throw std::runtime_error(why); }

bool wait_for(int fd, short events, std::int64_t until_us) {
  while (true) {
    const std::int64_t left = until_us - boot_us();
    if (left <= 0) return false;
    pollfd p{fd, events, 0};
    const int n = poll(&p, 1, static_cast<int>(left / 1000 + 1));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

struct Endpoint {
  std::string address, port;
};

Endpoint find_endpoint(const std::string& dir, const std::string& host) {
  const std::string path = dir + "/endpoints.json";
  const auto text = read_file(path, 4 << 20);
  if (!text) fail("cannot read " + path);
  const auto all = boost::json::parse(*text);
  const auto* entry = all.as_object().if_contains(host);
  if (entry == nullptr) fail(path + " does not name it");
  return {std::string(entry->at("address").as_string()),
          std::to_string(entry->at("port").to_number<std::int64_t>())};
}

// A peer whose machine is gone must not look like one that has nothing to say.
void keep_alive(int fd) {
  const auto set = [fd](int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 2);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
}

Fd connect_tcp(const Endpoint& to, std::int64_t until_us) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  if (const int error = getaddrinfo(to.address.c_str(), to.port.c_str(), &hints, &found); error != 0)
    fail(to.address + ": " + gai_strerror(error));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  std::string why = "no address";
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    Fd fd(socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) continue;
    if (connect(fd.get(), a->ai_addr, a->ai_addrlen) != 0 && errno != EINPROGRESS) {
      why = std::strerror(errno);
      continue;
    }
    int error = 0;
    socklen_t length = sizeof error;
    if (!wait_for(fd.get(), POLLOUT, until_us)) fail(to.address + ":" + to.port + " does not answer");
    getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error == 0) {
      keep_alive(fd.get());
      return fd;
    }
    why = std::strerror(error);
  }
  fail(to.address + ":" + to.port + ": " + why);
}

void send_all(const Fd& fd, std::string_view text, std::int64_t until_us) {
  while (!text.empty()) {
    const ssize_t n = send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (n > 0) {
      text.remove_prefix(static_cast<std::size_t>(n));
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
      fail(std::string("send: ") + std::strerror(errno));
    } else if (!wait_for(fd.get(), POLLOUT, until_us)) {
      fail("it does not take the command");
    }
  }
}

std::string receive(const Fd& fd, std::size_t size, std::int64_t until_us) {
  std::string out(size, '\0');
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = recv(fd.get(), out.data() + done, size - done, 0);
    if (n > 0)
      done += static_cast<std::size_t>(n);
    else if (n == 0)
      fail("it closed the connection");
    else if (errno != EAGAIN && errno != EINTR)
      fail(std::string("the connection broke: ") + std::strerror(errno));
    else if (!wait_for(fd.get(), POLLIN, until_us))
      fail("it does not answer");
  }
  return out;
}

void print(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n <= 0) return;  // mpirun does not listen any more
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

int relay(const Fd& fd) {
  std::int64_t until = boot_us() + kAnswerWithin;  // for the first frame only: then it runs, however silently
  while (true) {
    const std::string header = receive(fd, agent_wire::kHeaderBytes, until);
    const std::size_t size = agent_wire::number(std::string_view(header).substr(1));
    if (size > agent_wire::kMaxPayload) fail("it speaks another language");
    const std::string payload = receive(fd, size, until);
    until = INT64_MAX / 2;
    switch (static_cast<agent_wire::Frame>(header[0])) {
      case agent_wire::Frame::out: print(1, payload); break;
      case agent_wire::Frame::err: print(2, payload); break;
      case agent_wire::Frame::refused: fail("it refuses: " + payload);
      case agent_wire::Frame::exit:
        if (size != 4) fail("it speaks another language");
        return static_cast<int>(agent_wire::number(payload));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() == 1) return kCannot;
  const auto call = parse_launch_call({argv + 1, argv + argc});
  if (!call) {
    std::fprintf(stderr, "usage: tutti-launch-agent [ssh options] HOST command…\n");
    return kCannot;
  }
  try {
    const char* dir = std::getenv("TUTTI_ATTEMPT_DIR");
    if (dir == nullptr) fail("TUTTI_ATTEMPT_DIR is not set");
    const auto secret = read_file(std::string(dir) + "/agent_secret", 4096);
    if (!secret) fail("cannot read the attempt's secret");
    const Endpoint endpoint = find_endpoint(dir, call->host);
    const std::int64_t until = boot_us() + kConnectWithin;
    const Fd fd = connect_tcp(endpoint, until);
    const boost::json::object request{{"secret", *secret}, {"command", call->command}};
    send_all(fd, boost::json::serialize(request) + "\n", until);
    return relay(fd);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tutti-launch-agent: %s: %s\n", call->host.c_str(), e.what());
    return kCannot;
  }
}
