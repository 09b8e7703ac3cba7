#include "scheduler/secrets/secret_box.h"

#include <sodium.h>

namespace tutti {
namespace {

constexpr char kContext[crypto_kdf_CONTEXTBYTES + 1] = "tuttisec";
constexpr std::uint64_t kSubkey = 1;

unsigned char* bytes(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }
const unsigned char* bytes(const std::string& s) { return reinterpret_cast<const unsigned char*>(s.data()); }

// Neither a project nor a name has a NUL.
std::string label(const std::string& project, const std::string& name) {
  return project + '\0' + name + '\0';
}

}  // namespace

SecretBox::SecretBox(const std::string& master) {
  static_assert(crypto_secretbox_KEYBYTES == 32);
  unsigned char root[crypto_kdf_KEYBYTES];
  crypto_generichash(root, sizeof root, bytes(master), master.size(), nullptr, 0);
  crypto_kdf_derive_from_key(key_.data(), key_.size(), kSubkey, kContext, root);
  sodium_memzero(root, sizeof root);
}

SecretBox::~SecretBox() { sodium_memzero(key_.data(), key_.size()); }

SealedSecret SecretBox::seal(const std::string& project, const std::string& name,
                             const std::string& value) const {
  std::string plain = label(project, name) + value;
  SealedSecret out;
  out.nonce.resize(crypto_secretbox_NONCEBYTES);
  out.ciphertext.resize(plain.size() + crypto_secretbox_MACBYTES);
  randombytes_buf(out.nonce.data(), out.nonce.size());
  crypto_secretbox_easy(bytes(out.ciphertext), bytes(plain), plain.size(), bytes(out.nonce), key_.data());
  sodium_memzero(plain.data(), plain.size());
  return out;
}

std::optional<std::string> SecretBox::open(const std::string& project, const std::string& name,
                                           const SealedSecret& sealed) const {
  if (sealed.nonce.size() != crypto_secretbox_NONCEBYTES ||
      sealed.ciphertext.size() < crypto_secretbox_MACBYTES)
    return std::nullopt;
  std::string plain(sealed.ciphertext.size() - crypto_secretbox_MACBYTES, '\0');
  if (crypto_secretbox_open_easy(bytes(plain), bytes(sealed.ciphertext), sealed.ciphertext.size(),
                                 bytes(sealed.nonce), key_.data()) != 0)
    return std::nullopt;
  const std::string expected = label(project, name);
  if (!plain.starts_with(expected)) return std::nullopt;
  return plain.substr(expected.size());
}

}  // namespace tutti
