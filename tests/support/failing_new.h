// No memory, on request: links a replacement for operator new into a test program (tests/support/
// failing_new.cpp among its sources). Array and aligned forms stay those of the library; strings, containers,
// std::function and coroutine frames use the plain one.
//
// Belongs to the thread that calls it: allocations of other threads succeed.
#pragma once

#include <cstdint>

namespace tutti::test {

/// The allocation number `nth` of this thread from now on (0: the next one) throws std::bad_alloc, once.
void fail_allocation(std::int64_t nth);
/// From now on all succeed. Whether one has failed since.
bool stop_failing();

/// Which ones to try: each of the first fifty, and then some of the rest, so that a long call is gone through
/// in reasonable time.
inline std::int64_t next_allocation(std::int64_t nth) { return nth + 1 + nth / 50; }

}  // namespace tutti::test
