// Adam over flat arrays. Its two moments are part of the checkpoint: without them a resumed run takes other
// steps.
#pragma once

#include <Eigen/Core>
#include <cstdint>

namespace tutti::charlm {

// All that training needs to go on; the same on every rank after every step.
struct TrainingState {
  std::uint64_t step = 0;  // steps done
  Eigen::VectorXf parameters;
  Eigen::VectorXf first_moment;
  Eigen::VectorXf second_moment;
};

TrainingState fresh_state(Eigen::VectorXf parameters);

// Applies one step with the averaged gradient and counts it.
void adam_step(TrainingState& state, const Eigen::VectorXf& gradient, float learning_rate);

}  // namespace tutti::charlm
