#include "scheduler/service/store_thread.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace tutti {

namespace asio = boost::asio;

StoreThread::StoreThread(asio::any_io_executor control, std::unique_ptr<Store> store,
                         std::shared_ptr<Reader> reader, int readers)
    : control_(std::move(control)),
      store_(std::move(store)),
      reader_(std::move(reader)),
      writer_(1),
      readers_(static_cast<std::size_t>(readers)) {}

StoreThread::~StoreThread() {
  writer_.join();
  readers_.join();
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

void StoreThread::read(std::function<std::function<void()>(Reader&)> query,
                       std::function<void(std::exception_ptr)> failed) {
  ++*reads_waiting_;
  asio::post(readers_, [this, guard = asio::make_work_guard(control_), query = std::move(query),
                        failed = std::move(failed)]() mutable {
    std::function<void()> finish;
    try {
      finish = query(*reader_);
    } catch (...) {
      finish = [failed, e = std::current_exception()] { failed(e); };
    }
    asio::post(control_, [finish = std::move(finish), waiting = reads_waiting_] {
      --*waiting;
      finish();
    });
  });
}

}  // namespace tutti
