// How webhooks*.cpp ask the store, and what they say where it does not answer. Private to them.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "scheduler/service/webhooks.h"

namespace tutti {

inline Error error_of(std::exception_ptr failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& e) {
    return {.code = Errc::unavailable,
            .message = std::string("webhooks cannot be stored or read: ") + e.what(),
            .hint = "try again in a second",
            .field = ""};
  }
}

template <class F>
auto Webhooks::guarded(F f) {
  return [alive = std::weak_ptr(alive_), f = std::move(f)]<class... A>(A&&... a) mutable {
    if (alive.lock()) f(std::forward<A>(a)...);
  };
}

template <class T>
void Webhooks::ask(std::function<T(WebhookStore&)> work, std::function<void(Result<T>)> then) {
  auto result = std::make_shared<T>();
  aside_([store = store_, work = std::move(work), result] { *result = work(*store); },
         guarded([then = std::move(then), result](std::exception_ptr failure) {
           if (failure) return then(error_of(failure));
           then(std::move(*result));
         }));
}

}  // namespace tutti
