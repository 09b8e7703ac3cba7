// Blocking work beside the control thread, as a function, so that what uses it needs neither thread nor Asio.
#pragma once

#include <exception>
#include <functional>

namespace tutti {

/// Runs `work` elsewhere, then `done(failure)` on the control thread; failure is null if it went well.
using Aside = std::function<void(std::function<void()> work, std::function<void(std::exception_ptr)> done)>;

}  // namespace tutti
