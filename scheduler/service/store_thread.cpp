#include "scheduler/service/store_thread.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <new>
#include <utility>

namespace tutti {

namespace asio = boost::asio;

StoreThread::StoreThread(asio::any_io_executor control, std::unique_ptr<Store> store,
                         std::shared_ptr<Reader> reader, int readers, std::shared_ptr<Reader> watcher)
    : control_(std::move(control)),
      store_(std::move(store)),
      reader_(std::move(reader)),
      watcher_(watcher ? std::move(watcher) : reader_),
      writer_(1),
      readers_(static_cast<std::size_t>(readers)) {}

StoreThread::~StoreThread() {
  writer_.join();
  readers_.join();
  watchers_.join();
}

// Who runs the control thread until nothing is left to do waits for what is asked here.
void StoreThread::write(std::function<void(Store&)> work, std::function<void(std::exception_ptr)> done) {
  asio::post(writer_, [this, guard = asio::make_work_guard(control_), work = std::move(work),
                       done = std::move(done)]() mutable {
    std::exception_ptr failure;
    try {
      work(*store_);
    } catch (...) {
      failure = std::current_exception();
    }
    asio::post(control_, [done = std::move(done), failure] { done(failure); });
  });
}

void StoreThread::ask(asio::thread_pool& where, Reader& reader,
                      std::function<std::function<void()>(Reader&)> query,
                      std::function<void(std::exception_ptr)> failed, std::function<void()> answered) {
  asio::post(where, [this, &reader, guard = asio::make_work_guard(control_), query = std::move(query),
                     failed = std::move(failed), answered = std::move(answered)]() mutable {
    std::function<void()> finish;
    try {
      finish = query(reader);
    } catch (...) {
      finish = [failed, e = std::current_exception()] { failed(e); };
    }
    asio::post(control_,
               [finish = std::move(finish), answered = std::move(answered), failed = std::move(failed)] {
                 answered();
                 std::exception_ptr failure;
                 try {
                   return finish();
                 } catch (const std::bad_alloc&) {
                   failure = std::current_exception();
                 }
                 failed(failure);  // nothing was changed: a question may fail alone
               });
  });
}

void StoreThread::read(std::function<std::function<void()>(Reader&)> query,
                       std::function<void(std::exception_ptr)> failed) {
  ask(readers_, *reader_, std::move(query), std::move(failed), [waiting = reads_waiting_] { --*waiting; });
  ++*reads_waiting_;  // counted down on this thread, so not before
}

void StoreThread::watch(std::function<std::function<void()>(Reader&)> query,
                        std::function<void(std::exception_ptr)> failed) {
  ask(watchers_, *watcher_, std::move(query), std::move(failed), [] {});
}

}  // namespace tutti
