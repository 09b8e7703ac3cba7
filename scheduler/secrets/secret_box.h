// Seals values of secrets with libsodium's secretbox, under a key that is derived from the scheduler's
// data/secret. Project and name are sealed with the value: a row that somebody has moved to another name
// opens nowhere. Pure but for the random nonce; any thread. sodium_init() must have been called.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "db/secrets.h"

namespace tutti {

class SecretBox {
 public:
  /// `master`: the text of data/secret.
  explicit SecretBox(const std::string& master);
  ~SecretBox();
  SecretBox(const SecretBox&) = delete;
  SecretBox& operator=(const SecretBox&) = delete;

  SealedSecret seal(const std::string& project, const std::string& name, const std::string& value) const;
  /// Nothing: it was sealed with another key, for another name, or has been changed.
  std::optional<std::string> open(const std::string& project, const std::string& name,
                                  const SealedSecret& sealed) const;

 private:
  std::array<unsigned char, 32> key_{};
};

}  // namespace tutti
