// The REST API: which URL means what. Everything under /v1 except the workers' WebSocket, plus health,
// metrics and the API's own description.
//
// Called by: serving_http.cpp (wiring) and tests. All handlers run on the control thread: the server must
// be driven by the executor on which the Backend lives. The Backend outlives the router. Rules: (1) errors
// leave as RFC 9457 problems only; (2) a submission is answered from memory, without a read of the database;
// (3) every route is described in openapi.json, a test compares both.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api/access/identity.h"
#include "api/handlers/backend.h"
#include "api/handlers/services.h"
#include "api/http/router.h"
#include "scheduler/core/lease_table.h"

namespace tutti {

struct HandlerSettings {
  LeaseSettings leases;  // shown by GET /v1/cluster
  std::string version = TUTTI_VERSION;
  bool tls = false;  // cookies are for encrypted connections only
};

void add_routes(http::Router& router, Backend& backend, const HandlerSettings& settings,
                const Services& services = {});

/// Of the workers' WebSocket, which the wiring registers.
inline constexpr std::string_view kWorkerRoute = "/v1/worker";

/// The `before` hook of the server: everybody but those who ask for health, the API's description or to sign
/// in must be known. Fills Request::identity. The accounts outlive it.
std::function<std::optional<http::Response>(http::Request&)> authenticate(Accounts& accounts);

/// A worker's connection ends when its credential does, or its certificate. The accounts outlive it.
void keep_judging_worker(Accounts& accounts, const Identity& who, const std::shared_ptr<http::Link>& link);

}  // namespace tutti
