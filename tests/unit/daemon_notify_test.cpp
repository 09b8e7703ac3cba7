// What a service manager hears, over a socket like its own.
#include "daemon/notify.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

namespace tutti::daemon {
namespace {

class Manager : public testing::Test {
 protected:
  void listen(const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name.front() == '@') address.sun_path[0] = '\0';
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
              0)
        << std::strerror(errno);
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  std::string heard() const {
    char text[4096];
    pollfd ready{fd_, POLLIN, 0};
    if (::poll(&ready, 1, 5000) <= 0) return "nothing";
    const auto size = ::recv(fd_, text, sizeof text, 0);
    return {text, static_cast<std::size_t>(size)};
  }
  bool silent() const {
    pollfd ready{fd_, POLLIN, 0};
    return ::poll(&ready, 1, 0) == 0;  // datagrams of a local socket are there when send() returns
  }
  void TearDown() override {
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(name);
    if (fd_ >= 0) ::close(fd_);
    std::filesystem::remove(path_);
  }
  int fd_ = -1;
  const std::string path_ =
      (std::filesystem::temp_directory_path() / ("tutti-notify-" + std::to_string(::getpid()))).string();
};

TEST_F(Manager, HearsOfEachPhase) {
  listen(path_);
  ServiceManager us;
  us.ready("listening");
  EXPECT_EQ(heard(), "READY=1\nSTATUS=listening\n");
  us.status("listening");
  EXPECT_TRUE(silent()) << "the same status is said once";
  us.status("leader, term 3");
  EXPECT_EQ(heard(), "STATUS=leader, term 3\n");
  us.alive();
  EXPECT_EQ(heard(), "WATCHDOG=1\n");
  us.reloading();
  EXPECT_EQ(heard().rfind("RELOADING=1\nMONOTONIC_USEC=", 0), 0U);
  us.stopping();
  EXPECT_EQ(heard(), "STOPPING=1\nSTATUS=stopping\n");
}

TEST_F(Manager, MayListenAtAnAbstractName) {
  listen("@" + path_);
  ServiceManager us;
  us.alive();
  EXPECT_EQ(heard(), "WATCHDOG=1\n");
}

TEST_F(Manager, ChildrenDoNotLearnItsSocket) {
  listen(path_);
  ::setenv("WATCHDOG_USEC", "1000000", 1);
  const ServiceManager us;
  EXPECT_EQ(std::getenv("NOTIFY_SOCKET"), nullptr);
  EXPECT_EQ(std::getenv("WATCHDOG_USEC"), nullptr);
  EXPECT_EQ(us.watchdog(), std::chrono::seconds(1));
}

TEST_F(Manager, TheWatchdogOfAnotherProcessIsNotOurs) {
  listen(path_);
  ::setenv("WATCHDOG_USEC", "1000000", 1);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid() + 1).c_str(), 1);
  EXPECT_EQ(ServiceManager().watchdog(), std::nullopt);
}

TEST_F(Manager, WithoutOneNothingIsSent) {
  ServiceManager us;
  us.ready("listening");
  us.alive();
  EXPECT_EQ(us.watchdog(), std::nullopt);
}

TEST_F(Manager, OneThatIsGoneOrDoesNotReadBlocksNothing) {
  listen(path_);
  ServiceManager us;
  for (int i = 0; i < 10'000; ++i) us.status(std::to_string(i));  // more than any socket's queue
  ::close(std::exchange(fd_, -1));
  us.stopping();
}

}  // namespace
}  // namespace tutti::daemon
