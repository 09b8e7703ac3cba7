// Runs a program to its end, its words on our own output. Used by tutti-image, which has a deadline from
// outside: the supervisor kills setup when its time is over.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tutti::container {

/// Throws std::runtime_error with its name and status unless it ends with 0. It dies with us.
void run_tool(const std::vector<std::string>& argv);
/// The same, and each line of its output.
void run_tool(const std::vector<std::string>& argv, const std::function<void(std::string)>& on_line);
bool runs_well(const std::vector<std::string>& argv);  // silent

/// Path of a program in PATH, "" = there is none.
std::string find_in_path(std::string_view program);

}  // namespace tutti::container
