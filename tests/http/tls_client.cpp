#include "tls_client.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <chrono>
#include <memory>
#include <stdexcept>

namespace tutti::http::test {
namespace {

using Deadline = std::chrono::steady_clock::time_point;

std::string complaint() {
  const auto code = ERR_get_error();
  ERR_clear_error();
  return code == 0                       ? "connection cut"
         : ERR_reason_error_string(code) ? ERR_reason_error_string(code)
                                         : "error";
}

template <class T, class Read, class Use, class Free>
void with_pem(const std::string& text, Read read, Use use, Free free) {
  auto* bio = BIO_new_mem_buf(text.data(), static_cast<int>(text.size()));
  T* thing = read(bio, nullptr, nullptr, nullptr);
  BIO_free(bio);
  if (thing == nullptr) throw std::runtime_error("bad PEM");
  use(thing);
  free(thing);
}

}  // namespace

TlsClient::TlsClient(std::uint16_t port, const TlsClientOptions& options)
    : socket_(ByteSocket::connect("127.0.0.1", port,
                                  std::chrono::steady_clock::now() + std::chrono::seconds(10))),
      context_(SSL_CTX_new(TLS_client_method())) {
  ERR_clear_error();
  if (options.legacy) SSL_CTX_set_security_level(context_, 0);
  SSL_CTX_set_min_proto_version(context_, TLS1_VERSION);
  if (options.max_version != 0) SSL_CTX_set_max_proto_version(context_, options.max_version);
  if (!options.ciphers.empty() && SSL_CTX_set_cipher_list(context_, options.ciphers.c_str()) != 1)
    throw std::runtime_error("no such ciphers");
  if (!options.ca.empty()) {
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    with_pem<X509>(
        options.ca, PEM_read_bio_X509,
        [&](X509* ca) { X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), ca); }, X509_free);
  }
  if (!options.certificate.empty()) {
    with_pem<X509>(
        options.certificate, PEM_read_bio_X509, [&](X509* own) { SSL_CTX_use_certificate(context_, own); },
        X509_free);
    with_pem<EVP_PKEY>(
        options.key, PEM_read_bio_PrivateKey, [&](EVP_PKEY* key) { SSL_CTX_use_PrivateKey(context_, key); },
        EVP_PKEY_free);
  }
  ssl_ = SSL_new(context_);
  if (!options.host.empty()) SSL_set1_host(ssl_, options.host.c_str());
  SSL_set_fd(ssl_, socket_.fd());
  int result = 0;
  while ((result = SSL_connect(ssl_)) != 1)
    if (wait(result) < 0) {
      auto why = complaint();
      SSL_free(ssl_);
      SSL_CTX_free(context_);
      throw std::runtime_error("handshake: " + why);
    }
}

TlsClient::~TlsClient() {
  SSL_free(ssl_);
  SSL_CTX_free(context_);
}

/// 1: try again. -1: over.
int TlsClient::wait(int result) {
  const int error = SSL_get_error(ssl_, result);
  if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return -1;
  pollfd entry{socket_.fd(), static_cast<short>(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT), 0};
  if (::poll(&entry, 1, 10'000) <= 0) throw std::runtime_error("nothing within ten seconds");
  return 1;
}

void TlsClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const int sent = SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
    if (sent > 0)
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    else if (wait(sent) < 0)
      throw std::runtime_error("send: " + complaint());
  }
}

bool TlsClient::receive(std::string& into) {
  char buffer[16 << 10];
  for (;;) {
    const int got = SSL_read(ssl_, buffer, sizeof buffer);
    if (got > 0) {
      into.append(buffer, static_cast<std::size_t>(got));
      return true;
    }
    if (wait(got) > 0) continue;
    clean_end = (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0 &&
                SSL_get_error(ssl_, got) == SSL_ERROR_ZERO_RETURN;
    ERR_clear_error();
    return false;
  }
}

std::string TlsClient::read_all() {
  std::string all;
  while (receive(all)) {
  }
  return all;
}

std::string TlsClient::ask(std::string_view bytes) {
  send(bytes);
  return read_all();
}

std::string TlsClient::server_name() const {
  X509* certificate = SSL_get1_peer_certificate(ssl_);
  char name[256] = {};
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
  X509_free(certificate);
  return name;
}

std::string TlsClient::version() const { return SSL_get_version(ssl_); }
std::string TlsClient::cipher() const { return SSL_get_cipher_name(ssl_); }
bool TlsClient::resumable() const { return SSL_SESSION_is_resumable(SSL_get0_session(ssl_)) == 1; }

bool TlsClient::renegotiate() {
  ERR_clear_error();
  if (SSL_renegotiate(ssl_) != 1) return false;
  int result = 0;
  while ((result = SSL_do_handshake(ssl_)) != 1)
    if (wait(result) < 0) return false;
  // The handshake is only asked for by SSL_renegotiate; its answer comes with the next read.
  return SSL_renegotiate_pending(ssl_) == 0;
}

}  // namespace tutti::http::test
