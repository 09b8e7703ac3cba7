// One job, looked at again whenever the server says that something happened to it. Used by --wait and
// --follow.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <string>

#include "cli/event_stream.h"

namespace tutti::cli {

class JobWatch {
 public:
  // Listens before it looks, so that no change falls between the two.
  JobWatch(Client& client, std::string id);

  const Document& look();  // GET of the job
  const boost::json::object& job() const { return document_.tree.get_object(); }
  const Document& document() const { return document_; }
  bool terminal() const;
  std::int64_t attempts() const;  // how many have begun so far

  // Until an event of this job comes, or the time is over; then looks.
  void wait(std::chrono::milliseconds at_most);

 private:
  Client& client_;
  std::string path_;
  EventStream events_;
  Document document_;
};

bool is_terminal_state(std::string_view state);

}  // namespace tutti::cli
