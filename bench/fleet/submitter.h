// Submits jobs over one keep-alive connection of the REST API, on an io_context that others use as well (the
// clients in api/http and the CLI block). One request at a time; every request has a deadline.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>

#include "bench/fleet/fake_worker.h"

namespace tutti::bench {

class Submitter : public std::enable_shared_from_this<Submitter> {
 public:
  /// `trouble`: "" = all of them are accepted and committed; else none that we know of.
  using Done = std::function<void(const std::string& trouble)>;

  Submitter(boost::asio::io_context& io, SchedulerAddress scheduler);

  bool busy() const { return static_cast<bool>(done_); }
  /// Not while busy(). One job goes to /v1/jobs, several to /v1/jobs:batch.
  void submit(const std::string& spec, int jobs, Done done);
  void stop();  // `done` is not called any more

 private:
  void send();
  void read_head();
  void read_body(std::size_t head, std::size_t length);
  void finish(const std::string& trouble);
  template <class Then>
  auto step(Then then);

  SchedulerAddress scheduler_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer deadline_;
  struct Texts {
    std::string request, answer;
  };
  std::shared_ptr<Texts> texts_;  // of this request: an operation that was cut off still writes to its own
  const char* expected_ = "";
  Done done_;
  std::int64_t requests_ = 0;  // callbacks of a request that is over know by it that they are late
};

}  // namespace tutti::bench
