#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "training/charlm/adam.h"
#include "training/charlm/corpus.h"
#include "training/charlm/counter_rng.h"
#include "training/charlm/fixed_point.h"
#include "training/charlm/model.h"

namespace tutti::charlm {
namespace {

const Corpus& verse() {
  static const Corpus corpus = [] {
    std::string text;
    for (int i = 0; i < 300; ++i) text += "all together, or not at all (" + std::to_string(i) + ")\n";
    return Corpus::from_text(text);
  }();
  return corpus;
}

ModelShape small_shape() {
  return {.alphabet = verse().alphabet_size(), .context = 5, .embed = 4, .hidden = 7};
}

Batch batch_at(std::uint64_t seed, std::uint64_t step, int rank, int samples = 6, int context = 5) {
  Batch batch;
  draw_batch(verse().symbols(), context, samples, seed, step, rank, batch);
  return batch;
}

TEST(CharlmModel, BackwardPassMatchesFiniteDifferences) {
  Model<double> model(small_shape());
  Eigen::VectorXd parameters = model.initial_parameters(7);
  const Batch batch = batch_at(7, 0, 0);
  Eigen::VectorXd gradient;
  model.loss_and_gradient(parameters, batch, gradient);
  ASSERT_EQ(gradient.size(), static_cast<std::ptrdiff_t>(small_shape().parameters()));

  constexpr double kStep = 1e-5;
  for (std::ptrdiff_t i = 0; i < parameters.size(); ++i) {
    const double here = parameters[i];
    parameters[i] = here + kStep;
    const double above = model.loss(parameters, batch);
    parameters[i] = here - kStep;
    const double below = model.loss(parameters, batch);
    parameters[i] = here;
    ASSERT_NEAR(gradient[i], (above - below) / (2 * kStep), 1e-8) << "parameter " << i;
  }
}

TEST(CharlmModel, EveryLayerGetsAGradient) {
  Model<double> model(small_shape());
  Eigen::VectorXd gradient;
  model.loss_and_gradient(model.initial_parameters(7), batch_at(7, 0, 0, 200), gradient);
  // Symbols missing from the batch leave a column of the embedding untouched, everything else moves.
  const auto moved = (gradient.array() != 0.0).count();
  EXPECT_GT(moved, gradient.size() * 8 / 10);
}

TEST(CharlmModel, LossOfAnUntrainedModelIsNearThatOfAGuess) {
  Model<float> model(small_shape());
  const float loss = model.loss(model.initial_parameters(1), batch_at(1, 0, 0, 200));
  EXPECT_NEAR(loss, std::log(static_cast<float>(verse().alphabet_size())), 0.5F);
}

TEST(CharlmModel, SameInputSameBitsWhateverWasComputedBefore) {
  Model<float> fresh(small_shape());
  Model<float> used(small_shape());
  const Eigen::VectorXf parameters = fresh.initial_parameters(3);
  Eigen::VectorXf one;
  Eigen::VectorXf other;
  used.loss_and_gradient(parameters, batch_at(3, 9, 1, 31), other);  // another batch size in between
  const float a = fresh.loss_and_gradient(parameters, batch_at(3, 0, 0), one);
  const float b = used.loss_and_gradient(parameters, batch_at(3, 0, 0), other);
  EXPECT_EQ(a, b);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), other.begin(), other.end()));
}

TEST(CharlmModel, LearnsWithinFiftySteps) {
  Model<float> model(small_shape());
  TrainingState state = fresh_state(model.initial_parameters(1));
  const Batch held_out = evenly_spaced_batch(verse().symbols(), 5, 500);
  const float before = model.loss(state.parameters, held_out);
  Eigen::VectorXf gradient;
  for (std::uint64_t step = 0; step < 50; ++step) {
    model.loss_and_gradient(state.parameters, batch_at(1, step, 0, 64), gradient);
    adam_step(state, gradient, 0.02F);
  }
  EXPECT_LT(model.loss(state.parameters, held_out), before * 0.6F);
}

TEST(CharlmSampling, IsAFunctionOfSeedStepAndRank) {
  const Batch once = batch_at(1, 5, 2);
  EXPECT_EQ(once.windows, batch_at(1, 5, 2).windows);
  EXPECT_NE(once.windows, batch_at(2, 5, 2).windows);
  EXPECT_NE(once.windows, batch_at(1, 6, 2).windows);
  EXPECT_NE(once.windows, batch_at(1, 5, 3).windows);
}

TEST(CharlmSampling, ReachesTheWholeTextAndNothingElse) {
  // A text whose symbol is its position: the windows tell where they began.
  std::vector<std::uint8_t> text(40);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>(i);
  Batch batch;
  draw_batch(text, 4, 2000, 1, 0, 0, batch);
  std::set<int> targets;
  for (std::size_t i = 0; i < batch.samples(); ++i) {
    ASSERT_EQ(batch.targets[i], batch.windows[i * 4 + 3] + 1);
    targets.insert(batch.targets[i]);
  }
  EXPECT_EQ(*targets.begin(), 4);
  EXPECT_EQ(*targets.rbegin(), 39);
  EXPECT_EQ(targets.size(), 36U);
}

TEST(CharlmFixedPoint, SumDoesNotDependOnTheOrder) {
  std::vector<float> values;
  for (std::uint64_t i = 0; i < 64; ++i) {
    const double magnitude = std::pow(10.0, static_cast<double>(i % 9) - 7.0);
    values.push_back(
        static_cast<float>(magnitude * random_signed_unit(random_bits(1, Stream::weights, 0, i))));
  }
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  for (const float v : values) forward += to_fixed_point(v);
  std::reverse(values.begin(), values.end());
  for (const float v : values) backward += to_fixed_point(v);
  EXPECT_EQ(forward, backward);
}

TEST(CharlmFixedPoint, KeepsWhatAFloatGradientHolds) {
  for (const float v : {0.0F, 1.0F, -0.37F, 1.2345e-5F, -999.5F}) {
    EXPECT_FLOAT_EQ(mean_from_fixed_point(3 * to_fixed_point(v), 3), v);
  }
}

TEST(CharlmFixedPoint, LeavesRoomForAllRanksAtTheLimit) {
  const std::int64_t largest = to_fixed_point(std::numeric_limits<float>::max());
  EXPECT_EQ(largest, to_fixed_point(1024.0F));
  EXPECT_LT(largest, std::numeric_limits<std::int64_t>::max() / kMaxRanks);
}

TEST(CharlmFixedPoint, RefusesWhatIsNotANumber) {
  EXPECT_THROW(to_fixed_point(std::nanf("")), Failure);
  EXPECT_THROW(to_fixed_point(std::numeric_limits<float>::infinity()), Failure);
}

}  // namespace
}  // namespace tutti::charlm
