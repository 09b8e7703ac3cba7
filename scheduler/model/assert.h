// TUTTI_ASSERT: our own bugs. On in release too; the process stops and its supervisor restarts it, since
// going on from a state we believed impossible could start a gang twice.
#pragma once

namespace tutti {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line, const char* why);
}

#define TUTTI_ASSERT(expression, why) \
  ((expression) ? static_cast<void>(0) : ::tutti::assertion_failed(#expression, __FILE__, __LINE__, why))
