#include "api/http/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/ssl/context.hpp>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <utility>

namespace tutti::http {
namespace {

namespace ssl = boost::asio::ssl;

constexpr auto kCiphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr auto kGroups = "X25519:P-256:P-384";

template <class T, void (*Free)(T*)>
struct Freer {
  void operator()(T* p) const { Free(p); }
};
using Certificate = std::unique_ptr<X509, Freer<X509, X509_free>>;
using GeneralNames = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES, GENERAL_NAMES_free>>;
using MemoryBio = std::unique_ptr<BIO, Freer<BIO, BIO_free_all>>;

/// What OpenSSL complains about; empties its queue.
std::string openssl_complaint() {
  const auto code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown reason" : reason;
}

[[noreturn]] void fail(std::string_view flag, const std::string& file, const std::string& why) {
  throw std::runtime_error(std::string(flag) + " " + file + ": " + why);
}

void must_be_readable(std::string_view flag, const std::string& file) {
  struct stat info{};
  if (file.empty()) throw std::runtime_error(std::string(flag) + " is missing");
  if (::stat(file.c_str(), &info) != 0) fail(flag, file, "cannot be read: " + std::string(::strerror(errno)));
}

int no_password(char*, int, int, void*) { return 0; }

void use_pair(SSL_CTX* context, const std::string& certificate, const std::string& key) {
  must_be_readable("--tls-cert", certificate);
  must_be_readable("--tls-key", key);
  ERR_clear_error();
  SSL_CTX_set_default_passwd_cb(context, no_password);
  if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1)
    fail("--tls-cert", certificate, "is no PEM certificate: " + openssl_complaint());
  // This also compares the two.
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1)
    fail("--tls-key", key, "is not the unencrypted PEM key of the certificate: " + openssl_complaint());
}

void harden(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context, kCiphers);
  SSL_CTX_set1_groups_list(context, kGroups);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
}

/// HTTP/1.1 is all we speak; a client that offers only other things is served it all the same.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                    unsigned int size, void*) {
  constexpr std::string_view kSpoken = "http/1.1";
  for (unsigned int i = 0; i + offered[i] < size; i += 1 + offered[i]) {
    if (std::string_view(reinterpret_cast<const char*>(offered + i + 1), offered[i]) != kSpoken) continue;
    *out = offered + i + 1;
    *out_size = offered[i];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_NOACK;
}

/// Text of printable ASCII; a name with anything else (NUL above all) names nobody.
std::string clean_name(const ASN1_STRING* text) {
  unsigned char* bytes = nullptr;
  const int size = text == nullptr ? -1 : ASN1_STRING_to_UTF8(&bytes, text);
  if (size < 0) return {};
  std::string name(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  OPENSSL_free(bytes);
  const bool printable = std::ranges::all_of(name, [](char c) { return c > 0x20 && c < 0x7F; });
  return printable && name.size() <= 255 ? name : std::string();
}

std::string common_name(X509* certificate) {
  auto* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  return at < 0 ? std::string() : clean_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

std::string first_dns_name(X509* certificate) {
  const GeneralNames names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const auto* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_DNS) continue;
    if (auto text = clean_name(name->d.dNSName); !text.empty()) return text;
  }
  return {};
}

std::string describe(X509* certificate) {
  const MemoryBio text(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate), 0, XN_FLAG_ONELINE);
  BIO_puts(text.get(), ", valid until ");
  ASN1_TIME_print(text.get(), X509_get0_notAfter(certificate));
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) BIO_puts(text.get(), " (it has EXPIRED)");
  char* data = nullptr;
  const auto size = BIO_get_mem_data(text.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::shared_ptr<ssl::context> make_server_context(const TlsServerFiles& files) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  auto* raw = context->native_handle();
  harden(raw);
  SSL_CTX_set_alpn_select_cb(raw, choose_protocol, nullptr);
  use_pair(raw, files.certificate, files.key);
  if (files.client_ca.empty()) return context;
  must_be_readable("--tls-client-ca", files.client_ca);
  auto* names = SSL_load_client_CA_file(files.client_ca.c_str());
  if (names == nullptr || SSL_CTX_load_verify_locations(raw, files.client_ca.c_str(), nullptr) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    fail("--tls-client-ca", files.client_ca, "is no PEM certificate: " + openssl_complaint());
  }
  SSL_CTX_set_client_CA_list(raw, names);
  // Asked for, and verified if one is shown; whether one is needed is the route's business.
  SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, nullptr);
  return context;
}

