#include "cli/login.h"

#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <filesystem>
#include <istream>
#include <ostream>

#include "cli/documents.h"
#include "cli/listing.h"
#include "cli/profile.h"
#include "cli/terminal.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kCookie = "tutti_session=";

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 && name[0] != '\0' ? name : "this machine";
}

std::string host_of(const Connection& server) {
  if (!server.unix_socket.empty()) return "local";
  std::string host = server.server.substr(server.server.find("://") + 3);
  const auto end = host.find('/');
  host = host.substr(0, end);
  const auto colon = host.rfind(':');
  if (colon != std::string::npos && host.find(']', colon) == std::string::npos) host.resize(colon);
  std::erase_if(host, [](char c) { return c == '[' || c == ']'; });
  return host;
}

bool stays_here(const Connection& server) {
  const std::string host = host_of(server);
  return !server.unix_socket.empty() || host == "localhost" || host.starts_with("127.") || host == "::1";
}

// "tutti_session=…", without what comes after the value.
std::string session_cookie(const HttpReply& reply) {
  for (const auto& [name, value] : reply.headers) {
    std::string lower;
    for (const char c : name) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    if (lower != "set-cookie") continue;
    const auto at = value.find(kCookie);
    if (at != std::string::npos) return value.substr(0, value.find(';'));
  }
  throw Failure(Exit::failed, "the server let us in, but gave no session", "is it an older version?");
}

struct Credentials {
  std::string token, id, user, expires_at;
  std::vector<std::string> scopes;
};

// With user name and password: a session, and by it a token for this machine.
Credentials by_password(Session& session, const LoginOptions& options, const std::string& user) {
  if (!stays_here(session.client.connection()) && session.client.connection().server.starts_with("http://"))
    session.err << "warning: " << session.client.connection().server
                << " is not encrypted; others on the way can read the password\n";
  const std::string password =
      options.password_stdin
          ? read_secret_line(session.in, "password")
          : ask_secret("password of " + user + ": ", "--password-stdin reads it from standard input");
  const Document welcome =
      session.client.post("/v1/login", json::object{{"user", user}, {"password", password}, {"cli", true}});
  // A session counts only with the Origin of its own pages: so a foreign page cannot use it.
  const Headers headers{{"Cookie", session_cookie(welcome.head)},
                        {"Origin", session.client.connection().server}};
  const Document made = session.client.post("/v1/tokens",
                                            json::object{{"name", "cli on " + host_name()},
                                                         {"scopes", json::value_from(options.scopes)},
                                                         {"expires_in", options.expires_in}},
                                            headers);
  const json::object& body = as_object(made.tree);
  Credentials found{.token = text_of(body, "token"),
                    .id = text_of(body, "id"),
                    .user = text_of(as_object(welcome.tree), "user"),
                    .expires_at = text_of(body, "expires_at"),
                    .scopes = {}};
  if (found.token.empty()) throw Failure(Exit::failed, "the server's answer has no token");
  if (found.user.empty()) found.user = user;
  return found;
}

// With a token that somebody has: who is it of?
Credentials by_token(Session& session, const std::string& token) {
  if (token.find_first_of(" \t\r\n") != std::string::npos)
    throw Failure(Exit::usage, "a token has no spaces in it");
  Connection connection = session.client.connection();
  connection.token = token;
  Client client(connection, session.client.patience(), [](const std::string&) {});
  const Document me = client.get("/v1/me");
  const json::object& body = as_object(me.tree);
  const json::object& of = object_of(body, "token");
  return {.token = token,
          .id = text_of(of, "id"),
          .user = text_of(body, "user"),
          .expires_at = text_of(of, "expires_at"),
          .scopes = {}};
}

Credentials log_in(Session& session, const LoginOptions& options) {
  if (options.token_stdin && options.password_stdin)
    throw Failure(Exit::usage, "login: standard input is the password or the token, not both");
  if (options.token_stdin) return by_token(session, read_secret_line(session.in, "token"));
  std::string user = options.user;
  if (user.empty()) {
    if (options.password_stdin) throw Failure(Exit::usage, "login: --password-stdin needs --user");
    const std::string otherwise = "--token-stdin, or --user NAME --password-stdin";
    user = ask_line("user name (empty: a token instead): ", otherwise);
    if (user.empty()) return by_token(session, ask_secret("token: ", otherwise));
  }
  return by_password(session, options, user);
}

