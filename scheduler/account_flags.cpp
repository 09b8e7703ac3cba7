#include "scheduler/account_flags.h"

#include <stdexcept>
#include <utility>

namespace tutti {

void add_account_flags(CLI::App& app, AccountFlags& f) {
  app.add_option("--session-idle-hours", f.session_idle_hours,
                 "a console session ends so long after its last use")
      ->check(CLI::Range(0.1, 24.0 * 30))
      ->capture_default_str();
  app.add_option("--session-days", f.session_days, "and at the latest so long after its login")
      ->check(CLI::Range(0.1, 365.0))
      ->capture_default_str();
  app.add_option("--audit-days", f.audit_days, "rows of the audit trail are kept so long; 0 = for ever")
      ->check(CLI::Range(0.0, 365.0 * 100))
      ->capture_default_str();
  auto* issuer =
      app.add_option("--oidc-issuer", f.oidc.issuer,
                     "URL of an OpenID Connect provider whose bearer tokens are taken, as in their `iss`");
  app.add_option("--oidc-audience", f.oidc.audience, "one of the `aud` of its tokens")->needs(issuer);
  issuer->needs("--oidc-audience");
  app.add_option("--oidc-jwks-url", f.oidc.jwks_url, "its keys; default: where its discovery document says")
      ->needs(issuer);
  app.add_option("--oidc-user-claim", f.oidc.user_claim, "claim that names the user")->capture_default_str();
  app.add_option("--oidc-roles-claim", f.oidc.roles_claim, "claim that lists the user's groups")
      ->capture_default_str();
  app.add_option(
      "--oidc-grant", f.oidc_grants,
      "GROUP=PROJECT:ROLE, what members of a group may do; project * is everywhere; may be repeated");
  app.add_option("--oidc-max-lifetime-hours", f.oidc_hours,
                 "tokens that hold for longer are refused: until they expire their groups count; 0 = any")
      ->check(CLI::Range(0.0, 24.0 * 365))
      ->capture_default_str();
  app.add_option("--oidc-ca", f.oidc.ca_file, "certificates to verify the provider with")
      ->check(CLI::ExistingFile);
}

AccountSettings account_settings(const AccountFlags& f, const std::string& token) {
  AccountSettings settings;
  settings.root_token = token;
  settings.session_idle = from_seconds(f.session_idle_hours * 3600);
  settings.session_life = from_seconds(f.session_days * 86'400);
  settings.audit_life = from_seconds(f.audit_days * 86'400);
  settings.oidc = f.oidc;
  settings.oidc.longest = from_seconds(f.oidc_hours * 3600);
  for (const auto& text : f.oidc_grants) {
    auto grant = parse_grant(text);
    if (!grant)
      throw std::runtime_error("--oidc-grant " + grant.error().message + " (" + grant.error().hint + ")");
    settings.oidc.grants.push_back(*std::move(grant));
  }
  return settings;
}

}  // namespace tutti
