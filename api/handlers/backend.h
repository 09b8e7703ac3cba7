// What the REST handlers need from the scheduler, and nothing more. Implemented by scheduler/service/leader
// (the real one) and by tests. Every method is called on the control thread and every callback runs there.
// Writes are answered only after the commit of what they changed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "db/reader.h"
#include "scheduler/core/control_plane.h"
#include "scheduler/model/error.h"
#include "scheduler/model/protocol.h"

namespace tutti {

template <class T>
using Reply = std::function<void(Result<T>)>;

struct ServiceStatus {
  bool ready = false;  // leads, and the store answers
  std::string detail;  // one line: "leader, term 3" or "recovering: the store is unavailable: …"
  std::string leader;  // who
  std::int64_t term = 0;
  double commit_ms = 0;         // of the last commit
  std::size_t inbox = 0;        // commands waiting
  std::size_t inbox_limit = 0;  // so many at most
  bool standby = false;         // another scheduler leads, this one is ready to take over
  std::string leader_url{};     // where it is reached, if it says so
  // What is not as it should be, in words that programs may compare: "store_unavailable", "slow_commits",
  // "inbox_full", "starting".
  std::vector<std::string> reasons{};
};

class Backend {
 public:
  virtual ~Backend() = default;

  // ---- writes. Errc::unavailable: nothing has happened, try again. Errc::in_doubt: nobody knows.
  using SubmitReply = std::function<void(std::vector<Result<Submitted>>)>;  // one per request, same order
  virtual void submit(std::vector<SubmitRequest> requests, SubmitReply reply) = 0;
  // What people do to jobs: on_cancel, on_hold, …
  virtual void change_jobs(std::function<Result<JobId>(ControlPlane&, Now)> change, Reply<JobId> reply) = 0;
  // What people say of nodes: on_node_service, on_node_report, on_inspect.
  virtual void change_nodes(std::function<Result<NodeId>(ControlPlane&, Now)> change,
                            Reply<NodeId> reply) = 0;

  // A change of queues, projects or reservations.
  virtual void change_shares(std::function<Result<Warnings>(ControlPlane&, Now)> change,
                             Reply<Warnings> reply) = 0;

  // ---- reads
  // Committed rows: `query` runs on a read thread, what it returns runs on the control thread.
  using Query = std::function<std::function<void()>(Reader&)>;
  virtual void read(Query query, std::function<void(Error)> failed) = 0;
  // Memory: nodes, GPUs, explain, progress. nullptr while recovering.
  virtual const ControlPlane* plane() const = 0;
  virtual Now now() const = 0;
  virtual ServiceStatus status() const = 0;
  virtual std::string metrics_text() const = 0;

  // ---- events, in commit order, after their commit
  using EventSink = std::function<void(const EventRow&)>;
  virtual std::uint64_t subscribe(EventSink sink) = 0;
  virtual void unsubscribe(std::uint64_t subscription) = 0;

  // ---- logs live on the nodes; asks that node's worker. Errc::unavailable when it is not connected.
  virtual void read_log(NodeId node, protocol::ReadLog request, Reply<protocol::LogChunk> reply) = 0;
};

}  // namespace tutti
