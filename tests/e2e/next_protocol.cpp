// tutti-scheduler-next and tutti-worker-next are these programs as of a version after this one, for
// upgrade_test: made of the same objects, but they say the numbers of so many versions ahead as the
// environment tells (1 where it does not). A program that defines a function itself does not take it from our
// libraries.
#include <cstdlib>

#include "scheduler/model/protocol.h"

namespace tutti::protocol {

std::int32_t version() {
  const char* ahead = std::getenv("E2E_VERSIONS_AHEAD");
  return kVersion + (ahead == nullptr ? 1 : std::atoi(ahead));
}

}  // namespace tutti::protocol
