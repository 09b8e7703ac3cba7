#include "cli/job_watch.h"

#include "cli/documents.h"

namespace tutti::cli {

bool is_terminal_state(std::string_view state) {
  return state == "succeeded" || state == "failed" || state == "cancelled";
}

JobWatch::JobWatch(Client& client, std::string id)
    : client_(client), path_("/v1/jobs/" + std::move(id)), events_(client, path_ + "/events") {
  look();
}

const Document& JobWatch::look() {
  document_ = client_.get(path_);
  if (!document_.tree.is_object()) throw Failure(Exit::failed, "the server's answer is not a job");
  return document_;
}

bool JobWatch::terminal() const { return is_terminal_state(text_of(job(), "state")); }

std::int64_t JobWatch::attempts() const { return integer_of(job(), "attempt").value_or(0); }

void JobWatch::wait(std::chrono::milliseconds at_most) {
  ServerEvent event;
  if (events_.next(event, at_most) == EventStream::Next::event)
    while (events_.next(event, std::chrono::milliseconds(0)) == EventStream::Next::event) {
    }
  look();
}

}  // namespace tutti::cli
