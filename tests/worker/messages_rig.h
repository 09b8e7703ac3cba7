// Messages as tests say them, and what the codec makes of them. Shared by messages_test.cpp and
// messages_refused_test.cpp.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "api/wire/messages.h"

namespace tutti {

using namespace protocol;  // NOLINT

inline const AttemptKey kKey{JobId(42), Epoch(7)};

template <class T>
T there_and_back(const T& m) {
  if constexpr (std::is_constructible_v<FromWorker, T>) {
    const auto text = wire::encode(FromWorker(m));
    auto back = wire::decode_from_worker(text);
    EXPECT_TRUE(back.has_value()) << text << (back ? "" : back.error().message);
    EXPECT_EQ(wire::encode(back.value()), text);
    return std::get<T>(back.value());
  } else {
    const auto text = wire::encode(ToWorker(m));
    auto back = wire::decode_to_worker(text);
    EXPECT_TRUE(back.has_value()) << text << (back ? "" : back.error().message);
    EXPECT_EQ(wire::encode(back.value()), text);
    return std::get<T>(back.value());
  }
}

inline std::string refusal(std::string_view text) {
  const auto r = wire::decode_from_worker(text);
  return r ? "accepted" : r.error().message;
}
inline std::string refusal_to_worker(std::string_view text) {
  const auto r = wire::decode_to_worker(text);
  return r ? "accepted" : r.error().message;
}

inline AttemptStatus some_status() {
  AttemptStatus s;
  s.key = kKey;
  s.phase = Phase::ended;
  s.agent_port = 4001;
  s.master_port = 4002;
  s.failure = Failure{"signal", 5, 3, 9, 123456, "killed", "last\nlines"};
  s.end = End{true, true, "cgroup", 123789};
  return s;
}

}  // namespace tutti
