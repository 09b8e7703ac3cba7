// A running HttpServer for one test, and small helpers to talk to it badly. Every wait has a deadline of ten
// seconds.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "api/http/client.h"
#include "api/http/server.h"

namespace tutti::http::test {

using namespace std::chrono_literals;

inline ByteSocket::Deadline soon() { return std::chrono::steady_clock::now() + 10s; }

/// io_context on its own threads; joined at the end.
class Loop {
 public:
  explicit Loop(int threads = 1) : guard_(context.get_executor()) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { context.run(); });
  }
  ~Loop() {
    guard_.reset();
    context.stop();
    for (auto& thread : threads_) thread.join();
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  boost::asio::io_context context;

 private:
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::vector<std::thread> threads_;
};

/// Something another thread will tell us.
template <class T>
class Mailbox {
 public:
  void put(T value) {
    const std::scoped_lock lock(mutex_);
    values_.push_back(std::move(value));
    changed_.notify_all();
  }
  /// The next value; fails the test after ten seconds.
  T take() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, 10s, [this] { return !values_.empty(); }))
      throw std::runtime_error("nothing came within ten seconds");
    T value = std::move(values_.front());
    values_.erase(values_.begin());
    return value;
  }
  void clear() {
    const std::scoped_lock lock(mutex_);
    values_.clear();
  }
  std::size_t size() {
    const std::scoped_lock lock(mutex_);
    return values_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<T> values_;
};

class TestServer {
 public:
  explicit TestServer(Router routes, ServerConfig config = {}, Hooks hooks = {}, int threads = 1)
      : router_(std::move(routes)),
        loop_(threads),
        server_(loop_.context.get_executor(), config, router_, hooks) {
    server_.start();
  }
  ~TestServer() { EXPECT_TRUE(stop()); }

  /// False when sessions are still open after ten seconds.
  bool stop() {
    auto stopped = std::make_shared<std::promise<void>>();
    auto done = stopped->get_future();
    server_.stop([stopped] { stopped->set_value(); });
    return done.wait_for(10s) == std::future_status::ready;
  }

  std::uint16_t port() const { return server_.port(); }
  HttpServer& server() { return server_; }
  boost::asio::io_context& context() { return loop_.context; }
  ByteSocket connect() const { return ByteSocket::connect("127.0.0.1", port(), soon()); }
  HttpClient client() const { return {"127.0.0.1", port()}; }

 private:
  Router router_;
  Loop loop_;
  HttpServer server_;
};

/// Everything the server says until it closes. A reset counts as the end, too.
inline std::string read_all(ByteSocket& socket) {
  std::string all;
  while (socket.receive(all, soon())) {
  }
  return all;
}

inline std::string ask(const TestServer& server, std::string_view bytes) {
  auto socket = server.connect();
  socket.send(bytes, soon());
  return read_all(socket);
}

/// Status of the n-th answer in `bytes` (from 0); 0 if there is none. Bodies must not contain "HTTP/1.1 ".
inline int status_of(const std::string& bytes, std::size_t n = 0) {
  std::size_t at = bytes.find("HTTP/1.1 ");
  for (; n > 0 && at != std::string::npos; --n) at = bytes.find("HTTP/1.1 ", at + 1);
  return at == std::string::npos ? 0 : std::stoi(bytes.substr(at + 9, 3));
}

inline Router echo_routes() {
  Router router;
  router.get("/healthz", [](const Request&) { return text(200, "ok"); });
  router.post("/echo", [](const Request& request) { return text(200, request.body); });
  return router;
}

}  // namespace tutti::http::test
