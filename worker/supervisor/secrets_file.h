// The values of an attempt's secrets on its node: `<attempt dir>/secrets.json`, which only we (root, where
// the worker is) can read. Written by the worker before it starts the supervisor, which puts them into the
// environment of all it starts; kept as long as the attempt's logs, since they are taken out of those.
#pragma once

#include <map>
#include <string>

namespace tutti::supervisor {

using Secrets = std::map<std::string, std::string>;  // name → value

/// Throws std::system_error.
void write_secrets(const std::string& dir, const Secrets& secrets);
/// None where there is no such file. Throws std::runtime_error when there is one that cannot be read.
Secrets read_secrets(const std::string& dir);

}  // namespace tutti::supervisor
