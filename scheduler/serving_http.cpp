// The HTTP side of a scheduler: which routes there are, and what every request passes on its way.
#include <spdlog/spdlog.h>

#include <any>
#include <boost/asio/post.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "api/handlers/console.h"
#include "api/handlers/routes.h"
#include "scheduler/serving.h"

namespace tutti {

const http::Router& Serving::with_routes() {
  HandlerSettings handlers;
  handlers.leases = lead_.leases.settings();
  handlers.tls = config_.tls != nullptr;
  lead_.hub.shells().set_idle(from_seconds(flags_.shell_idle_hours * 3600));
  add_routes(router_, lead_.leader, handlers, services());
  if (!flags_.console_dir.empty()) add_console(router_, flags_.console_dir);
  router_.websocket(
      std::string(kWorkerRoute),
      [this](http::Request request, std::shared_ptr<http::Link> link) {
        const auto* who = std::any_cast<Identity>(&request.identity);
        const bool is_node = who != nullptr && who->kind == Identity::Kind::node;
        if (who != nullptr) keep_judging_worker(accounts_.accounts, *who, link);
        lead_.hub.accept(std::move(link), is_node ? who->name : "");
      },
      "worker");
  add_term_route(router_, TermMark(home_.key),
                 [this](const TermMark::Says& says) { return told_of_term(says); });
  limits_->weigh(router_);
  return router_;
}

Services Serving::services() {
  Services services;
  services.history = &history_.history;
  services.tracing = records_.tracer ? &*records_.tracer : nullptr;
  services.waiting = &records_.waiting;
  services.series = &records_.series;
  services.accounts = &accounts_.accounts;
  services.webhooks = &webhooks_.webhooks;
  services.forwarding = &replicas_.proxy;
  services.limits = &*limits_;
  services.secrets = &lead_.vault;
  services.shells = &lead_.hub.shells();
  return services;
}

http::Hooks Serving::hooks() {
  http::Hooks hooks;
  hooks.arrive = seen_from_client(limits_->arrive(), ForwardMark(home_.key));
  hooks.before = limits_->around(judged_by_leader(authenticate(accounts_.accounts), replicas_.proxy));
  hooks.after = [this](const http::AccessRecord& record) { answered(record); };
  hooks.on_error = [](std::string_view what) { spdlog::error("http: {}", what); };
  return hooks;
}

std::function<Mono()> Serving::clock() {
  return [this] { return lead_.leader.now().mono; };
}

void Serving::answered(const http::AccessRecord& r) {
  lead_.metrics.request_done(http::to_string(r.method), r.route, r.status,
                             r.stream ? -1 : std::chrono::duration<double>(r.duration).count());
  if (!records_.tracer || r.stream || r.traceparent.empty()) return;
  const Instant now = lead_.leader.now().wall;
  records_.tracer->answered(r.traceparent, std::string(http::to_string(r.method)).append(" ").append(r.route),
                            r.status, now - std::chrono::duration_cast<Duration>(r.duration), now);
}

// Whether it ends our lead: that is said before it does.
bool Serving::told_of_term(const TermMark::Says& says) {
  Leader& leader = lead_.leader;
  const bool ends = leader.leads() && Term(says.term) > leader.term();
  if (ends)
    boost::asio::post(home_.io, [&leader, says] { leader.told_of_term(Term(says.term), says.holder); });
  return ends;
}

}  // namespace tutti
