// What workers say to each other, over UDP: one datagram, `<64 hex digits of HMAC-SHA512-256> <JSON>`, keyed
// with a secret that the scheduler gives to all workers of its cluster. A datagram that is not signed with it
// is dropped. Nothing is repeated: the next ping comes a second later.
//
// Owned by the worker's thread. Peers are found at the address they were told to be at, or where they last
// spoke from: a worker that has started anew may have another port.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "scheduler/model/protocol.h"

namespace tutti::worker {

class PeerLink {
 public:
  struct Events {
    std::function<std::optional<protocol::PeerAck>(const protocol::PeerPing&)> on_ping;
    std::function<void(const protocol::PeerAck&)> on_ack;
  };
  /// `port` 0: the one in `port_file`, or any; what it is stands in that file. Throws std::system_error.
  PeerLink(boost::asio::io_context& io, const std::string& address, std::uint16_t port,
           const std::string& port_file, Events events);

  std::uint16_t port() const { return port_; }
  bool set_secret(std::string secret);  // false: it is the same
  void send(const protocol::PeerPing& ping, const std::string& address, std::uint16_t port);

 private:
  using Endpoint = boost::asio::ip::udp::endpoint;
  void receive();
  void on_datagram(std::string_view text);
  void send_to(const Endpoint& to, const protocol::PeerMessage& message);
  void resolve(const protocol::PeerPing& ping, const std::string& address, std::uint16_t port);
  std::string sign(std::string_view text) const;

  boost::asio::ip::udp::socket socket_;
  boost::asio::ip::udp::resolver resolver_;
  Events events_;
  std::uint16_t port_ = 0;
  std::string secret_;                     // "" = none yet: nothing is said, nothing is heard
  std::map<std::string, Endpoint> known_;  // node → where it last spoke from, or was found
  bool resolving_ = false;
  Endpoint from_;
  std::array<char, 65536> buffer_{};
};

}  // namespace tutti::worker
