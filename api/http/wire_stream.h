// A connected socket, with TLS on it or not, as one stream type: Beast's websocket (half a minute to compile)
// is made once for both. Included by link.cpp and the transports only.
#pragma once

#include <boost/asio/async_result.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <memory>
#include <optional>
#include <utility>

#include "api/http/transport.h"

namespace tutti::http {

using TlsStream = asio::ssl::stream<Socket>;

class WireStream {
 public:
  using next_layer_type = Socket;
  using executor_type = Socket::executor_type;

  explicit WireStream(Socket socket) : socket_(std::move(socket)) {}
  explicit WireStream(std::unique_ptr<TlsStream> tls) : tls_(std::move(tls)) {}

  Socket& next_layer() { return tls_ ? tls_->next_layer() : *socket_; }
  const Socket& next_layer() const { return tls_ ? tls_->next_layer() : *socket_; }
  bool encrypted() const { return tls_ != nullptr; }
  executor_type get_executor() { return next_layer().get_executor(); }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(
        [](auto handler, WireStream* self, const Buffers& into) {
          if (self->tls_)
            self->tls_->async_read_some(into, std::move(handler));
          else
            self->socket_->async_read_some(into, std::move(handler));
        },
        token, this, buffers);
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(boost::system::error_code, std::size_t)>(
        [](auto handler, WireStream* self, const Buffers& from) {
          if (self->tls_)
            self->tls_->async_write_some(from, std::move(handler));
          else
            self->socket_->async_write_some(from, std::move(handler));
        },
        token, this, buffers);
  }

 private:
  std::optional<Socket> socket_;
  std::unique_ptr<TlsStream> tls_;
};

}  // namespace tutti::http
