// Turns bytes into a Request: Beast's parser core, filling our own type, plus the checks that Beast leaves to
// its caller.
//
// Who calls it: the session, and tests without a socket. Single-threaded, one parser per request.
// Invariants (beyond Beast's grammar):
//   1. The limits hold for the sum over all packets; Beast's own header limit is per call.
//   2. A message that two readers could cut differently (request smuggling) is refused: any Transfer-Encoding
//   but one
//      "chunked", or one beside Content-Length, or in HTTP/1.0; two Content-Lengths, even equal ones; a
//      header folded over lines; and, by Beast, lines that end in a bare LF or CR, NUL and other control
//      characters, and space before a colon.
//   3. Trailers of a chunked body are dropped: they must not pass for headers after the checks.
#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <string_view>

#include "api/http/server_config.h"

namespace tutti::http {

class RequestParser final : public boost::beast::http::basic_parser<true> {
 public:
  explicit RequestParser(const ServerConfig& config);

  Request request;
  bool expects_continue = false;

  /// Parses what it can of `input` (bytes that were not taken are shown again, with more behind them) and
  /// says how many it has taken.
  std::size_t feed(std::string_view input, boost::system::error_code& error);
  /// Body bytes so far.
  std::size_t received() const { return request.body.size(); }

  int version() const { return version_; }
  /// The status to refuse with after put() gave `error`.
  int refusal_status(boost::system::error_code error) const;

 private:
  using View = boost::beast::string_view;
  using Code = boost::beast::error_code;
  using BodyLength = boost::optional<std::uint64_t>;

  void on_request_impl(boost::beast::http::verb, View method, View target, int version, Code&) override;
  void on_response_impl(int, View, int, Code&) override;
  void on_field_impl(boost::beast::http::field, View name, View value, Code&) override;
  void on_header_impl(Code&) override;
  void on_body_init_impl(const BodyLength&, Code&) override;
  std::size_t on_body_impl(View, Code&) override;
  void on_chunk_header_impl(std::uint64_t, View, Code&) override;
  std::size_t on_chunk_body_impl(std::uint64_t, View, Code&) override;
  void on_finish_impl(Code&) override;

  using boost::beast::http::basic_parser<true>::put;

  std::size_t header_limit_;
  std::size_t header_count_limit_;
  std::size_t target_limit_;
  std::size_t header_bytes_ = 0;
  int version_ = 11;
  int hosts_ = 0;
  int lengths_ = 0;
  int encodings_ = 0;
  bool request_line_done_ = false;
  bool header_complete_ = false;
  bool target_too_long_ = false;
};

}  // namespace tutti::http
