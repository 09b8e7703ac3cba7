// A TLS front for a plain test server, with a certificate of its own making. Needs openssl and python3.
#pragma once

#include <string>

namespace tutti::cli::test {

class TlsFront {
 public:
  explicit TlsFront(int port);  // of the plain server on this machine
  ~TlsFront();
  TlsFront(const TlsFront&) = delete;
  TlsFront& operator=(const TlsFront&) = delete;

  std::string url() const { return "https://127.0.0.1:" + std::to_string(port_); }
  std::string ca() const { return folder_ + "/cert.pem"; }

 private:
  std::string folder_;
  int port_ = 0;
  int pid_ = 0;
};

}  // namespace tutti::cli::test
