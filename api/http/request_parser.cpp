#include "api/http/request_parser.h"

#include <algorithm>
#include <boost/beast/http/error.hpp>

namespace tutti::http {
namespace {

namespace beast_http = boost::beast::http;

/// "http://host/path" -> "/path"; other forms as they are.
std::string_view origin_form(std::string_view target) {
  if (target.starts_with('/')) return target;
  const auto scheme = target.find("://");
  if (scheme == std::string_view::npos) return target;
  const auto slash = target.find('/', scheme + 3);
  return slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
}

/// A line of the header goes on in the next one, which begins with a space (obs-fold). Beast unfolds them,
/// which RFC 9112 allows and other readers do not. `input` begins with the request line or at the beginning
/// of a field.
bool has_folded_line(std::string_view input) {
  if (input.starts_with("\r\n")) return false;  // the header ends here
  const auto header = input.substr(0, input.find("\r\n\r\n"));
  for (auto at = header.find("\r\n"); at != std::string_view::npos; at = header.find("\r\n", at + 2))
    if (at + 2 < header.size() && (header[at + 2] == ' ' || header[at + 2] == '\t')) return true;
  return false;
}

}  // namespace

RequestParser::RequestParser(const ServerConfig& config)
    : header_limit_(config.header_limit),
      header_count_limit_(config.header_count_limit),
      target_limit_(config.target_limit) {
  eager(true);
  header_limit(static_cast<std::uint32_t>(config.header_limit));
  body_limit(config.body_limit);
}

std::size_t RequestParser::feed(std::string_view input, Code& error) {
  if (!is_header_done() && has_folded_line(input)) {
    error = beast_http::error::bad_obs_fold;
    return 0;
  }
  return put(boost::asio::const_buffer(input.data(), input.size()), error);
}

int RequestParser::refusal_status(boost::system::error_code error) const {
  if (target_too_long_) return 414;
  if (error == beast_http::error::header_limit) return request_line_done_ ? 431 : 414;
  if (error == beast_http::error::body_limit) return 413;
  return 400;
}

void RequestParser::on_request_impl(beast_http::verb, View method, View target, int version, Code& error) {
  request_line_done_ = true;
  version_ = version;
  header_bytes_ = method.size() + target.size() + 12;
  if (target.size() > target_limit_) {
    target_too_long_ = true;
    error = beast_http::error::bad_target;
    return;
  }
  request.method = method_from(method);
  const auto origin = origin_form(target);
  if (!origin.starts_with('/') && !(origin == "*" && request.method == Method::options)) {
    error = beast_http::error::bad_target;
    return;
  }
  request.target = origin;
  const auto question = origin.find('?');
  request.path = origin.substr(0, question);
  if (question != std::string_view::npos) request.query = origin.substr(question + 1);
}

void RequestParser::on_response_impl(int, View, int, Code&) {}

void RequestParser::on_field_impl(beast_http::field field, View name, View value, Code& error) {
  header_bytes_ += name.size() + value.size() + 4;
  if (header_bytes_ > header_limit_) {
    error = beast_http::error::header_limit;
    return;
  }
  if (header_complete_) return;
  if (request.headers.size() >= header_count_limit_) {
    error = beast_http::error::header_limit;
    return;
  }
  if (field == beast_http::field::content_length && (++lengths_ > 1 || value.find(',') != View::npos)) {
    error = beast_http::error::bad_content_length;
    return;
  }
  if (field == beast_http::field::transfer_encoding &&
      (++encodings_ > 1 || version_ < 11 ||
       !equal_ignoring_case(std::string_view(value.data(), value.size()), "chunked"))) {
    error = beast_http::error::bad_transfer_encoding;
    return;
  }
  if (field == beast_http::field::host) ++hosts_;
  if (field == beast_http::field::expect)
    expects_continue = equal_ignoring_case(std::string_view(value.data(), value.size()), "100-continue");
  request.headers.push_back({std::string(name.data(), name.size()), std::string(value.data(), value.size())});
}

void RequestParser::on_header_impl(Code& error) {
  header_complete_ = true;
  if (hosts_ > 1 || (hosts_ == 0 && version_ >= 11)) error = beast_http::error::bad_field;
}

void RequestParser::on_body_init_impl(const BodyLength& length, Code&) {
  if (length) request.body.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(*length, 1 << 20)));
}

std::size_t RequestParser::on_body_impl(View bytes, Code&) {
  request.body.append(bytes.data(), bytes.size());
  return bytes.size();
}

void RequestParser::on_chunk_header_impl(std::uint64_t, View, Code&) {}

std::size_t RequestParser::on_chunk_body_impl(std::uint64_t, View bytes, Code& error) {
  return on_body_impl(bytes, error);
}

void RequestParser::on_finish_impl(Code&) {}

}  // namespace tutti::http