// A context is used from other folders, too.
std::string absolute(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

Table contexts_table(const json::array& contexts) {
  return list_table(contexts,
                    {{"IN USE", "in_use"},
                     {"CONTEXT", "name"},
                     {"SERVER", "server"},
                     {"USER", "user"},
                     {"PROJECT", "project"},
                     {"TOKEN", "token"},
                     {"CA", "ca", Show::detail}},
                    Look{});
}

// Never the token itself.
json::object shown(const Context& context, const Profile& profile) {
  return {{"in_use", context.name == profile.current ? "*" : ""},
          {"name", context.name},
          {"server", context.server},
          {"user", context.user},
          {"project", context.project},
          {"token", !context.token.empty()       ? "stored"
                    : context.token_file.empty() ? "none"
                                                 : context.token_file},
          {"ca", context.ca}};
}

}  // namespace

Connection login_target(const ConnectionFlags& flags, const LoginOptions& options) {
  ConnectionFlags asked = flags;
  if (!options.server.empty()) asked.server = options.server;
  if (!options.ca.empty()) asked.ca = options.ca;
  // A context that does not exist yet is the name of the new one.
  if (!asked.server.empty()) asked.context.clear();
  if (!options.server.empty() && options.server.find("://") == std::string::npos)
    throw Failure(Exit::usage, "'" + options.server + "' is not the URL of a server",
                  "tutti login https://" + options.server);
  Connection target = find_connection(asked);
  target.token.clear();
  return target;
}

int run_login(Session& session, const LoginOptions& options) {
  if (!options.context.empty()) check_context_name(options.context);
  const Credentials found = log_in(session, options);
  const Connection& server = session.client.connection();
  Context context{.name = options.context.empty() ? host_of(server) : options.context,
                  .server = url_of(server),
                  .token = found.token,
                  .token_id = found.id,
                  .token_file = {},
                  .ca = absolute(server.ca),
                  .user = found.user,
                  .project = options.project};
  check_context_name(context.name);
  const std::string path = profile_path();
  change_profile(path, [&](Profile& profile) {
    const Context* before = profile.find(context.name);
    if (before != nullptr && same_server(before->server, context.server) && context.project.empty())
      context.project = before->project;
    profile.at(context.name) = context;
    profile.current = context.name;
  });
  const json::object result{{"context", context.name},        {"server", context.server},
                            {"user", context.user},           {"token_id", context.token_id},
                            {"expires_at", found.expires_at}, {"file", path}};
  session.print(
      result,
      [&] {
        std::string text = "logged in to " + context.server + " as " + clean(context.user);
        if (!found.expires_at.empty()) text += " until " + found.expires_at.substr(0, 10);
        return text + "; context " + context.name + " is in use (" + path + ")\n";
      },
      [&] {
        return list_table(json::array{result}, {{"CONTEXT", "context"}, {"USER", "user"}}, session.look);
      });
  return 0;
}

int run_logout(Session& session, bool local) {
  const Connection& server = session.client.connection();
  const std::string path = profile_path();
  const Profile profile = load_profile(path);
  const Context* context = profile.find(server.context);
  if (context == nullptr || context->token.empty())
    throw Failure(
        Exit::failed,
        "there is no token to forget" + (server.context.empty() ? "" : " in context " + server.context),
        "TUTTI_TOKEN and token files are not ours to remove");
  if (!local) {
    std::string id = context->token_id;
    if (id.empty()) id = text_of(object_of(as_object(session.client.get("/v1/me").tree), "token"), "id");
    try {
      if (!id.empty()) session.client.remove("/v1/tokens/" + percent_encode(id));
    } catch (Failure& failure) {
      // One that is not known any more cannot be used any more.
      const bool gone = failure.exit == Exit::not_found || integer_of(failure.problem, "status") == 401;
      if (!gone) {
        failure.hint =
            "nothing was forgotten, so that it can be revoked later; --local forgets it all the same";
        throw;
      }
    }
  }
  const std::string name = context->name;
  change_profile(path, [&](Profile& all) {
    all.at(name).token.clear();
    all.at(name).token_id.clear();
  });
  session.print(
      json::object{{"context", name}, {"revoked", !local}},
      [&] {
        return "logged out of " + server.server +
               (local ? "; its token is still good\n" : "; its token is revoked\n");
      },
      [&] { return Table{{{"CONTEXT"}}, {{{name}}}}; });
  return 0;
}

