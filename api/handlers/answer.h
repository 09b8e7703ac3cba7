// What all handlers share: the shared state behind the routes, the answer that may come later, errors as
// problems, and reading of bodies, query parameters and rows. Control thread only.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/access/permissions.h"
#include "api/handlers/routes.h"
#include "api/http/message.h"

namespace tutti::api {

class QueueKept;  // queue_kept.h
class MapKept;    // map.cpp

struct Api {
  Backend& backend;
  HandlerSettings settings;
  Services services;
  // Counting rows costs a scan: one answer serves all who ask within two seconds.
  struct {
    StateCounts counts{};
    std::optional<Mono> at;
  } counted;
  std::shared_ptr<QueueKept> queue{};  // what waits, as it was last looked at
  std::shared_ptr<MapKept> map{};      // likewise
  Mono started{};
  int downloads = 0;                                  // of evidence, under way
  std::vector<std::pair<std::string, Need>> needs{};  // of every route, by its name
};
using ApiPtr = std::shared_ptr<Api>;

/// The answer to one request. Copyable, so that callbacks can hold it; only the first send counts. If every
/// copy is dropped unused, the caller gets 500.
class Answer {
 public:
  explicit Answer(http::Responder responder);

  void send(http::Response response) const;
  void json(int status, const boost::json::value& value) const;
  void fail(const Error& error) const;
  /// The connection becomes a WebSocket, see http::Responder::upgrade.
  void upgrade(http::LinkHandler then) const;
  std::shared_ptr<http::Stream> stream(int status, http::Headers headers, http::StreamOptions options) const;
  std::shared_ptr<http::Stream> sse(std::size_t max_buffer) const;
  /// A header for the answer to come.
  void header(std::string name, std::string value) const;
  /// Sees the answer before it leaves, and lets it go by calling `on`, now or later.
  void hold(std::function<void(const http::Response&, std::function<void()> on)> first) const;
  /// Sees what stays open instead of being answered, a stream or a link, and how to close it.
  using Guard = std::function<void(std::weak_ptr<void> what, std::function<void()> close)>;
  void guard(Guard guard) const;

 private:
  std::shared_ptr<http::Stream> guarded(std::shared_ptr<http::Stream> stream) const;
  struct State {
    http::Responder responder;
    http::Headers headers;
    std::function<void(const http::Response&, std::function<void()>)> first;
    Guard guard;
  };
  std::shared_ptr<State> state_;
};

using Endpoint = void (*)(const ApiPtr&, const http::Request&, Answer);

/// Registers endpoints under their operationId, with what they need: an endpoint runs only for those who may
/// (admission.cpp). With Need::job_read and job_change the path's {id} is a job's number from then on.
struct Routes {
  http::Router& router;
  ApiPtr api;

  void get(std::string pattern, std::string name, Need need, Endpoint endpoint) const;
  void post(std::string pattern, std::string name, Need need, Endpoint endpoint) const;
  void put(std::string pattern, std::string name, Need need, Endpoint endpoint) const;
  void patch(std::string pattern, std::string name, Need need, Endpoint endpoint) const;
  void remove(std::string pattern, std::string name, Need need, Endpoint endpoint) const;
};

/// Lets a request through to `endpoint`, or answers 401, 403 or 404 itself: a job that its reader may not see
/// does not exist for them.
/// Changes are recorded in the audit trail, and answered when that is stored.
http::Handler admit(const ApiPtr& api, Need need, std::string name, Endpoint endpoint);

// One per noun.
void add_job_routes(const Routes&);
void add_submit_routes(const Routes&);
void add_job_action_routes(const Routes&);
void add_simulate_routes(const Routes&);
void add_job_change_routes(const Routes&);
void add_bulk_routes(const Routes&);
void add_attempt_routes(const Routes&);
void add_checkpoint_routes(const Routes&);
void add_log_routes(const Routes&);
void add_evidence_routes(const Routes&);
void add_event_routes(const Routes&);
void add_node_routes(const Routes&);
void add_queue_routes(const Routes&);
void add_map_routes(const Routes&);
void add_metrics_routes(const Routes&);
void add_history_routes(const Routes&);  // with the three that follow
void add_history_queue_route(const Routes&);
void add_replay_route(const Routes&);
void add_node_history_routes(const Routes&);
void add_plan_routes(const Routes&);
void add_share_routes(const Routes&);
void add_fault_routes(const Routes&);
void add_session_routes(const Routes&);
void add_user_routes(const Routes&);
void add_token_routes(const Routes&);
void add_join_routes(const Routes&);
void add_audit_routes(const Routes&);
void add_usage_routes(const Routes&);
void add_report_routes(const Routes&);
void add_webhook_routes(const Routes&);
void add_secret_routes(const Routes&);
void add_exec_routes(const Routes&);
void add_system_routes(const Routes&);
void add_docs_routes(const Routes&);

// ---------------------------------------------------------------- errors

/// Errc to HTTP, the one place.
http::Response error_response(const Error& error);
http::Problem problem_of(const Error& error);
boost::json::value problem_json(const http::Problem& problem);  // as a member of another answer

Error not_found(std::string message, std::string hint = {});
Error bad_field(std::string field, std::string message, std::string hint = {});
Error not_ready(const Backend& backend);

// ---------------------------------------------------------------- requests

const Identity& identity_of(const http::Request& request);
/// The peer's address without its port.
std::string address_of(const http::Request& request);
inline constexpr std::string_view kSessionCookie = "tutti_session";
std::optional<std::string> cookie_of(const http::Request& request, std::string_view name);
bool is_user_name(std::string_view name);

/// A whole number of a query parameter; a problem names the parameter.
Result<std::int64_t> int_param(const http::Request& request, std::string_view name, std::int64_t fallback,
                               std::int64_t min, std::int64_t max);
/// A row id in a path or query ("42"); nothing if it is not one.
std::optional<std::int64_t> parse_id(std::string_view text);
/// The optional body {"reason": "…"} of an action. Anything else is answered here; then nothing is returned.
/// `until`: a member of that name is taken too, as text.
std::optional<std::string> read_reason(const http::Request& request, const Answer& answer, bool required,
                                       std::string* until = nullptr);
http::Response malformed(std::string_view language, std::string message, int line, int column);

// ---------------------------------------------------------------- rows

/// `query(Reader&)` on a read thread, then `then(its result)` on the control thread. A store that cannot be
/// read answers 503.
template <class Query, class Then>
void read_rows(const ApiPtr& api, const Answer& answer, Query query, Then then) {
  using Rows = std::invoke_result_t<Query, Reader&>;
  api->backend.read(
      [query = std::move(query), then = std::move(then)](Reader& reader) -> std::function<void()> {
        auto rows = std::make_shared<Rows>(query(reader));
        return [rows, then] { then(std::move(*rows)); };
      },
      [answer](const Error& error) { answer.fail(error); });
}

}  // namespace tutti::api
