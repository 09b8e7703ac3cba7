// login, logout, whoami and the verbs of contexts: who one is, where. Called by commands/access.cpp.
#pragma once

#include <string>
#include <vector>

#include "cli/verbs.h"

namespace tutti::cli {

struct LoginOptions {
  std::string server;   // empty: that of --server, the environment or the context in use
  std::string user;     // empty: asked for
  std::string context;  // empty: the host of the server
  std::string ca, project;
  std::vector<std::string> scopes = {"read", "submit", "operate"};
  std::string expires_in = "30d";
  bool password_stdin = false;
  bool token_stdin = false;
};
// The server to log in to, and whatever else is known of it. No token.
Connection login_target(const ConnectionFlags& flags, const LoginOptions& options);
// `session.client` talks to login_target without a token. Stores the token in a context, which is then in
// use.
int run_login(Session& session, const LoginOptions& options);
// Revokes the token of the context in use and forgets it. `local`: only forgets.
int run_logout(Session& session, bool local);
int run_whoami(Session& session);

// These need no server; `out` gets what Session::print would print.
int run_context_list(const Printer& printer);
int run_context_use(const Printer& printer, const std::string& name);
struct ContextSettings {
  std::string name, server, token_file, ca, user, project;
  bool use = false;
};
int run_context_add(const Printer& printer, const ContextSettings& settings);
int run_context_remove(const Printer& printer, const std::string& name);

}  // namespace tutti::cli
