// People and programs at the API: they submit under an idempotency key and repeat until they are answered,
// and cancel, hold, release and requeue jobs, and drain and resume nodes, now and then. Requests and answers
// get lost.
#pragma once

#include <string>
#include <vector>

#include "tests/sim/machine.h"
#include "tests/sim/scheduler_process.h"

namespace tutti::sim {

class Clients {
 public:
  Clients(Place& place, std::size_t nodes, int gpus_per_node);

  void start(Time until, int jobs);
  // Everything is to end: what is held is released no more, nodes are put back into service.
  void resume_nodes(const std::vector<std::string>& names);
  bool all_answered() const { return waiting_ == 0; }
  int submitted() const { return next_job_; }

 private:
  using Submission = std::vector<SubmitRequest>;  // one job, or some that belong together
  JobSpec make_spec(const std::string& name);
  SubmitRequest request(JobSpec spec) const;
  std::string next_name() { return "j" + std::to_string(++next_job_); }
  Submission chain();
  Submission array();
  Submission schedule();
  void cancel_schedule(JobId id);
  void submit(const Submission& submission, int tries);
  void meddle(Time until);
  void act_on_a_job();
  void serve(const std::string& node, NodeService service, int tries);
  // Sends to the scheduler that answers; false: nobody does, or the request was lost.
  void call(std::function<std::function<void()>(ControlPlane&, Now)> decide, std::function<void()> refused);

  Place& place_;
  World& world_;
  Dice dice_;
  const std::size_t nodes_;
  const int gpus_per_node_;
  int next_job_ = 0;
  int waiting_ = 0;
  Time until_{};
  std::vector<std::string> drained_;
};

}  // namespace tutti::sim
