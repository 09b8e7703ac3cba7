#include "cli/connection.h"

#include <unistd.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cstdlib>
#include <fstream>
#include <optional>

#include "cli/failure.h"
#include "cli/profile.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::optional<std::string> read_small(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text(64 << 10, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

// {"server", "token"}: of `tutti up`, or named by its path.
std::optional<Context> load_file(const std::string& path, bool required) {
  const auto text = read_small(path);
  if (!text) {
    if (required) throw Failure(Exit::usage, "cannot read the context file " + path);
    return std::nullopt;
  }
  boost::system::error_code ec;
  const json::value tree = json::parse(*text, ec);
  if (ec || !tree.is_object()) throw Failure(Exit::usage, path + " is not a JSON object");
  const auto word = [&](const char* key) -> std::string {
    const auto* value = tree.get_object().if_contains(key);
    if (value == nullptr || value->is_null()) return {};
    if (!value->is_string()) throw Failure(Exit::usage, path + ": '" + key + "' must be text");
    return std::string(value->get_string());
  };
  return Context{.name = path, .server = word("server"), .token = word("token")};
}

std::string names_of(const Profile& profile) {
  std::string names;
  for (const auto& context : profile.contexts) names += (names.empty() ? "" : ", ") + context.name;
  return names;
}

Context named_context(const std::string& name) {
  if (name.find('/') != std::string::npos) return *load_file(name, true);
  const std::string path = profile_path();
  const Profile profile = load_profile(path);
  if (const Context* context = profile.find(name); context != nullptr) return *context;
  throw Failure(
      Exit::usage, "there is no context '" + name + "' in " + path,
      profile.contexts.empty() ? "tutti login SERVER makes one" : "there are: " + names_of(profile));
}

// config.json held one context before there were several.
std::string single_context_path(const std::string& profile) {
  const auto slash = profile.rfind('/');
  return slash == std::string::npos ? std::string() : profile.substr(0, slash) + "/config.json";
}

std::optional<Context> context_in_use() {
  const std::string path = profile_path();
  const Profile profile = load_profile(path);
  if (!profile.current.empty()) {
    if (const Context* context = profile.find(profile.current); context != nullptr) return *context;
    throw Failure(Exit::usage, path + ": the context in use, '" + profile.current + "', is not there",
                  "tutti context use NAME; there are: " + names_of(profile));
  }
  if (environment("TUTTI_CONFIG").empty())
    if (auto single = load_file(single_context_path(path), false)) return single;
  return load_file(default_data_directory() + "/context.json", false);
}

std::string token_of(const Context& context) {
  if (context.token.empty() && !context.token_file.empty()) return read_token_file(context.token_file);
  return context.token;
}

// Takes what is not known yet.
class Finder {
 public:
  void server(const std::string& url, const std::string& from) {
    if (!url_.empty() || url.empty()) return;
    url_ = url;
    found_.server_from = from;
  }
  void token(const std::string& token, const std::string& from) {
    if (!found_.token.empty() || token.empty()) return;
    found_.token = token;
    found_.token_from = from;
  }
  void ca(const std::string& file) {
    if (found_.ca.empty()) found_.ca = file;
  }
  void context(const Context& context) {
    const std::string from = "context " + context.name;
    server(context.server, from);
    if (!same_server(url_, context.server)) return;
    if (found_.token.empty()) token(token_of(context), from);
    ca(context.ca);
    if (found_.context.empty()) {
      found_.context = context.name;
      found_.user = context.user;
      found_.project = context.project;
    }
    if (found_.token_from == from) found_.token_id = context.token_id;
  }
  bool complete() const { return !url_.empty() && !found_.token.empty(); }

  Connection connection() const {
    if (url_.empty())
      throw Failure(Exit::usage, "no server is known",
                    "tutti login SERVER, or set TUTTI_SERVER and TUTTI_TOKEN, or start one here: tutti up");
    if (found_.token.find_first_of("\r\n") != std::string::npos)
      throw Failure(Exit::usage, "the token must be one line");
    const Connection parsed = parse_server(url_);
    Connection connection = found_;
    connection.server = parsed.server;
    connection.others = parsed.others;
    connection.unix_socket = parsed.unix_socket;
    return connection;
  }

