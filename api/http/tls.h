// TLS by files: the server's certificate, read again when it changes, and what a client needs to trust a
// server.
//
// Who uses it: wiring (scheduler/serving.cpp, the worker's settings), server.cpp, link.cpp. OpenSSL and Asio
// stay in the .cpp files. What is offered: TLS 1.2 with forward secret authenticated ciphers, and TLS 1.3; no
// renegotiation, no compression, no session tickets (a stolen ticket key would open recorded connections).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace boost::asio::ssl {
class context;
}
struct ssl_st;

namespace tutti::http {

/// PEM files. Errors name the flag that gave the file.
struct TlsServerFiles {
  std::string certificate;  // with the chain behind it
  std::string key;          // not encrypted
  std::string client_ca;    // "": clients are not asked for certificates
};

/// The server's side. Thread-safe. A connection keeps what it began with; new ones get the newest that was
/// good.
class TlsServer {
 public:
  enum class Event : std::uint8_t {
    renewed,
    refused
  };
  /// `log`: one line per new certificate, and one per file that cannot be used.
  using Log = std::function<void(Event, std::string line)>;

  /// Throws std::runtime_error when the files cannot be used.
  TlsServer(TlsServerFiles files, Log log);

  std::shared_ptr<boost::asio::ssl::context> context() const;
  /// Reads the files again if they have changed, and have not gone on changing since the last look:
  /// certificate and key are replaced one after the other. Files that cannot be used are complained about
  /// once.
  void poll();
  /// Reads them again now.
  void reload();
  /// "CN=tutti.example, valid until …", for the log.
  std::string description() const;

 private:
  /// Device, inode, size and time of each file.
  using Signature = std::array<std::array<std::int64_t, 4>, 3>;
  Signature signature() const;
  void load(const Signature& of);

  const TlsServerFiles files_;
  const Log log_;
  mutable std::mutex mutex_;  // guards the following
  std::shared_ptr<boost::asio::ssl::context> context_;
  std::string description_;
  Signature tried_{}, seen_{};
};

/// The client's side. The files are read at each connection, so renewed ones need no restart.
struct TlsClientFiles {
  std::string ca;           // PEM; "": the authorities this machine trusts
  std::string certificate;  // "": none is shown
  std::string key;
};
/// Throws std::runtime_error naming the flag and file.
std::shared_ptr<boost::asio::ssl::context> make_client_context(const TlsClientFiles& files);
/// The connection is for this host: its certificate must say so. False: no such name.
bool expect_host(ssl_st* connection, const std::string& host);

/// Whom the verified certificate of the other side names: common name, or else the first DNS name; "" if it
/// showed none.
std::string verified_name(ssl_st* connection);
/// Until when that certificate holds; the epoch if there is none.
std::chrono::sys_seconds verified_until(ssl_st* connection);
/// "the server's certificate is not trusted: …" if that was it, else "".
std::string certificate_complaint(ssl_st* connection);

}  // namespace tutti::http
