#include "api/access/credentials.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace tutti {
namespace {

constexpr std::size_t kIdLength = 12;
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kSecretLength = 43;
constexpr std::size_t kShortestPassword = 10;
constexpr std::size_t kLongestPassword = 256;

// No letters that are taken for others.
std::string random_id() {
  constexpr std::string_view kLetters = "abcdefghjkmnpqrstuvwxyz23456789";
  std::string id;
  for (std::size_t i = 0; i < kIdLength; ++i)
    id += kLetters[randombytes_uniform(static_cast<std::uint32_t>(kLetters.size()))];
  return id;
}

std::string random_secret() {
  std::array<unsigned char, kSecretBytes> bytes{};
  randombytes_buf(bytes.data(), bytes.size());
  std::string text(kSecretLength + 1, '\0');
  sodium_bin2base64(text.data(), text.size(), bytes.data(), bytes.size(),
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  text.pop_back();
  return text;
}

// Of a password nobody has, so that an unknown name takes as long as a wrong password.
const std::string& decoy() {
  static const std::string hash = hash_password(random_secret());
  return hash;
}

}  // namespace

std::string sha256_hex(std::string_view text) {
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash{};
  crypto_hash_sha256(hash.data(), reinterpret_cast<const unsigned char*>(text.data()), text.size());
  std::string hex(2 * hash.size() + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), hash.data(), hash.size());
  hex.pop_back();
  return hex;
}

NewSecret make_secret(std::string_view prefix) {
  const std::string secret = random_secret();
  NewSecret out{.id = random_id(), .text = {}, .hash = sha256_hex(secret)};
  out.text = std::string(prefix) + "_" + out.id + "_" + secret;
  return out;
}

std::optional<GivenSecret> split_secret(std::string_view prefix, std::string_view text) {
  if (text.size() != prefix.size() + 2 + kIdLength + kSecretLength || !text.starts_with(prefix) ||
      text[prefix.size()] != '_' || text[prefix.size() + 1 + kIdLength] != '_')
    return std::nullopt;
  return GivenSecret{.id = text.substr(prefix.size() + 1, kIdLength),
                     .secret = text.substr(text.size() - kSecretLength)};
}

bool matches(std::string_view secret, std::string_view hash_hex) {
  return equal_in_constant_time(sha256_hex(secret), hash_hex);
}

bool equal_in_constant_time(std::string_view given, std::string_view expected) {
  unsigned difference = given.size() == expected.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i)
    difference |= static_cast<unsigned char>(given[i]) ^
                  static_cast<unsigned char>(expected.empty() ? 0 : expected[i % expected.size()]);
  return difference == 0;
}

std::string hash_password(std::string_view password) {
  std::array<char, crypto_pwhash_STRBYTES> text{};
  if (crypto_pwhash_str(text.data(), password.data(), password.size(), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                        crypto_pwhash_MEMLIMIT_INTERACTIVE) != 0)
    throw std::runtime_error("no memory to hash a password");
  return text.data();
}

bool password_matches(std::string_view password, const std::string& hash) {
  const bool known = !hash.empty();
  const std::string& against = known ? hash : decoy();
  const bool same = crypto_pwhash_str_verify(against.c_str(), password.data(), password.size()) == 0;
  return same && known;
}

std::string password_problem(std::string_view password, std::string_view user) {
  if (password.size() < kShortestPassword)
    return "must have at least " + std::to_string(kShortestPassword) + " characters";
  if (password.size() > kLongestPassword)
    return "must have at most " + std::to_string(kLongestPassword) + " bytes";
  if (password == user) return "must not be the user's name";
  if (std::ranges::all_of(password, [&](char c) { return c == password.front(); }))
    return "must not be one character again and again";
  return "";
}

}  // namespace tutti