 private:
  std::string url_;
  Connection found_;
};

}  // namespace

std::string read_token_file(const std::string& path) {
  const auto text = read_small(path);
  if (!text) throw Failure(Exit::usage, "cannot read the token file " + path);
  return text->substr(0, text->find_first_of("\r\n"));
}

bool same_server(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return false;
  const Connection one = parse_server(a), other = parse_server(b);
  if (one.unix_socket != other.unix_socket) return false;
  const auto named = [&other](const std::string& server) {
    return server == other.server || std::ranges::find(other.others, server) != other.others.end();
  };
  return named(one.server) && std::ranges::all_of(one.others, named);
}

std::string url_of(const Connection& connection) {
  if (!connection.unix_socket.empty()) return "http+unix://" + connection.unix_socket;
  std::string urls = connection.server;
  for (const auto& other : connection.others) urls += "," + other;
  return urls;
}

std::string default_data_directory() {
  if (const std::string xdg = environment("XDG_DATA_HOME"); !xdg.empty()) return xdg + "/tutti/up";
  // The embedded PostgreSQL of root runs as another user, who cannot enter root's home.
  if (geteuid() == 0) return "/var/lib/tutti/up";
  const std::string home = environment("HOME");
  if (home.empty()) throw Failure(Exit::usage, "HOME is not set", "--data DIR says where to keep things");
  return home + "/.local/share/tutti/up";
}

Connection parse_server(const std::string& url) {
  Connection connection;
  constexpr std::string_view kUnix = "http+unix://";
  if (url.starts_with(kUnix)) {
    connection.unix_socket = url.substr(kUnix.size());
    connection.server = "http://localhost";
    if (!connection.unix_socket.starts_with('/'))
      throw Failure(Exit::usage, "'" + url + "' must name an absolute path: http+unix:///run/tutti.sock");
    return connection;
  }
  for (std::string_view rest = url; !rest.empty();) {
    std::string_view one = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ') || one.ends_with('/')) one.remove_suffix(1);
    const auto scheme = one.find("://");
    const std::string_view word = one.substr(0, scheme);
    if (scheme == std::string_view::npos || (word != "http" && word != "https") || one.size() == scheme + 3)
      throw Failure(
          Exit::usage, "'" + std::string(url) + "' is not the URL of a server",
          "http://host:7070, https://host or http+unix:///path.sock; several http ones with commas");
    if (connection.server.empty())
      connection.server = one;
    else if (one != connection.server)
      connection.others.emplace_back(one);
  }
  if (connection.server.empty()) throw Failure(Exit::usage, "the URL of the server is empty");
  return connection;
}

Connection find_connection(const ConnectionFlags& flags) {
  Finder finder;
  finder.server(flags.server, "--server");
  if (!flags.token_file.empty()) finder.token(read_token_file(flags.token_file), "--token-file");
  finder.ca(flags.ca);
  if (!flags.context.empty()) finder.context(named_context(flags.context));

  finder.server(environment("TUTTI_SERVER"), "TUTTI_SERVER");
  finder.token(environment("TUTTI_TOKEN"), "TUTTI_TOKEN");
  for (const char* variable : {"TUTTI_CA", "TUTTI_CACERT"}) finder.ca(environment(variable));
  const bool all_known = finder.complete();
  try {
    if (const std::string name = environment("TUTTI_CONTEXT"); flags.context.empty() && !name.empty())
      finder.context(named_context(name));
    else if (flags.context.empty())
      if (const auto context = context_in_use()) finder.context(*context);
  } catch (const Failure&) {
    if (!all_known) throw;  // else it could add a default project only
  }
  return finder.connection();
}

void write_context(const std::string& path, const std::string& server, const std::string& token) {
  write_private(path, json::serialize(json::object{{"server", server}, {"token", token}}) + "\n");
}

}  // namespace tutti::cli
