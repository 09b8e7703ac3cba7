#include "cli/connection.h"

#include <fcntl.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "cli/failure.h"

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

std::string first_line(std::string text) {
  text.resize(std::min(text.size(), text.find_first_of("\r\n")));
  return text;
}

struct Context {
  std::string server, token;
};

std::optional<Context> load_context(const std::string& path, bool required) {
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
  return Context{word("server"), word("token")};
}

bool same_server(const std::string& a, const std::string& b) {
  if (b.empty()) return false;
  const Connection one = parse_server(a), other = parse_server(b);
  return one.server == other.server && one.unix_socket == other.unix_socket;
}

}  // namespace

std::string default_context_path() {
  if (const std::string xdg = environment("XDG_CONFIG_HOME"); !xdg.empty()) return xdg + "/tutti/config.json";
  const std::string home = environment("HOME");
  return home.empty() ? std::string() : home + "/.config/tutti/config.json";
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
  connection.server = url;
  while (connection.server.ends_with('/')) connection.server.pop_back();
  const auto scheme = connection.server.find("://");
  const std::string_view word = std::string_view(connection.server).substr(0, scheme);
  if (scheme == std::string::npos || (word != "http" && word != "https") ||
      connection.server.size() == scheme + 3)
    throw Failure(Exit::usage, "'" + url + "' is not the URL of a server",
                  "http://host:7070, https://host or http+unix:///path.sock");
  return connection;
}

Connection find_connection(const ConnectionFlags& flags) {
  std::string path = flags.context.empty() ? environment("TUTTI_CONTEXT") : flags.context;
  const bool named = !path.empty();
  if (!named) path = default_context_path();
  std::string url = flags.server.empty() ? environment("TUTTI_SERVER") : flags.server;
  std::string token = environment("TUTTI_TOKEN");
  if (token.empty() && !flags.token_file.empty()) {
    const auto text = read_small(flags.token_file);
    if (!text) throw Failure(Exit::usage, "cannot read the token file " + flags.token_file);
    token = first_line(*text);
  }
  if (url.empty() || token.empty()) {
    auto context = path.empty() ? std::nullopt : load_context(path, named && url.empty());
    if (!context && !named && url.empty())
      context = load_context(default_data_directory() + "/context.json", false);
    if (context && url.empty()) url = context->server;
    if (context && token.empty() && !url.empty() && same_server(url, context->server)) token = context->token;
  }
  if (url.empty())
    throw Failure(Exit::usage, "no server is known",
                  "set TUTTI_SERVER and TUTTI_TOKEN, or start one here: tutti up --write-context");
  if (token.find_first_of("\r\n") != std::string::npos)
    throw Failure(Exit::usage, "the token must be one line");
  Connection connection = parse_server(url);
  connection.token = std::move(token);
  return connection;
}

void write_context(const std::string& path, const std::string& server, const std::string& token) {
  const auto fail = [&](const std::string& what) {
    throw Failure(Exit::failed, "cannot write " + what + ": " + std::strerror(errno));
  };
  std::error_code ec;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ec);
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) fail(fresh);
  const std::string text = json::serialize(json::object{{"server", server}, {"token", token}}) + "\n";
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (::close(fd) != 0 || !written) fail(fresh);
  if (::rename(fresh.c_str(), path.c_str()) != 0) fail(path);
}

}  // namespace tutti::cli
