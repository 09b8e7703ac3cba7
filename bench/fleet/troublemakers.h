// Workers that mean harm, or behave as if: what they say must be refused, and must cost the others nothing.
// One attack after the other, each over a connection of its own.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <string>

#include "bench/fleet/fake_worker.h"

namespace tutti::bench {

class HostileWorker : public std::enable_shared_from_this<HostileWorker> {
 public:
  /// `victim`: the name of a worker of the fleet, whose name and attempts it claims.
  HostileWorker(boost::asio::io_context& io, const FakeWorkerSettings& settings, std::string victim);

  void start();
  void stop();

  enum class Attack : std::uint8_t {
    garbage,          // no JSON
    oversized,        // a message larger than any may be
    before_hello,     // speaks before it has said who it is
    old_protocol,     // a version that does not exist
    taken_name,       // the name of a worker that lives
    others_attempts,  // the end of attempts that others run, of epochs that never were
    flood             // heartbeats as fast as they go
  };
  static constexpr int kAttacks = 7;
  static const char* name(Attack attack);

  struct Outcome {
    int made = 0;
    int unanswered = 0;  // it was to be refused or cut off for it, and was not, within kPatience
  };
  const std::map<Attack, Outcome>& outcomes() const { return outcomes_; }

 private:
  void attack();
  void connected(Result<std::shared_ptr<http::Link>> result);
  void begin();
  void on_message(const std::string& text);
  void over(bool answered);
  void claim_attempts();
  void say(const protocol::FromWorker& message);
  bool to_be_refused() const { return attack_ < Attack::others_attempts; }

  boost::asio::io_context& io_;
  FakeWorkerSettings settings_;
  std::string victim_;
  boost::asio::steady_timer timer_;
  std::shared_ptr<http::Link> link_;
  std::int64_t life_ = 0;
  bool stopped_ = false;
  Attack attack_ = Attack::garbage;
  std::map<Attack, Outcome> outcomes_;
};

}  // namespace tutti::bench
