// Blocking work beside the control thread, as a function, so that what uses it needs neither thread nor Asio.
#pragma once

#include <exception>
#include <functional>
#include <new>
#include <string>

#include "db/store.h"

namespace tutti {

/// Runs `work` elsewhere, then `done(failure)` on the control thread; failure is null if it went well.
using Aside = std::function<void(std::function<void()> work, std::function<void(std::exception_ptr)> done)>;

/// What it says, with the kind of a StoreError.
inline std::string text_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const StoreError& error) {
    return std::string(name(error.kind)) + ": " + error.what();
  } catch (const std::bad_alloc&) {
    return "there is not enough memory for it";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace tutti