std::array<std::int64_t, 4> signature_of(const std::string& file) {
  struct stat info{};
  if (file.empty() || ::stat(file.c_str(), &info) != 0) return {};
  return {static_cast<std::int64_t>(info.st_dev), static_cast<std::int64_t>(info.st_ino), info.st_size,
          info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
}

bool is_address(const std::string& host) {
  unsigned char bytes[16];
  return ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

}  // namespace

TlsServer::TlsServer(TlsServerFiles files, Log log) : files_(std::move(files)), log_(std::move(log)) {
  tried_ = seen_ = signature();
  load(tried_);
}

std::shared_ptr<ssl::context> TlsServer::context() const {
  const std::scoped_lock lock(mutex_);
  return context_;
}

std::string TlsServer::description() const {
  const std::scoped_lock lock(mutex_);
  return description_;
}

TlsServer::Signature TlsServer::signature() const {
  return {signature_of(files_.certificate), signature_of(files_.key), signature_of(files_.client_ca)};
}

void TlsServer::load(const Signature& of) {
  auto context = make_server_context(files_);
  const std::scoped_lock lock(mutex_);
  context_ = std::move(context);
  description_ = describe(SSL_CTX_get0_certificate(context_->native_handle()));
  tried_ = of;
}

void TlsServer::poll() {
  const auto now = signature();
  {
    const std::scoped_lock lock(mutex_);
    const bool settled = now == seen_;
    seen_ = now;
    if (now == tried_ || !settled) return;
  }
  reload();
}

void TlsServer::reload() {
  const auto now = signature();
  try {
    load(now);
    if (log_) log_(Event::renewed, "TLS certificate read again: " + description());
  } catch (const std::exception& error) {
    {
      const std::scoped_lock lock(mutex_);
      tried_ = now;
    }
    if (log_) log_(Event::refused, std::string(error.what()) + "; the certificate in use stays");
  }
}

std::shared_ptr<ssl::context> make_client_context(const TlsClientFiles& files) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
  auto* raw = context->native_handle();
  harden(raw);
  SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, nullptr);
  if (files.ca.empty()) {
    SSL_CTX_set_default_verify_paths(raw);
  } else {
    must_be_readable("--tls-ca", files.ca);
    if (SSL_CTX_load_verify_locations(raw, files.ca.c_str(), nullptr) != 1)
      fail("--tls-ca", files.ca, "is no PEM certificate: " + openssl_complaint());
  }
  if (!files.certificate.empty() || !files.key.empty()) use_pair(raw, files.certificate, files.key);
  return context;
}

bool expect_host(ssl_st* connection, const std::string& host) {
  SSL_set_hostflags(connection, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (is_address(host)) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(connection), host.c_str()) == 1;
  return SSL_set1_host(connection, host.c_str()) == 1 &&
         SSL_set_tlsext_host_name(connection, host.c_str()) == 1;
}

std::string verified_name(ssl_st* connection) {
  const Certificate certificate(SSL_get1_peer_certificate(connection));
  if (!certificate || SSL_get_verify_result(connection) != X509_V_OK) return {};
  auto name = common_name(certificate.get());
  return name.empty() ? first_dns_name(certificate.get()) : name;
}

std::chrono::sys_seconds verified_until(ssl_st* connection) {
  const Certificate certificate(SSL_get1_peer_certificate(connection));
  std::tm end{};
  if (!certificate || SSL_get_verify_result(connection) != X509_V_OK ||
      ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1)
    return {};
  return std::chrono::sys_seconds(std::chrono::seconds(::timegm(&end)));
}

std::string certificate_complaint(ssl_st* connection) {
  const auto result = SSL_get_verify_result(connection);
  if (result == X509_V_OK) return {};
  return std::string("the server's certificate is not trusted: ") + X509_verify_cert_error_string(result);
}

}  // namespace tutti::http
