#include "training/charlm/adam.h"

#include <cmath>
#include <utility>

namespace tutti::charlm {

TrainingState fresh_state(Eigen::VectorXf parameters) {
  TrainingState state;
  state.first_moment = Eigen::VectorXf::Zero(parameters.size());
  state.second_moment = Eigen::VectorXf::Zero(parameters.size());
  state.parameters = std::move(parameters);
  return state;
}

void adam_step(TrainingState& state, const Eigen::VectorXf& gradient, float learning_rate) {
  constexpr float kBeta1 = 0.9F;
  constexpr float kBeta2 = 0.999F;
  constexpr float kEpsilon = 1e-8F;
  ++state.step;
  // The bias corrections come from the step number, not from a running product, so that resume needs nothing
  // more.
  const auto t = static_cast<double>(state.step);
  const auto correction1 = static_cast<float>(1.0 - std::pow(static_cast<double>(kBeta1), t));
  const auto correction2 = static_cast<float>(1.0 - std::pow(static_cast<double>(kBeta2), t));
  const float rate = learning_rate * std::sqrt(correction2) / correction1;

  state.first_moment = kBeta1 * state.first_moment + (1.0F - kBeta1) * gradient;
  state.second_moment =
      (kBeta2 * state.second_moment.array() + (1.0F - kBeta2) * gradient.array().square()).matrix();
  state.parameters.array() -=
      rate * state.first_moment.array() / (state.second_moment.array().sqrt() + kEpsilon);
}

}  // namespace tutti::charlm
