// A WebSocket of binary messages to the scheduler, over TCP, TLS or a unix socket. exec_link.cpp is the only
// file of the CLI that knows Beast (it takes long to compile). Used by exec.cpp. Everything on the thread
// that runs the io_context.
//
// Invariants
// 1. Opening has one deadline over name lookup, connecting, TLS and the handshake.
// 2. `on_closed` is called once after an opening that succeeded, whoever closed, and nothing after it.
// 3. A peer that is silent for kSilence, pings included, is taken for dead.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "cli/transfer.h"

namespace tutti::cli {

inline constexpr std::chrono::seconds kSilence(30);

class ExecLink {
 public:
  struct Handlers {
    std::function<void(std::string message)> on_message;
    std::function<void(std::string why)> on_closed;
    std::function<void()> on_sent;  // after each message that is on its way
  };
  virtual ~ExecLink() = default;
  // `opened` gets Trouble::none and status 101, or a refusal as the server sent it, or the trouble.
  virtual void open(const std::string& target, std::chrono::milliseconds deadline, Handlers handlers,
                    std::function<void(Outcome)> opened) = 0;
  virtual void send(std::string message) = 0;  // in order; queued
  virtual std::size_t queued_bytes() const = 0;
  virtual void close() = 0;
};

std::shared_ptr<ExecLink> make_exec_link(boost::asio::io_context& io, const Connection& connection);

}  // namespace tutti::cli
