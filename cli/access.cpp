// user, token, join-token.
#include "cli/access.h"

#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <istream>
#include <ostream>

#include "cli/documents.h"
#include "cli/listing.h"
#include "cli/terminal.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

// Shows what would be sent instead of sending it.
int would(Session& session, const std::string& what, const json::object& body) {
  session.print(
      body, [&] { return "would " + what + (body.empty() ? "\n" : ":\n" + to_yaml(body)); },
      [&] { return Table{{{"WOULD"}}, {{{what}}}}; });
  return 0;
}

// "nlp=member", or "member" for everywhere; "none" takes the role away.
json::object roles_body(const std::vector<std::string>& roles) {
  json::object body;
  for (const auto& role : roles) {
    const auto equals = role.find('=');
    const std::string project = equals == std::string::npos ? "*" : role.substr(0, equals);
    const std::string word = equals == std::string::npos ? role : role.substr(equals + 1);
    if (project.empty() || word.empty())
      throw Failure(Exit::usage, "--role " + role + ": expected ROLE, or PROJECT=ROLE",
                    "roles: viewer, member, operator, admin; none takes one away");
    body[project] = word == "none" ? json::value(nullptr) : json::value(word);
  }
  return body;
}

std::string new_password(const std::string& of) {
  const std::string otherwise = "--password-stdin reads it from standard input";
  const std::string once = ask_secret("new password of " + of + ": ", otherwise);
  if (once != ask_secret("once more: ", otherwise))
    throw Failure(Exit::usage, "these were two different passwords");
  return once;
}

Table users_table(const json::array& users, const Look& look) {
  return list_table(users,
                    {{"USER", "name"},
                     {"ROLES", "roles", Show::list},
                     {"PASSWORD", "has_password"},
                     {"DISABLED", "disabled"},
                     {"CREATED", "created_at", Show::time},
                     {"BY", "created_by"}},
                    look);
}

Table tokens_table(const json::array& tokens, const Look& look) {
  return list_table(tokens,
                    {{"ID", "id", Show::number},
                     {"USER", "user"},
                     {"NAME", "name"},
                     {"SCOPES", "scopes", Show::list},
                     {"CREATED", "created_at", Show::time},
                     {"EXPIRES", "expires_at", Show::time},
                     {"USED", "last_used_at", Show::time},
                     {"FROM", "last_used_from", Show::detail},
                     {"REVOKED", "revoked_at", Show::time}},
                    look);
}

int revoke(Session& session, const std::string& kind, const std::string& path,
           const std::vector<std::string>& ids, bool dry_run) {
  int status = 0;
  for (const auto& id : expand_ids(session, ids)) {
    try {
      if (!dry_run) session.client.remove(path + percent_encode(id));
      if (session.human())
        session.out << kind << " " << clean(id) << (dry_run ? " would be revoked\n" : " is revoked\n");
      else
        session.print(
            json::object{{"id", id}, {"revoked", !dry_run}}, [] { return std::string(); },
            [&] { return Table{{{"REVOKED"}}, {{{id}}}}; });
    } catch (const Failure& failure) {
      if (ids.size() == 1) throw;
      session.err << "tutti: " << kind << " " << clean(id) << ": " << failure.what() << "\n";
      if (status == 0) status = static_cast<int>(failure.exit);
    }
  }
  return status;
}

}  // namespace

int run_users(Session& session) {
  const Document document = session.client.get("/v1/users");
  session.print(document,
                [&] { return users_table(array_of(as_object(document.tree), "users"), session.look); });
  return 0;
}

int run_user_change(Session& session, const UserChange& change) {
  if (change.disable && change.enable) throw Failure(Exit::usage, "user: --disable or --enable, not both");
  json::object body;
  if (!change.roles.empty()) body["roles"] = roles_body(change.roles);
  if (change.disable || change.enable) body["disabled"] = change.disable;
  if (change.no_password && (change.new_password || change.password_stdin))
    throw Failure(Exit::usage, "user: a password or none, not both");
  if (change.no_password) body["password"] = "";
  const bool password =
      !change.no_password && (change.create || change.new_password || change.password_stdin);
  if (!password && body.empty())
    throw Failure(Exit::usage, "user set: nothing is to be changed",
                  "--role, --password, --disable or --enable");
  if (change.create) body["name"] = change.name;
  if (change.dry_run)
    return would(session, (change.create ? "add user " : "change user ") + change.name, body);
  if (password)
    body["password"] =
        change.password_stdin ? read_secret_line(session.in, "password") : new_password(change.name);
  const Document document = change.create
                                ? session.client.post("/v1/users", body)
                                : session.client.patch("/v1/users/" + percent_encode(change.name), body);
  session.print(
      document, [&] { return "user " + change.name + (change.create ? " is added\n" : " is changed\n"); },
      [&] { return users_table(json::array{document.tree}, session.look); });
  return 0;
}

