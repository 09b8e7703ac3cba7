// The process has no file descriptor left: connections wait, nothing spins, and they are answered when there
// are some again.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/system/error_code.hpp>
#include <cerrno>

#include "test_server.h"

namespace tutti::http::test {
namespace {

/// All descriptors up to a small limit, taken until it goes.
class FullTable {
 public:
  FullTable() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit small = before_;
    small.rlim_cur = 256;
    ::setrlimit(RLIMIT_NOFILE, &small);
    for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) taken_.push_back(fd);
  }
  ~FullTable() {
    for (const int fd : taken_) ::close(fd);
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }
  FullTable(const FullTable&) = delete;
  FullTable& operator=(const FullTable&) = delete;
  std::size_t taken() const { return taken_.size(); }

 private:
  rlimit before_{};
  std::vector<int> taken_;
};

TEST(FullTable, ConnectionsWaitWithoutSpinningAndAreAnsweredLater) {
  Mailbox<std::string> errors;
  Hooks hooks;
  hooks.on_error = [&](std::string_view what) { errors.put(std::string(what)); };
  TestServer server(echo_routes(), {}, hooks);
  // What the sanitizer has not seen yet it looks up by a pipe, for which there is no descriptor below.
  ASSERT_EQ(server.client().request("GET", "/healthz").status, 200);
  ASSERT_FALSE(boost::system::error_code(EMFILE, boost::system::system_category()).message().empty());
  const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(client, 0);
  const timeval ten_seconds{.tv_sec = 10, .tv_usec = 0};
  ::setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &ten_seconds, sizeof ten_seconds);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(server.port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  constexpr std::string_view kAsk = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  {
    const FullTable full;
    ASSERT_GT(full.taken(), 0U);
    // The kernel takes it; the server cannot.
    ASSERT_EQ(::connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::send(client, kAsk.data(), kAsk.size(), MSG_NOSIGNAL), static_cast<ssize_t>(kAsk.size()));
    EXPECT_NE(errors.take().find("accept: "), std::string::npos);
    const auto first = std::chrono::steady_clock::now();
    for (int i = 0; i < 4; ++i) errors.take();
    // 50 ms between two tries; the first may have waited to be read.
    EXPECT_GE(std::chrono::steady_clock::now() - first, 100ms);
  }
  std::string answer(4096, '\0');
  const ssize_t n = ::recv(client, answer.data(), answer.size(), 0);
  ::close(client);
  ASSERT_GT(n, 0) << "no answer after there were descriptors again";
  EXPECT_EQ(status_of(answer), 200);
}

}  // namespace
}  // namespace tutti::http::test
