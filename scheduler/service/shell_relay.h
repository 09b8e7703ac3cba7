// Shells of people, between their connections (api/handlers/exec.cpp) and the workers'. Holds no bytes: what
// a worker says is passed on at once, and a worker says no more than it was granted. Control thread only.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <string>

#include "api/handlers/shells.h"
#include "scheduler/model/time.h"

namespace tutti {

class ShellRelay final : public Shells {
 public:
  struct Workers {
    std::function<bool(NodeId)> connected;
    std::function<void(NodeId, const protocol::ToWorker&)> send;
  };
  ShellRelay(boost::asio::any_io_executor executor, Workers workers);

  /// Nothing typed and nothing written for so long: it is closed. Zero: never.
  void set_idle(Duration idle) { idle_ = idle; }

  // ---- workers
  void on_output(NodeId node, const protocol::ShellOutput& output);
  void on_closed(NodeId node, const protocol::ShellClosed& closed);
  void on_node_lost(NodeId node);
  void close_all();

  // ---- Shells
  bool connected(NodeId node) const override { return workers_.connected(node); }
  Result<std::int64_t> open(NodeId node, protocol::OpenShell what, Events events) override;
  void input(std::int64_t shell, std::string_view bytes, bool end) override;
  void grant(std::int64_t shell, std::int64_t bytes) override;
  void resize(std::int64_t shell, std::int32_t rows, std::int32_t columns) override;
  void close(std::int64_t shell) override;

 private:
  struct Open {
    NodeId node;
    Events events;
    bool answered = false;  // its worker has said something
    Mono since{}, active{};
  };
  Open* find(NodeId node, std::int64_t shell);
  void end(std::int64_t shell, const std::string& why);
  void sweep();

  boost::asio::any_io_executor executor_;
  Workers workers_;
  Duration idle_ = std::chrono::hours(12);
  std::map<std::int64_t, Open> open_;
  std::int64_t next_ = 1;
  boost::asio::steady_timer timer_;
  bool sweeping_ = false;
};

}  // namespace tutti
