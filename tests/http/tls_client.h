// A blocking TLS client over a bare socket, which tells what it sees: the peer's certificate, the version,
// the alert.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "api/http/client.h"

struct ssl_st;
struct ssl_ctx_st;

namespace tutti::http::test {

struct TlsClientOptions {
  std::string ca;  // PEM text; "": whatever the server shows is taken
  std::string certificate, key;
  std::string host;     // "": not checked
  int max_version = 0;  // TLS1_1_VERSION, …; 0: the newest
  std::string ciphers;  // of TLS 1.2 and older; "": the library's
  bool legacy = false;  // allow what a modern client would not
};

class TlsClient {
 public:
  /// Throws std::runtime_error with OpenSSL's reason when there is no handshake.
  TlsClient(std::uint16_t port, const TlsClientOptions& options = {});
  ~TlsClient();
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  void send(std::string_view bytes);
  /// False at the end: `clean_end` says whether the server said so itself (close_notify).
  bool receive(std::string& into);
  std::string read_all();
  /// Sends and reads until the server closes.
  std::string ask(std::string_view bytes);
  bool clean_end = false;

  std::string server_name() const;  // common name of its certificate
  std::string version() const;      // "TLSv1.3"
  std::string cipher() const;
  bool resumable() const;
  /// Asks for a new handshake inside the connection; false if it is refused.
  bool renegotiate();
  ByteSocket& socket() { return socket_; }

 private:
  int wait(int result);

  ByteSocket socket_;
  ssl_ctx_st* context_ = nullptr;
  ssl_st* ssl_ = nullptr;
};

}  // namespace tutti::http::test
