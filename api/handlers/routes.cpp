#include "api/handlers/routes.h"

#include "api/handlers/answer.h"

namespace tutti {

void add_routes(http::Router& router, Backend& backend, const HandlerSettings& settings,
                const Services& services) {
  const api::Routes routes{router, std::make_shared<api::Api>(api::Api{.backend = backend,
                                                                       .settings = settings,
                                                                       .services = services,
                                                                       .counted = {},
                                                                       .started = backend.now().mono})};
  api::add_submit_routes(routes);
  api::add_job_routes(routes);
  api::add_job_action_routes(routes);
  api::add_simulate_routes(routes);
  api::add_job_change_routes(routes);
  api::add_bulk_routes(routes);
  api::add_attempt_routes(routes);
  api::add_checkpoint_routes(routes);
  api::add_log_routes(routes);
  api::add_evidence_routes(routes);
  api::add_event_routes(routes);
  api::add_node_routes(routes);
  api::add_queue_routes(routes);
  api::add_map_routes(routes);
  api::add_metrics_routes(routes);
  api::add_history_routes(routes);
  api::add_plan_routes(routes);
  api::add_share_routes(routes);
  api::add_fault_routes(routes);
  api::add_usage_routes(routes);
  api::add_report_routes(routes);
  api::add_webhook_routes(routes);
  api::add_secret_routes(routes);
  api::add_exec_routes(routes);
  api::add_system_routes(routes);
  api::add_docs_routes(routes);
  if (services.accounts == nullptr) return;
  api::add_session_routes(routes);
  api::add_user_routes(routes);
  api::add_token_routes(routes);
  api::add_join_routes(routes);
  api::add_audit_routes(routes);
}

}  // namespace tutti
