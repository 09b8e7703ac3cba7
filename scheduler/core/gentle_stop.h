// Which causes end an attempt gently. Included by the control plane's own files.
#pragma once

#include "scheduler/model/states.h"

namespace tutti {

// Planned stops give the ranks their grace; after a fault the gang is dead anyway.
inline bool stops_gently(Cause cause) {
  return class_of(cause) == CauseClass::person || cause == Cause::time_limit || cause == Cause::preempted ||
         cause == Cause::maintenance || cause == Cause::requeued;
}

}  // namespace tutti
