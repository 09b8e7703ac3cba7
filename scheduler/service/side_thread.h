// One thread for blocking work beside the scheduling rows (accounts, secrets, webhooks, password hashes),
// with a bounded queue. Answers come on the control thread.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>

#include "db/aside.h"
#include "db/store.h"

namespace tutti {

class SideThread {
 public:
  SideThread(boost::asio::any_io_executor control, std::size_t most_waiting = 10'000)
      : control_(std::move(control)), most_waiting_(most_waiting), pool_(1) {}
  ~SideThread() { pool_.join(); }

  void run(std::function<void()> work, std::function<void(std::exception_ptr)> done) {
    if (*waiting_ >= most_waiting_)
      return done(std::make_exception_ptr(StoreError(StoreError::unavailable, "too many wait already")));
    boost::asio::post(pool_, [this, work = std::move(work), done = std::move(done)]() mutable {
      std::exception_ptr failure;
      try {
        if (let_go_) throw StoreError(StoreError::unavailable, "the server is stopping");
        work();
      } catch (...) {
        failure = std::current_exception();
      }
      boost::asio::post(control_, [waiting = waiting_, done = std::move(done), failure] {
        --*waiting;
        done(failure);
      });
    });
    ++*waiting_;  // counted down on this thread, so not before
  }
  /// What has not begun will not: of questions, whose answers nobody waits for when the server stops.
  void let_go() { let_go_ = true; }
  /// Waits for all that was asked for, so that what it uses can go. Answers do not come any more.
  void join() { pool_.join(); }
  Aside aside() {
    return [this](std::function<void()> work, std::function<void(std::exception_ptr)> done) {
      run(std::move(work), std::move(done));
    };
  }

 private:
  boost::asio::any_io_executor control_;
  std::size_t most_waiting_;
  std::shared_ptr<std::size_t> waiting_ = std::make_shared<std::size_t>(0);  // control thread
  std::atomic<bool> let_go_ = false;
  boost::asio::thread_pool pool_;
};

}  // namespace tutti
