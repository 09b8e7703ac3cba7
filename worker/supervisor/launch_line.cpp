#include "worker/supervisor/launch_line.h"

#include <string_view>

namespace tutti::supervisor {

std::optional<LaunchCall> parse_launch_call(const std::vector<std::string>& arguments) {
  constexpr std::string_view kWithValue = "BbcDEeFIiJLlmOoPpQRSWw";  // options of ssh that take one
  std::size_t i = 0;
  for (; i < arguments.size() && arguments[i].starts_with("-"); ++i)
    if (arguments[i].size() == 2 && kWithValue.find(arguments[i][1]) != std::string_view::npos) ++i;
  if (i + 1 >= arguments.size()) return std::nullopt;
  LaunchCall call;
  call.host = arguments[i];
  for (++i; i < arguments.size(); ++i) {
    if (arguments[i] == "--daemonize") continue;
    if (!call.command.empty()) call.command += ' ';
    call.command += arguments[i];
  }
  if (call.command.empty()) return std::nullopt;
  return call;
}

}  // namespace tutti::supervisor
