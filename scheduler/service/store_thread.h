// The one thread that writes to the store, and the few that read from it. Blocking libpqxx calls run there;
// results come back to the control executor. At most one piece of work is under way on the store's thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <exception>
#include <functional>
#include <memory>

#include "db/reader.h"
#include "db/store.h"

namespace tutti {

class StoreThread {
 public:
  /// `watcher`: for watch(), a reader that gives up sooner than the others; null: the same one.
  StoreThread(boost::asio::any_io_executor control, std::unique_ptr<Store> store,
              std::shared_ptr<Reader> reader, int readers, std::shared_ptr<Reader> watcher = nullptr);
  ~StoreThread();  // waits for what is under way

  // `work` on the store's thread, then `done` on the control executor with what it threw, or null.
  void write(std::function<void(Store&)> work, std::function<void(std::exception_ptr)> done);
  // `query` on a read thread; the function it returns, or `failed`, on the control executor. `failed` also
  // where there is no memory for the answer, so it must be right after part of that function has run.
  void read(std::function<std::function<void()>(Reader&)> query,
            std::function<void(std::exception_ptr)> failed);
  // As read(), on a thread of its own, for what must not wait behind anybody's question: who leads.
  void watch(std::function<std::function<void()>(Reader&)> query,
             std::function<void(std::exception_ptr)> failed);
  std::size_t reads_waiting() const { return *reads_waiting_; }

 private:
  void ask(boost::asio::thread_pool& where, Reader& reader,
           std::function<std::function<void()>(Reader&)> query,
           std::function<void(std::exception_ptr)> failed, std::function<void()> answered);

  boost::asio::any_io_executor control_;
  std::unique_ptr<Store> store_;
  std::shared_ptr<Reader> reader_, watcher_;
  std::shared_ptr<std::size_t> reads_waiting_ = std::make_shared<std::size_t>(0);  // control thread only
  boost::asio::thread_pool writer_;
  boost::asio::thread_pool readers_;
  boost::asio::thread_pool watchers_{1};
};

}  // namespace tutti
