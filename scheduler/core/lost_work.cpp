#include "scheduler/core/lost_work.h"

#include <algorithm>

namespace tutti {

std::optional<LostWork> compute_lost_work(const AttemptRow& a,
                                          const std::vector<CheckpointRow>& checkpoints) {
  if (a.state != AttemptState::ended || a.result == AttemptResult::succeeded) return std::nullopt;
  LostWork lost;
  if (a.running_at == Instant{}) return lost;
  std::int64_t saved = std::max<std::int64_t>(a.resume_step, 0);
  Instant since = a.running_at;
  for (const auto& c : checkpoints) {
    if (c.epoch != a.epoch || c.state == CheckpointState::bad || c.step < saved) continue;
    saved = c.step;
    since = std::max(since, c.at);
  }
  Instant until = a.ended_at;
  // Evidence is in the clock of the node that saw it: it counts as far as it makes sense.
  for (const Instant at : {a.stopping_at, a.fault_at})
    if (at != Instant{} && at >= a.running_at) until = std::min(until, at);
  std::size_t gpus = 0;
  for (const auto& m : a.gang) gpus += m.gpus.size();
  lost.steps = std::max<std::int64_t>(a.last_step - saved, 0);
  lost.seconds = std::max(to_seconds(until - since), 0.0);
  lost.gpu_seconds = static_cast<double>(gpus) * lost.seconds;
  return lost;
}

}  // namespace tutti
