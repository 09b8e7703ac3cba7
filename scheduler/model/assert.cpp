#include "scheduler/model/assert.h"

#include <cstdio>
#include <cstdlib>

namespace tutti {
void assertion_failed(const char* expression, const char* file, int line, const char* why) {
  std::fprintf(stderr, "%s:%d: assertion failed: %s (%s)\n", file, line, expression, why);
  std::fflush(stderr);
  std::abort();
}
}  // namespace tutti
