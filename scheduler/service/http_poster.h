// Sends JSON to other people's servers: libcurl on a thread of its own, many at once, each with a deadline.
//
// Called by: webhooks. post() from the control thread; the answer comes there. What is under way when the
// poster goes is cut off, and its answer never comes.
//
// A server's answer is not trusted: redirects are not followed, only the status, Retry-After and a few bytes
// for the error are read. Whom it may connect to is decided by the address at the moment of connecting, so a
// name that resolves to something else later is of no use.
#pragma once

#include <netinet/in.h>

#include <array>
#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "scheduler/model/error.h"
#include "scheduler/model/time.h"

namespace tutti {

/// Where messages may go. An empty list: everywhere but link-local addresses (the metadata services of clouds
/// live there), multicast and "any". Else only what it names: networks, hosts, or ".domain" for all below it.
class Destinations {
 public:
  static Result<Destinations> parse(const std::vector<std::string>& list);

  bool allows_host(std::string_view host) const;  // by its name alone, whatever its address
  bool allows(const sockaddr& address) const;

 private:
  struct Network {
    std::array<unsigned char, 16> prefix{};  // IPv4 as ::ffff:a.b.c.d
    int bits = 0;
  };
  static std::optional<Network> parse_network(std::string_view text);
  static std::optional<std::array<unsigned char, 16>> bytes_of(const sockaddr& address);

  std::vector<Network> networks_;
  std::vector<std::string> hosts_;
};

struct HttpPost {
  std::string url;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  Duration deadline = std::chrono::seconds(10);
};
struct HttpPostAnswer {
  int status = 0;     // 0: none came
  std::string error;  // why not, or the beginning of what a status other than 2xx came with
  Duration took{};
  std::optional<Duration> retry_after;
};

class Poster {
 public:
  virtual ~Poster() = default;
  virtual void post(HttpPost post, std::function<void(HttpPostAnswer)> done) = 0;
};

struct CurlPosterSettings {
  int at_once = 16;
  std::size_t most_waiting = 1000;  // beyond: answered at once, with an error
  Destinations destinations{};
  std::string ca_file{};  // "" = the system's
};

class CurlPoster final : public Poster {
 public:
  using Settings = CurlPosterSettings;
  CurlPoster(boost::asio::any_io_executor control, Settings settings = {});
  ~CurlPoster() override;
  void post(HttpPost post, std::function<void(HttpPostAnswer)> done) override;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace tutti
