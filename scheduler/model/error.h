// Ordinary problems of input and state, as values. Becomes an HTTP status in one switch (api/handlers).
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace tutti {

enum class Errc : std::uint8_t {
  invalid_argument,      // 400/422: a field is wrong; `field` names it
  unauthenticated,       // 401
  forbidden,             // 403
  not_found,             // 404
  conflict,              // 409: the thing exists or has changed meanwhile
  illegal_transition,    // 409: no edge for this event in this state
  stale_epoch,           // 409: about an attempt that has been fenced
  idempotency_mismatch,  // 422: the key was used with another body
  precondition_failed,   // 412: it is no longer what the caller has seen (If-Match)
  too_large,             // 413
  unavailable,           // 503: try again, nothing has happened
  in_doubt,              // 504: whether it happened is not known; repeat under the same key, or look
  internal               // 500
};

struct Error {
  Errc code = Errc::internal;
  std::string message;  // names the thing and what is wrong: "job 42 is already cancelled"
  std::string hint;     // the way out, may be empty
  std::string field;    // for invalid_argument: path of the field, "resources.gpus"
};

class ErrorException : public std::runtime_error {
 public:
  explicit ErrorException(const Error& e) : std::runtime_error(e.message), error(e) {}
  Error error;
};

[[noreturn]] inline void throw_exception_from_error(const Error& e, const boost::source_location&) {
  throw ErrorException(e);
}

template <class T>
using Result = boost::system::result<T, Error>;

}  // namespace tutti
