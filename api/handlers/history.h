// What is asked of the past: the store of it with threads of its own, and what its routes share. These read
// and compute much, so one question is answered after the other, beside everything else.
//
// Wired by scheduler/parts.cpp and tests. Control thread.
#pragma once

#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "api/handlers/answer.h"
#include "db/aside.h"
#include "db/history.h"

namespace tutti {

namespace replay {
struct Comparison;
struct Compared;
}  // namespace replay

class History {
 public:
  /// Of a replay; throws where there is no answer. One that leads has it done by another process.
  using Compare = std::function<replay::Compared(const replay::Comparison&)>;

  /// `read` has a thread of its own and refuses when too many wait; so has `compute`, for replays.
  History(std::shared_ptr<HistoryStore> store, Aside read, Aside compute, Compare compare)
      : store_(std::move(store)),
        read_(std::move(read)),
        compute_(std::move(compute)),
        compare_(std::move(compare)) {}

  const std::shared_ptr<HistoryStore>& store() const { return store_; }
  const Aside& reading() const { return read_; }
  const Aside& computing() const { return compute_; }
  const Compare& compare() const { return compare_; }
  /// The right to the one replay at a time, until it is dropped; null: another one has it.
  std::shared_ptr<void> take_replay() {
    if (*replaying_) return nullptr;
    *replaying_ = true;
    return {replaying_.get(), [flag = replaying_](void*) { *flag = false; }};
  }

 private:
  std::shared_ptr<HistoryStore> store_;
  Aside read_, compute_;
  Compare compare_;
  std::shared_ptr<bool> replaying_ = std::make_shared<bool>(false);
};

namespace api {

Error history_unreadable(const std::exception_ptr& failure);
http::Response keeps_no_history();

/// `query(HistoryStore&)` on the thread of the history, then `then(its result)` on the control thread.
template <class Query, class Then>
void read_history(const ApiPtr& api, const Answer& answer, Query query, Then then) {
  if (api->services.history == nullptr) return answer.send(keeps_no_history());
  using Rows = std::invoke_result_t<Query, HistoryStore&>;
  auto rows = std::make_shared<std::optional<Rows>>();
  api->services.history->reading()([store = api->services.history->store(), query = std::move(query),
                                    rows] { rows->emplace(query(*store)); },
                                   [answer, rows, then = std::move(then)](std::exception_ptr failure) {
                                     if (failure) return answer.fail(history_unreadable(failure));
                                     then(std::move(**rows));
                                   });
}

/// A parameter that none of these is.
std::optional<Error> other_param(const http::Request& request, std::initializer_list<std::string_view> known);
/// `at`: an instant that is not in the future.
Result<Instant> at_param(const http::Request& request, Now now);
/// An instant, or how long ago ("7d").
Result<Instant> time_param(const http::Request& request, std::string_view field, Instant otherwise, Now now);
struct Interval {
  Instant since, until;
};
/// since and until; of at most that length, and not empty.
Result<Interval> interval_of(const http::Request& request, Now now, Duration usual, Duration longest);

boost::json::value known_since_view(const std::optional<Instant>& at);

}  // namespace api
}  // namespace tutti
