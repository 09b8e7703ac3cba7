// Secrets at rest: sealed (XSalsa20-Poly1305, libsodium's secretbox) with a key derived from the scheduler's
// `secret` file, so that a dump of the database alone opens none. Signatures of messages: HMAC-SHA256.
// Pure but for the dice of nonces; sodium_init() has been called. Any thread.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace tutti {

class Sealer {
 public:
  /// Another `purpose` is another key.
  Sealer(std::string_view secret, std::string_view purpose);

  std::string seal(std::string_view plain) const;                  // text, safe for a column
  std::optional<std::string> open(std::string_view sealed) const;  // nothing: another key, or damaged

 private:
  std::array<unsigned char, 32> key_{};
};

/// Hexadecimal.
std::string hmac_sha256(std::string_view secret, std::string_view message);
/// 192 bits from the dice, as text without '+', '/' and '='.
std::string random_secret();

}  // namespace tutti