int run_user_remove(Session& session, const std::string& name, bool yes, bool dry_run) {
  if (dry_run) return would(session, "remove user " + name, {});
  if (!yes) ask_yes(session, "remove user " + name + " and revoke all tokens");
  const Document document = session.client.remove("/v1/users/" + percent_encode(name));
  session.print(
      document, [&] { return "user " + name + " is removed\n"; },
      [&] { return Table{{{"REMOVED"}}, {{{name}}}}; });
  return 0;
}

int run_password(Session& session, bool from_stdin) {
  json::object body;
  body["old"] = from_stdin ? read_secret_line(session.in, "old password")
                           : ask_secret("old password: ", "--password-stdin reads both, one a line");
  body["new"] = from_stdin ? read_secret_line(session.in, "new password") : new_password("yours");
  session.client.put("/v1/me/password", body);
  session.print(
      json::object{{"changed", true}}, [] { return std::string("your password is changed\n"); },
      [] { return Table{{{"CHANGED"}}, {{{"password"}}}}; });
  return 0;
}

int run_tokens(Session& session, const std::string& user) {
  const Document document =
      session.client.get("/v1/tokens" + (user.empty() ? std::string() : "?user=" + percent_encode(user)));
  session.print(document,
                [&] { return tokens_table(array_of(as_object(document.tree), "tokens"), session.look); });
  return 0;
}

int run_token_create(Session& session, const TokenRequest& request) {
  json::object body{{"name", request.name},
                    {"scopes", json::value_from(request.scopes)},
                    {"expires_in", request.expires_in}};
  if (!request.user.empty()) body["user"] = request.user;
  if (request.dry_run) return would(session, "make a token", body);
  const Document document = session.client.post("/v1/tokens", body);
  const json::object& made = as_object(document.tree);
  // The token alone on standard output, for scripts: it is shown this once.
  const auto text = [&] {
    session.err << "token " << text_of(made, "id") << " (" << clean(request.name) << ") until "
                << text_of(made, "expires_at") << "; it is shown this once:\n"
                << std::flush;
    return text_of(made, "token") + "\n";
  };
  session.print(document, text, [&] {
    return list_table(json::array{made}, {{"ID", "id"}, {"TOKEN", "token"}, {"EXPIRES", "expires_at"}},
                      session.look);
  });
  return 0;
}

int run_token_revoke(Session& session, const std::vector<std::string>& ids, bool dry_run) {
  return revoke(session, "token", "/v1/tokens/", ids, dry_run);
}

int run_join_tokens(Session& session) {
  const Document document = session.client.get("/v1/join-tokens");
  session.print(document, [&] {
    const json::object& body = as_object(document.tree);
    return list_table(array_of(body, "join_tokens"),
                      {{"ID", "id", Show::number},
                       {"NODE", "node"},
                       {"USES LEFT", "uses_left", Show::number},
                       {"BY", "created_by"},
                       {"CREATED", "created_at", Show::time},
                       {"EXPIRES", "expires_at", Show::time}},
                      session.look);
  });
  return 0;
}

int run_join_token_create(Session& session, const JoinTokenRequest& request) {
  json::object body;
  if (!request.node.empty()) body["node"] = request.node;
  if (!request.expires_in.empty()) body["expires_in"] = request.expires_in;
  if (request.uses > 0) body["uses"] = request.uses;
  if (request.dry_run) return would(session, "make a join token", body);
  const Document document = session.client.post("/v1/join-tokens", body);
  const json::object& made = as_object(document.tree);
  const auto text = [&] {
    session.err << "join token " << text_of(made, "id")
                << "; it is shown this once. On the node, in a file:\n"
                << std::flush;
    return text_of(made, "token") + "\n";
  };
  session.print(document, text, [&] {
    return list_table(json::array{made}, {{"ID", "id"}, {"TOKEN", "token"}}, session.look);
  });
  return 0;
}

int run_join_token_revoke(Session& session, const std::vector<std::string>& ids, bool dry_run) {
  return revoke(session, "join token", "/v1/join-tokens/", ids, dry_run);
}

}  // namespace tutti::cli
