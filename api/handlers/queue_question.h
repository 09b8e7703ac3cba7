// What is asked of a queue, of now (queue.cpp) or of then (history_queue.cpp): whose jobs, and which page.
#pragma once

#include <optional>
#include <string>

#include "api/handlers/job_filter.h"

namespace tutti::api {

struct QueueQuestion {
  std::string queue, project, owner;  // empty: all
  std::string reason;                 // the code of the main one; of a queue of now only. Empty: all
  std::optional<Visible> visible;     // nothing: everything
  std::size_t begin = 0, size = 0;    // of the page

  std::size_t end() const { return begin + size; }
  /// Whether it is about jobs of that queue, project and owner.
  bool asks_for(const std::string& of_queue, const std::string& of_project,
                const std::string& of_owner) const {
    return (queue.empty() || of_queue == queue) && (project.empty() || of_project == project) &&
           (owner.empty() || of_owner == owner);
  }
};

/// From `queue`, `project`, `user`, `reason`, `page_size` and `page_token`; an error names the parameter.
Result<QueueQuestion> parse_queue_question(const http::Request& request);

}  // namespace tutti::api
