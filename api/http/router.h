// The route table: (method, path) -> handler, and the refusals 404, 405 and the answer to OPTIONS.
//
// Who calls it: wiring code fills it, the session matches against it, the OpenAPI test enumerates it. No
// Asio. Threads: filled by one thread before the server starts, then only read, by any number of threads.
// Patterns: "/v1/jobs/{id}", "/v1/jobs/{id}:cancel", "/v1/jobs:batch", "/assets/{path*}" (the rest, slashes
// included). Invariants:
//   1. The most exact route wins whatever the order of registration: literal, then {x}:verb, then {x}, then
//   {x*}.
//   2. An unescaped ':' in a path belongs to a verb, so "{id}" never matches "7:cancel"; in an id it is
//   written %3A.
//   3. Registering the same (method, pattern shape) twice throws: two meanings for one URL is a bug of the
//   wiring.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/http/message.h"

namespace tutti::http {

struct Route {
  Method method = Method::get;
  std::string pattern;
  std::string name;  // "jobs.cancel"; the operationId of the OpenAPI document
  Handler handler;
  WsHandler websocket;  // set instead of handler on websocket routes (method get)
};

class Router {
 public:
  Router();
  ~Router();
  Router(Router&&) noexcept;
  Router& operator=(Router&&) noexcept;

  // Each returns *this. A handler is `void(Request, Responder)`, or `Response(const Request&)` when it needs
  // no wait.
  Router& add(Method method, std::string pattern, std::string name, Handler handler);
  Router& add(Method method, std::string pattern, std::string name, SyncHandler handler);

  template <class F>
  Router& get(std::string pattern, F handler, std::string name = {}) {
    return add(Method::get, std::move(pattern), std::move(name), std::move(handler));
  }
  template <class F>
  Router& post(std::string pattern, F handler, std::string name = {}) {
    return add(Method::post, std::move(pattern), std::move(name), std::move(handler));
  }
  template <class F>
  Router& put(std::string pattern, F handler, std::string name = {}) {
    return add(Method::put, std::move(pattern), std::move(name), std::move(handler));
  }
  template <class F>
  Router& patch(std::string pattern, F handler, std::string name = {}) {
    return add(Method::patch, std::move(pattern), std::move(name), std::move(handler));
  }
  template <class F>
  Router& del(std::string pattern, F handler, std::string name = {}) {
    return add(Method::del, std::move(pattern), std::move(name), std::move(handler));
  }
  Router& websocket(std::string pattern, WsHandler handler, std::string name = {});

  /// In order of registration. Pointers stay valid once filling is over.
  const std::vector<Route>& routes() const;

  /// Finds the route, fills request.params and request.route. nullptr: answer with refusal(request).
  /// HEAD finds GET routes (the session drops the body). Parameters of path and query are UTF-8 without NUL,
  /// or the request is refused here.
  const Route* match(Request& request) const;
  /// 404, 405 with Allow, or 204 with Allow for OPTIONS; 403 for the question of a browser whether a page of
  /// another origin may ask (CORS preflight).
  Response refusal(const Request& request) const;

  /// Match and call: the whole server without sockets, for tests of handlers.
  void dispatch(Request request, Responder responder) const;

 private:
  struct Table;
  std::unique_ptr<Table> table_;
};

}  // namespace tutti::http
