// What the end-to-end harness throws, and how it waits. No gtest here: e2e_figures uses the harness too.
#pragma once

#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>

namespace tutti::e2e {

/// The world is not as the test requires. gtest turns it into a failed test.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The scheduler does not answer now (refused, reset, 503). Waiting goes on over it.
class Unreachable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using Clock = std::chrono::steady_clock;
inline constexpr std::chrono::seconds kPatience{90};  // sanitizers on a busy machine

/// Until `condition` is true; looks every 10 ms. Throws Failure at the deadline, with
/// what `state` says then.
void await_true(const std::string& what, std::chrono::milliseconds deadline,
                const std::function<bool()>& condition, const std::function<std::string()>& state = {});

/// Until `look` gives something else than its type's empty value.
template <class F>
auto await(const std::string& what, F look, const std::function<std::string()>& state = {},
           std::chrono::milliseconds deadline = kPatience) {
  decltype(look()) found{};
  await_true(
      what, deadline,
      [&] {
        found = look();
        return !(found == decltype(look()){});
      },
      state);
  return found;
}

}  // namespace tutti::e2e
