// TLS under a session: the same promises as a plain socket. A handshake has a deadline; what is written small
// goes out as one record; the end is said (close_notify), so that a cut answer is not taken for a whole one.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <boost/asio/ssl/context.hpp>
#include <utility>

#include "api/http/message.h"
#include "api/http/response_head.h"
#include "api/http/timed_transport.h"
#include "api/http/wire_stream.h"

namespace tutti::http {
namespace {

using boost::system::error_code;
constexpr std::size_t kOneRecord = 16 << 10;

bool is_plain_http(const error_code& error) {
  return error.category() == asio::error::get_ssl_category() &&
         ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_HTTP_REQUEST;
}

class TlsTransport final : public TimedTransport {
 public:
  TlsTransport(Socket connected, std::shared_ptr<asio::ssl::context> context)
      : TimedTransport(connected),
        context_(std::move(context)),
        stream_(std::make_unique<TlsStream>(std::move(connected), *context_)) {}

  asio::awaitable<bool> handshake(SteadyTime until) override {
    begin_read(until);
    const auto [error] = co_await stream_->async_handshake(TlsStream::server, kAwait);
    (void)end_read(error);
    if (is_plain_http(error)) tell_plain_client();
    co_return !error;
  }

  asio::awaitable<IoResult> read_some(asio::mutable_buffer into, SteadyTime until) override {
    begin_read(until);
    const auto [error, bytes] = co_await stream_->async_read_some(into, kAwait);
    IoResult result;
    result.bytes = bytes;
    result.error = error;
    result.timed_out = end_read(error);
    co_return result;
  }

  asio::awaitable<IoResult> write(Gather buffers, Pace pace) override {
    IoResult result;
    const auto total = buffers[0].size() + buffers[1].size();
    const auto began = std::chrono::steady_clock::now();
    if (total <= kOneRecord) join(buffers);
    while (result.bytes < total) {
      auto& part = buffers[0].size() > 0 ? buffers[0] : buffers[1];
      begin_write(pace.until(began, result.bytes));
      const auto [error, wrote] = co_await stream_->async_write_some(part, kAwait);
      result.error = error;
      result.timed_out = end_write(error);
      if (error) co_return result;
      part += wrote;
      result.bytes += wrote;
    }
    co_return result;
  }

  void shutdown_send() override {
    if (std::exchange(ended_, true)) return;
    // Sends close_notify, then waits for the peer's; whatever becomes of that wait, close() ends it.
    stream_->async_shutdown([self = shared_from_this(), this](const error_code&) {
      error_code ignored;
      stream_->next_layer().shutdown(Socket::shutdown_send, ignored);
    });
  }

  void close() override {
    if (stream_) TimedTransport::close();
  }

  bool tls() const override { return true; }
  std::string peer_certificate() const override { return verified_name(stream_->native_handle()); }
  std::chrono::sys_seconds peer_certificate_until() const override {
    return verified_until(stream_->native_handle());
  }

  std::shared_ptr<WireStream> release() override {
    stop_timer();
    return std::make_shared<WireStream>(std::exchange(stream_, nullptr));
  }

 private:
  Socket& socket() override { return stream_->next_layer(); }

  void join(Gather& buffers) {
    joined_.clear();
    for (const auto& part : buffers) joined_.append(static_cast<const char*>(part.data()), part.size());
    buffers = Gather{asio::buffer(joined_), asio::const_buffer()};
  }

  /// In the clear, since that is what it speaks. Best effort.
  void tell_plain_client() {
    const auto answer = problem(400, "tls_required", "this port speaks https only", "ask with https://");
    HeadOptions options;
    options.content_length = answer.body.size();
    options.close = true;
    std::string bytes;
    write_head(bytes, answer.status, answer.headers, options);
    bytes += answer.body;
    error_code ignored;
    stream_->next_layer().write_some(asio::buffer(bytes), ignored);
    stream_->next_layer().shutdown(Socket::shutdown_send, ignored);
  }

  const std::shared_ptr<asio::ssl::context> context_;
  std::unique_ptr<TlsStream> stream_;
  std::string joined_;
  bool ended_ = false;
};

}  // namespace

std::shared_ptr<Transport> make_tls_transport(Socket socket, std::shared_ptr<asio::ssl::context> context) {
  return std::make_shared<TlsTransport>(std::move(socket), std::move(context));
}

}  // namespace tutti::http
