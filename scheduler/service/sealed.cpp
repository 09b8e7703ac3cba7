#include "scheduler/service/sealed.h"

#include <sodium.h>

#include <vector>

namespace tutti {
namespace {

constexpr std::string_view kVersion = "1:";
constexpr int kBase64 = sodium_base64_VARIANT_URLSAFE_NO_PADDING;

const unsigned char* bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string base64(const std::vector<unsigned char>& data) {
  std::string out(sodium_base64_encoded_len(data.size(), kBase64), '\0');
  sodium_bin2base64(out.data(), out.size(), data.data(), data.size(), kBase64);
  out.resize(out.size() - 1);  // its NUL
  return out;
}

}  // namespace

Sealer::Sealer(std::string_view secret, std::string_view purpose) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, key_.size());
  crypto_generichash_update(&state, bytes(secret), secret.size());
  crypto_generichash_update(&state, bytes(std::string_view("\0", 1)), 1);
  crypto_generichash_update(&state, bytes(purpose), purpose.size());
  crypto_generichash_final(&state, key_.data(), key_.size());
  static_assert(crypto_secretbox_KEYBYTES == 32);
}

std::string Sealer::seal(std::string_view plain) const {
  std::vector<unsigned char> out(crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + plain.size());
  randombytes_buf(out.data(), crypto_secretbox_NONCEBYTES);
  crypto_secretbox_easy(out.data() + crypto_secretbox_NONCEBYTES, bytes(plain), plain.size(), out.data(),
                        key_.data());
  return std::string(kVersion) + base64(out);
}

std::optional<std::string> Sealer::open(std::string_view sealed) const {
  if (!sealed.starts_with(kVersion)) return std::nullopt;
  sealed.remove_prefix(kVersion.size());
  std::vector<unsigned char> box(sealed.size());
  std::size_t length = 0;
  if (sodium_base642bin(box.data(), box.size(), sealed.data(), sealed.size(), nullptr, &length, nullptr,
                        kBase64) != 0 ||
      length < crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES)
    return std::nullopt;
  std::string plain(length - crypto_secretbox_NONCEBYTES - crypto_secretbox_MACBYTES, '\0');
  if (crypto_secretbox_open_easy(reinterpret_cast<unsigned char*>(plain.data()),
                                 box.data() + crypto_secretbox_NONCEBYTES,
                                 length - crypto_secretbox_NONCEBYTES, box.data(), key_.data()) != 0)
    return std::nullopt;
  return plain;
}

std::string hmac_sha256(std::string_view secret, std::string_view message) {
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, bytes(secret), secret.size());
  crypto_auth_hmacsha256_update(&state, bytes(message), message.size());
  unsigned char mac[crypto_auth_hmacsha256_BYTES];
  crypto_auth_hmacsha256_final(&state, mac);
  std::string out(2 * sizeof mac + 1, '\0');
  sodium_bin2hex(out.data(), out.size(), mac, sizeof mac);
  out.resize(2 * sizeof mac);
  return out;
}

std::string random_secret() {
  std::vector<unsigned char> dice(24);
  randombytes_buf(dice.data(), dice.size());
  return base64(dice);
}

}  // namespace tutti
