#include "tests/store/cutting_proxy.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <string_view>

namespace tutti::test {

namespace {

sockaddr_un address_of(const std::string& path) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  std::strncpy(a.sun_path, path.c_str(), sizeof a.sun_path - 1);
  return a;
}

bool write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

// A transaction of the store: its statements are prepared under these names.
bool starts_transaction(std::string_view data) {
  using namespace std::string_view_literals;
  return data.find("\0begin\0"sv) != std::string_view::npos ||
         data.find("BEGIN\0"sv) != std::string_view::npos;
}

}  // namespace

CuttingProxy::CuttingProxy(std::string real_socket) : real_(std::move(real_socket)) {
  const auto a = address_of(directory_.path() + "/.s.PGSQL.5432");
  listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener_ < 0 || ::bind(listener_, reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0 ||
      ::listen(listener_, 16) != 0 || ::pipe(stop_) != 0)
    throw std::runtime_error("cannot set up the proxy");
  thread_ = std::thread([this] { accept_loop(); });
}

CuttingProxy::~CuttingProxy() {
  ::close(stop_[1]);  // wakes every poll
  thread_.join();
  ::close(stop_[0]);
  ::close(listener_);
}

std::string CuttingProxy::connection_string(const std::string& database) const {
  return "host=" + directory_.path() + " port=5432 user=postgres dbname=" + database;
}

void CuttingProxy::cut_now() {
  if (const int fd = held_client_.exchange(-1); fd >= 0) ::shutdown(fd, SHUT_RDWR);
}

void CuttingProxy::accept_loop() {
  while (true) {
    pollfd p[2] = {{listener_, POLLIN, 0}, {stop_[0], POLLIN, 0}};
    ::poll(p, 2, -1);
    if (p[1].revents) break;
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client >= 0) sessions_.emplace_back([this, client] { serve(client); });
  }
  for (auto& t : sessions_) t.join();
}

void CuttingProxy::serve(int client) {
  const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto a = address_of(real_);
  bool open = ::connect(server, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0;
  Cut mode = Cut::none;
  std::string buffer(1 << 16, '\0');
  while (open) {
    pollfd p[3] = {{client, POLLIN, 0}, {server, POLLIN, 0}, {stop_[0], POLLIN, 0}};
    ::poll(p, 3, -1);
    if (p[2].revents) break;
    if (p[0].revents) {
      const ssize_t n = ::recv(client, buffer.data(), buffer.size(), 0);
      if (n <= 0) {
        if (mode != Cut::half_way) break;
        // The client is gone; the server does not hear of it yet.
        pollfd wait[2] = {{server, POLLIN, 0}, {stop_[0], POLLIN, 0}};
        ::poll(wait, 2, -1);
        break;
      }
      const std::string_view data(buffer.data(), static_cast<std::size_t>(n));
      if (mode == Cut::none && starts_transaction(data)) {
        mode = cut_.exchange(Cut::none);
        if (mode == Cut::half_way) held_client_ = client;
      }
      if (mode == Cut::before_server) break;
      if (mode != Cut::silence) open = write_all(server, data);
    }
    if (p[1].revents) {
      const ssize_t n = ::recv(server, buffer.data(), buffer.size(), 0);
      if (n <= 0 || mode == Cut::after_server) break;  // the answer is there, so the work is done
      open = write_all(client, {buffer.data(), static_cast<std::size_t>(n)});
    }
  }
  ::close(client);
  ::close(server);
}

}  // namespace tutti::test
