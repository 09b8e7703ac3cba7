#include "training/charlm/adam.h"

#include <cmath>
#include <utility>

namespace tutti::charlm {

namespace {

// By squaring, from multiplications alone: std::pow is another routine on another kind of CPU, and one last
// bit of difference here would set the ranks of a mixed gang apart.
double power(double base, std::uint64_t exponent) {
  double result = 1.0;
  for (; exponent != 0; exponent >>= 1U, base *= base) {
    if ((exponent & 1U) != 0) result *= base;
  }
  return result;
}

}  // namespace

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
  const auto correction1 = static_cast<float>(1.0 - power(0.9, state.step));
  const auto correction2 = static_cast<float>(1.0 - power(0.999, state.step));
  const float rate = learning_rate * std::sqrt(correction2) / correction1;

  state.first_moment = kBeta1 * state.first_moment + (1.0F - kBeta1) * gradient;
  state.second_moment =
      (kBeta2 * state.second_moment.array() + (1.0F - kBeta2) * gradient.array().square()).matrix();
  state.parameters.array() -=
      rate * state.first_moment.array() / (state.second_moment.array().sqrt() + kEpsilon);
}

}  // namespace tutti::charlm
