// Server-sent events that survive an outage: reconnects with Last-Event-ID. Used by `events -f`, --wait,
// --follow and --watch. One thread.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>

#include "cli/client.h"

namespace tutti::cli {

struct ServerEvent {
  std::string id;
  std::string type;  // "message" when the server gives none
  std::string data;
};

// Cuts a stream of bytes into events; comments (heartbeats) vanish.
class EventParser {
 public:
  void feed(std::string_view bytes);
  bool next(ServerEvent& into);
  void reset() { *this = {}; }

 private:
  std::string line_;
  bool after_cr_ = false;
  ServerEvent current_;
  bool has_data_ = false;
  std::deque<ServerEvent> ready_;

  void on_line();
};

class EventStream {
 public:
  // Opens at once. `last_id` empty: from now on.
  EventStream(Client& client, std::string path, std::string last_id = {});

  enum class Next {
    event,
    quiet,       // nothing within the time given
    reconnected  // without an id to resume from: something may have been missed
  };
  // Throws Failure when the server stays away for longer than our patience.
  Next next(ServerEvent& into, std::chrono::milliseconds at_most);

 private:
  void open();

  Client& client_;
  std::string path_;
  std::string last_id_;
  std::unique_ptr<HttpStream> stream_;
  EventParser parser_;
  std::chrono::steady_clock::time_point heard_at_;
  std::chrono::steady_clock::time_point opened_at_;
};

}  // namespace tutti::cli
