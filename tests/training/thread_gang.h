// A gang of threads in one process, so that the unit tests run the real training loop with several ranks,
// under the sanitizers and without MPI.
#pragma once

#include <barrier>
#include <cstdlib>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "training/charlm/collective.h"

namespace tutti::charlm {

class ThreadGang {
 public:
  explicit ThreadGang(int size) : size_(size), barrier_(size), errors_(static_cast<std::size_t>(size)) {}

  // Runs `body` once per rank and joins. Bodies that throw must throw on all ranks, or the others wait for
  // ever.
  void run(const std::function<void(Collective&)>& body) {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size_; ++rank) {
      threads.emplace_back([this, rank, &body] {
        Member member(*this, rank);
        try {
          body(member);
        } catch (...) {
          errors_[static_cast<std::size_t>(rank)] = std::current_exception();
        }
      });
    }
  }

  [[nodiscard]] int failures() const {
    int count = 0;
    for (const std::exception_ptr& error : errors_) count += error != nullptr ? 1 : 0;
    return count;
  }

 private:
  class Member final : public Collective {
   public:
    Member(ThreadGang& gang, int rank) : gang_(gang), rank_(rank) {}
    [[nodiscard]] std::string_view name() const override { return "threads"; }
    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int size() const override { return gang_.size_; }
    [[nodiscard]] int local_rank() const override { return rank_; }
    void sum(std::span<std::int64_t> values) override { gang_.sum(values); }
    [[noreturn]] void abort(Exit) override { std::abort(); }

   private:
    ThreadGang& gang_;
    int rank_;
  };

  // Adds in the order of arrival, which differs from run to run: what the fixed point must make up for.
  void sum(std::span<std::int64_t> values) {
    {
      const std::lock_guard lock(mutex_);
      if (arrived_++ == 0) total_.assign(values.size(), 0);
      for (std::size_t i = 0; i < values.size(); ++i) total_[i] += values[i];
    }
    barrier_.arrive_and_wait();
    std::copy(total_.begin(), total_.end(), values.begin());
    arrived_ = 0;
    barrier_.arrive_and_wait();
  }

  int size_;
  std::barrier<> barrier_;
  std::mutex mutex_;
  std::atomic<int> arrived_ = 0;
  std::vector<std::int64_t> total_;
  std::vector<std::exception_ptr> errors_;
};

}  // namespace tutti::charlm
