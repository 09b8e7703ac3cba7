// The store was there and did not do what it was asked for within its time or its limits. With less it may;
// to ask the same again and again would be in vain.
#pragma once

#include <string>

#include "db/store.h"

namespace tutti {

class TooMuch : public StoreError {
 public:
  explicit TooMuch(const std::string& message) : StoreError(unavailable, message) {}
};

}  // namespace tutti
