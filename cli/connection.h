// Which server to talk to, and with which token. Called for every verb that needs a server.
//
// The first that says something counts, for the server, the token and the CA each:
//   1. flags: --server, --token-file, --ca, and what the context named by --context holds;
//   2. the environment: TUTTI_SERVER, TUTTI_TOKEN, TUTTI_CA (also TUTTI_CACERT), and what TUTTI_CONTEXT
//   names;
//   3. the context in use (profile.h);
//   4. the cluster that `tutti up` runs here.
// What a context holds goes only to the server it was written for, so that a token never reaches another one.
// A server may be several addresses with commas: schedulers of one cluster, of which any answers.
// A context that is named with a slash is a file with server and token, as `tutti up` writes it.
#pragma once

#include <string>
#include <vector>

namespace tutti::cli {

struct Connection {
  std::string server;  // "http://host:port", "https://…", without a slash at the end
  std::vector<std::string> others =
      {};                   // further schedulers of the same cluster, tried when it does not lead
  std::string unix_socket;  // set for http+unix:///path.sock; `server` is then "http://localhost"
  std::string token;
  std::string ca;  // file; empty: what the system trusts
  // For people: where it all came from, and what the context adds.
  std::string context;  // its name, or the file
  std::string server_from, token_from;
  std::string token_id, user, project;
};

struct ConnectionFlags {
  std::string server;
  std::string token_file;
  std::string ca;
  std::string context;  // a name, or a file
};

// Of `tutti up`: $XDG_DATA_HOME/tutti/up, else for root /var/lib/tutti/up, else ~/.local/share/tutti/up.
std::string default_data_directory();
// Throws Failure{usage} when no server is known or the URL is none.
Connection find_connection(const ConnectionFlags& flags);
Connection parse_server(const std::string& url);
// Whether all that `a` names is named by `b`.
bool same_server(const std::string& a, const std::string& b);
// As parse_server takes it.
std::string url_of(const Connection& connection);
// {"server", "token"}, mode 0600, by write-then-rename; makes the directory.
void write_context(const std::string& path, const std::string& server, const std::string& token);
// First line of a file with a token. Throws Failure{usage}.
std::string read_token_file(const std::string& path);

}  // namespace tutti::cli
