// What a standby does with a request: answer it, or hand it to the leader (docs/design/0016-replicas.md).
//
// Called by: the door of every endpoint (admission.cpp) and the server's hooks (serving_http.cpp). Control
// thread. Rules: (1) the leader judges who may do what, a standby only looks whom it knows; (2) a request
// that has been handed on is not handed on again; (3) what a standby answers is never older than the last
// commit.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "api/http/message.h"

namespace tutti {

class Forwarding {
 public:
  virtual ~Forwarding() = default;
  /// Another scheduler leads, or nobody does. False: this one does, and answers everything.
  virtual bool standing_by() const = 0;
  /// Hands it to the leader; answers 503 if there is none, 502 if it is lost on the way.
  virtual void forward(http::Request request, http::Responder responder) = 0;
};

/// Whether a standby answers this operation by itself: it needs nothing but rows, or is about this process.
bool answered_by_standby(std::string_view operation);

/// Whether this request goes to the leader: by its operation, or because a standby does not know who is
/// asking (a token that was made a moment ago, perhaps).
bool goes_to_leader(const http::Request& request, std::string_view operation, bool needs_somebody);

/// The headers of a request as the leader gets them, and of its answer as the client does: all but those that
/// belong to one connection.
http::Headers headers_to_leader(const http::Request& request);
http::Headers headers_from_leader(const http::Headers& headers, int status);

using BeforeHook = std::function<std::optional<http::Response>(http::Request&)>;

/// Around authenticate(): whom a standby does not know is let through, for the leader to judge.
BeforeHook judged_by_leader(BeforeHook inner, const Forwarding& forwarding);

}  // namespace tutti