int run_whoami(Session& session) {
  const Document document = session.client.get("/v1/me");
  const json::object& me = as_object(document.tree);
  const json::object& token = object_of(me, "token");
  const auto list = [&](const char* key) {
    const auto* value = me.if_contains(key);
    return value == nullptr ? std::string() : list_text(*value);
  };
  std::string of = text_of(token, "id");
  if (const std::string name = text_of(token, "name"); !name.empty()) of += " (" + name + ")";
  const Connection& server = session.client.connection();
  const std::vector<std::pair<std::string, Cell>> fields = {
      {"user", {text_of(me, "user")}},
      {"kind", {text_of(me, "kind")}},
      {"roles", {list("roles")}},
      {"scopes", {list("scopes")}},
      {"credential", {text_of(me, "credential")}},
      {"token", {of}},
      {"expires", time_cell(text_of(token, "expires_at"), session.look)},
      {"server", {url_of(server)}},
      {"context", {server.context}},
      {"project", {server.project}}};
  session.print(
      document, [&] { return render_fields(fields, session.look); },
      [&] {
        return list_table(json::array{me},
                          {{"USER", "user"},
                           {"KIND", "kind"},
                           {"ROLES", "roles", Show::list},
                           {"SCOPES", "scopes", Show::list}},
                          session.look);
      });
  return 0;
}

int run_context_list(const Printer& printer) {
  const Profile profile = load_profile(profile_path());
  json::array all;
  for (const auto& context : profile.contexts) all.push_back(shown(context, profile));
  const json::object body{{"file", profile_path()}, {"current", profile.current}, {"contexts", all}};
  printer.print(
      body,
      [&] {
        if (all.empty()) return std::string("no contexts; tutti login SERVER makes one\n");
        return render_table(contexts_table(all), printer.look);
      },
      [&] { return contexts_table(all); });
  return 0;
}

int run_context_use(const Printer& printer, const std::string& name) {
  change_profile(profile_path(), [&](Profile& profile) {
    if (profile.find(name) == nullptr)
      throw Failure(Exit::not_found, "there is no context '" + name + "'",
                    "tutti context list shows those there are");
    profile.current = name;
  });
  printer.print(
      json::object{{"current", name}}, [&] { return "context " + name + " is in use\n"; },
      [&] { return Table{{{"CONTEXT"}}, {{{name}}}}; });
  return 0;
}

int run_context_add(const Printer& printer, const ContextSettings& settings) {
  check_context_name(settings.name);
  const std::string path = profile_path();
  change_profile(path, [&](Profile& profile) {
    const bool fresh = profile.find(settings.name) == nullptr;
    if (fresh && settings.server.empty())
      throw Failure(Exit::usage, "context add: --server says where the new context is");
    if (!settings.server.empty()) (void)parse_server(settings.server);
    Context& context = profile.at(settings.name);
    // A token is of the server it was made by.
    if (!settings.server.empty() && !fresh && !same_server(context.server, settings.server)) {
      context.token.clear();
      context.token_id.clear();
    }
    for (const auto& [value, member] :
         {std::pair{settings.server, &Context::server},
          std::pair{absolute(settings.token_file), &Context::token_file},
          std::pair{absolute(settings.ca), &Context::ca}, std::pair{settings.user, &Context::user},
          std::pair{settings.project, &Context::project}})
      if (!value.empty()) context.*member = value;
    if (settings.use || profile.current.empty()) profile.current = settings.name;
  });
  printer.print(
      json::object{{"context", settings.name}, {"file", path}},
      [&] { return "context " + settings.name + " is kept in " + path + "\n"; },
      [&] { return Table{{{"CONTEXT"}}, {{{settings.name}}}}; });
  return 0;
}

int run_context_remove(const Printer& printer, const std::string& name) {
  change_profile(profile_path(), [&](Profile& profile) {
    if (!profile.remove(name))
      throw Failure(Exit::not_found, "there is no context '" + name + "'",
                    "tutti context list shows those there are");
  });
  printer.print(
      json::object{{"removed", name}}, [&] { return "context " + name + " is removed\n"; },
      [&] { return Table{{{"REMOVED"}}, {{{name}}}}; });
  return 0;
}

}  // namespace tutti::cli
