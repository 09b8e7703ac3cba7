// Verbs of people and what they may do: users, tokens, join tokens, audit; and of what goes in and out of a
// cluster: webhooks, secrets, usage. Called by commands/access.cpp.
//
// No secret is ever an argument of the command line, where others could read it: passwords and values come
// from standard input or are asked for without an echo.
#pragma once

#include <string>
#include <vector>

#include "cli/verbs.h"

namespace tutti::cli {

int run_users(Session& session);
struct UserChange {
  std::string name;
  std::vector<std::string> roles;  // "member" everywhere, or "nlp=member", "nlp=none"
  bool create = false, disable = false, enable = false;
  bool new_password = false, password_stdin = false, dry_run = false;
  bool no_password = false;  // tokens and the identity provider only
};
int run_user_change(Session& session, const UserChange& change);
int run_user_remove(Session& session, const std::string& name, bool yes, bool dry_run);

// One's own; the old one is asked for first, or is the first line of standard input.
int run_password(Session& session, bool from_stdin);

int run_tokens(Session& session, const std::string& user);
struct TokenRequest {
  std::string name, user, expires_in = "30d";
  std::vector<std::string> scopes = {"read", "submit"};
  bool dry_run = false;
};
int run_token_create(Session& session, const TokenRequest& request);
int run_token_revoke(Session& session, const std::vector<std::string>& ids, bool dry_run);

int run_join_tokens(Session& session);
struct JoinTokenRequest {
  std::string node, expires_in;
  int uses = 0;  // 0: as the server has it
  bool dry_run = false;
};
int run_join_token_create(Session& session, const JoinTokenRequest& request);
int run_join_token_revoke(Session& session, const std::vector<std::string>& ids, bool dry_run);

struct AuditOptions {
  std::string who, action, target, since;
  int limit = 100;
};
int run_audit(Session& session, const AuditOptions& options);

struct UsageOptions {
  std::string project, user, queue, since, until;
  std::vector<std::string> group_by = {"project"};
};
int run_usage(Session& session, const UsageOptions& options);

int run_webhooks(Session& session);
int run_webhook_show(Session& session, const std::string& name);
struct WebhookSet {
  std::string name, url, kind;
  std::vector<std::string> events, projects, set;
  bool secret = false, secret_stdin = false, dry_run = false;
};
int run_webhook_set(Session& session, const WebhookSet& set);
int run_webhook_remove(Session& session, const std::string& name, bool dry_run);
int run_webhook_test(Session& session, const std::string& name);
int run_webhook_deliveries(Session& session, const std::string& name);

int run_secrets(Session& session, const std::string& project);
struct SecretSet {
  std::string project, name;
  bool dry_run = false;
};
// The value: all of standard input when that is no terminal (one line end at its end is not part of it), else
// asked for.
int run_secret_set(Session& session, const SecretSet& set);
int run_secret_remove(Session& session, const SecretSet& set);

}  // namespace tutti::cli
