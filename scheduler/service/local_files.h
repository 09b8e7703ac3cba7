// Small files that a scheduler keeps beside its database: the bearer token, the key of attempt secrets, the
// address it listens on. Written by write-then-rename; the secret ones readable by the owner alone.
#pragma once

#include <string>

namespace tutti {

// Reads a secret, or makes it at the first start: 32 random bytes as hex, mode 0600.
// Throws std::runtime_error with path and reason.
std::string load_or_make_secret(const std::string& path);

void write_file(const std::string& path, const std::string& text, unsigned mode);

}  // namespace tutti
