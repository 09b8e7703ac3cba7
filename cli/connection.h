// Which server to talk to, and with which token. Called by main.cpp and by `tutti up` (which writes the
// file).
//
// Order: --server, TUTTI_SERVER, the context file. The token: TUTTI_TOKEN, --token-file, the context file;
// the last only for the server it was written for, so that a token never goes to another one.
#pragma once

#include <string>

namespace tutti::cli {

struct Connection {
  std::string server;       // "http://host:port", "https://…", without a slash at the end
  std::string unix_socket;  // set for http+unix:///path.sock; `server` is then "http://localhost"
  std::string token;
};

struct ConnectionFlags {
  std::string server;
  std::string token_file;
  std::string context;  // file; empty: TUTTI_CONTEXT, else default_context_path()
};

// $XDG_CONFIG_HOME/tutti/config.json, else ~/.config/tutti/config.json.
std::string default_context_path();
// Of `tutti up`: $XDG_DATA_HOME/tutti/up, else for root /var/lib/tutti/up, else ~/.local/share/tutti/up.
std::string default_data_directory();
// Throws Failure{usage} when no server is known or the URL is none.
Connection find_connection(const ConnectionFlags& flags);
Connection parse_server(const std::string& url);
// {"server", "token"}, mode 0600, by write-then-rename; makes the directory.
void write_context(const std::string& path, const std::string& server, const std::string& token);

}  // namespace tutti::cli
