// Secrets that are shown once and kept as hashes: API tokens, join tokens, nodes' credentials, sessions; and
// passwords. libsodium underneath; sodium_init() must have been called. Pure but for its randomness.
//
// Text of a secret: PREFIX_ID_SECRET, ID being 12 and SECRET 43 characters of base64url or letters: the id
// finds the row, the secret (256 random bits) proves. A fast hash is enough for such a secret; passwords,
// which people choose, get argon2id.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tutti {

inline constexpr std::string_view kTokenPrefix = "tutti";
inline constexpr std::string_view kJoinPrefix = "tuttijoin";
inline constexpr std::string_view kNodePrefix = "tuttinode";
inline constexpr std::string_view kSessionPrefix = "tuttisession";

struct NewSecret {
  std::string id;
  std::string text;  // shown once
  std::string hash;  // kept
};
NewSecret make_secret(std::string_view prefix);

struct GivenSecret {
  std::string_view id, secret;  // into the text given
};
/// Nothing if it has not this form or prefix.
std::optional<GivenSecret> split_secret(std::string_view prefix, std::string_view text);
/// In a time that says nothing about how much of it was right.
bool matches(std::string_view secret, std::string_view hash_hex);
std::string sha256_hex(std::string_view text);

/// argon2id, about 64 MiB and 0.1 s: not on the control thread.
std::string hash_password(std::string_view password);
/// An empty hash is never matched, but takes as long.
bool password_matches(std::string_view password, const std::string& hash);
/// What is wrong with a password that somebody wants to use; "" = nothing. Length, not kinds of characters
/// (NIST SP 800-63B, 5.1.1.2).
std::string password_problem(std::string_view password, std::string_view user);

/// Equal, in a time that depends on `given` alone.
bool equal_in_constant_time(std::string_view given, std::string_view expected);

}  // namespace tutti
