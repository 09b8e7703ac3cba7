// What stays open after its request was let in: streams of events and logs, shells, workers' connections.
// Each is judged again whenever accounts change and every few seconds, and closed once its caller would not
// be let in any more: its token revoked or expired, its session over, its account disabled, its role gone.
//
// Called by: the door of the endpoints (api/handlers/admission.cpp) and the wiring of the workers' WebSocket;
// swept by Accounts. Control thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "api/access/identity.h"

namespace tutti {

/// Cuts a stream or a link, if it is still there.
template <class Open>
std::function<void()> aborting(const std::shared_ptr<Open>& what) {
  return [weak = std::weak_ptr(what)] {
    if (const auto open = weak.lock()) open->abort();
  };
}

class OpenConnections {
 public:
  /// The identity as it is now, or nothing if it would not be known any more.
  using Renew = std::function<std::optional<Identity>(const Identity&)>;
  using Judge = std::function<bool(const Identity& was, const Identity& now)>;

  /// Held for as long as `what` lives; `close` must do no more than close it.
  void add(Identity who, Judge may_stay, std::weak_ptr<void> what, std::function<void()> close);
  /// Closes what may not stay; forgets what is gone.
  void sweep(const Renew& renew);
  std::size_t size() const { return open_.size(); }

 private:
  struct Entry {
    Identity who;
    Judge may_stay;
    std::weak_ptr<void> what;
    std::function<void()> close;
  };
  std::vector<Entry> open_;
};

}  // namespace tutti
