// Who may sign in, for how long, and how long the audit trail is kept: flags of tutti-scheduler.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "api/accounts/accounts.h"

namespace tutti {

struct AccountFlags {
  OidcSettings oidc;
  std::vector<std::string> oidc_grants;
  double oidc_hours = 24;
  double session_idle_hours = 12, session_days = 7;
  double audit_days = 365;
};

void add_account_flags(CLI::App& app, AccountFlags& f);

/// `token` is the scheduler's own. Throws std::runtime_error that names the flag.
AccountSettings account_settings(const AccountFlags& f, const std::string& token);

}  // namespace tutti
