// The leader as the handlers of requests see it (api/handlers/backend.h): changes become commands of the
// inbox that are answered after their commit, questions go to the store's read threads.
#include <algorithm>
#include <memory>
#include <utility>

#include "db/aside.h"
#include "scheduler/service/leader.h"

namespace tutti {

template <class T>
void Leader::ask(std::function<Result<T>(ControlPlane&, Now)> decide, Reply<T> reply) {
  auto shared = std::make_shared<Reply<T>>(std::move(reply));
  Command command;
  command.decide = [decide = std::move(decide), shared](ControlPlane& plane,
                                                        Now time) -> std::function<void()> {
    Result<T> result = decide(plane, time);
    return [shared, result = std::move(result)] { (*shared)(result); };
  };
  command.refuse = [shared](const Error& error) { (*shared)(error); };
  post(std::move(command));
}

void Leader::submit(std::vector<SubmitRequest> requests, SubmitReply reply) {
  const std::size_t n = requests.size();
  auto shared = std::make_shared<SubmitReply>(std::move(reply));
  Command command;
  command.weight = std::max<std::size_t>(n, 1);
  command.reads_plane = false;  // its job as it was submitted, which stays so
  command.decide = [requests = std::move(requests), shared](ControlPlane& plane,
                                                            Now time) -> std::function<void()> {
    auto results = plane.on_submit_all(time, requests);
    return [shared, results = std::move(results)]() mutable { (*shared)(std::move(results)); };
  };
  command.refuse = [shared, n](const Error& error) { (*shared)(std::vector<Result<Submitted>>(n, error)); };
  post(std::move(command));
}

void Leader::change_jobs(std::function<Result<JobId>(ControlPlane&, Now)> change, Reply<JobId> reply) {
  ask<JobId>(std::move(change), std::move(reply));
}

void Leader::change_shares(std::function<Result<Warnings>(ControlPlane&, Now)> change,
                           Reply<Warnings> reply) {
  ask<Warnings>(std::move(change), std::move(reply));
}

void Leader::change_nodes(std::function<Result<NodeId>(ControlPlane&, Now)> change, Reply<NodeId> reply) {
  ask<NodeId>(std::move(change), std::move(reply));
}

void Leader::read(Query query, std::function<void(Error)> failed) {
  if (store_.reads_waiting() >= settings_.max_reads)
    return failed(unavailable("too many queries wait already"));
  store_.read(std::move(query), [failed = std::move(failed)](std::exception_ptr e) {
    failed(unavailable("the store cannot be read: " + text_of(e)));
  });
}

std::string Leader::metrics_text() const {
  return metrics_.text(plane_.get(), inbox_.size(), &leases_, now().mono);
}

std::uint64_t Leader::subscribe(EventSink sink) {
  subscriptions_.emplace(next_subscription_, std::move(sink));
  return next_subscription_++;
}

void Leader::unsubscribe(std::uint64_t subscription) { subscriptions_.erase(subscription); }

void Leader::read_log(NodeId node, protocol::ReadLog request, Reply<protocol::LogChunk> reply) {
  workers_->read_log(node, std::move(request), std::move(reply));
}

}  // namespace tutti
