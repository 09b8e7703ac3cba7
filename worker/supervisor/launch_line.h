// Reads the call mpirun makes to its remote agent. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace tutti::supervisor {

struct LaunchCall {
  std::string host;
  std::string command;  // one shell line
};

// `[options] HOST word…`: the options are those people give for ssh (plm_rsh_args) and mean nothing here. The
// words are joined by spaces, as ssh does: they are quoted for a shell already. orted's --daemonize is left
// out: it is to stay a child of the supervisor whose end can be seen.
std::optional<LaunchCall> parse_launch_call(const std::vector<std::string>& arguments);

}  // namespace tutti::supervisor
