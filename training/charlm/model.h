// The language model: the next character from the last `context` ones. Embedding, one tanh layer, softmax;
// forward and backward pass written out over Eigen. Used by the training loop in float; the tests also build
// it in double, where numerical gradients are sharp enough to prove the backward pass.
//
// Invariants: (1) all parameters lie in one flat vector, so the collective, the optimiser and the checkpoint
// see an array and know nothing of layers; (2) the same parameters and batch give the same bits, whatever was
// computed before: the order of every sum is fixed by the shapes; (3) one thread.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tutti::charlm {

struct ModelShape {
  int alphabet = 0;
  int context = 16;
  int embed = 12;
  int hidden = 96;

  [[nodiscard]] std::size_t parameters() const;
  [[nodiscard]] std::uint64_t fingerprint() const;
};

// `samples` windows of `context` symbols, one after the other, and the symbol that follows each.
struct Batch {
  std::vector<std::uint8_t> windows;
  std::vector<std::uint8_t> targets;
  [[nodiscard]] std::size_t samples() const { return targets.size(); }
};

template <typename Scalar>
class Model {
 public:
  using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

  explicit Model(ModelShape shape);

  [[nodiscard]] const ModelShape& shape() const { return shape_; }

  // Uniform, scaled by fan-in; a function of the seed alone.
  [[nodiscard]] Vector initial_parameters(std::uint64_t seed) const;

  // Mean cross-entropy in nats; overwrites `gradient` with its derivative.
  Scalar loss_and_gradient(const Vector& parameters, const Batch& batch, Vector& gradient);
  Scalar loss(const Vector& parameters, const Batch& batch);

 private:
  // Leaves inputs_, hidden_ and probabilities_ filled for the backward pass.
  Scalar forward(const Vector& parameters, const Batch& batch);
  void backward(const Vector& parameters, const Batch& batch, Vector& gradient);

  ModelShape shape_;
  Matrix inputs_;         // context*embed × samples
  Matrix hidden_;         // hidden × samples
  Matrix probabilities_;  // alphabet × samples; becomes d loss / d logits in backward()
  Matrix d_hidden_;
  Matrix d_inputs_;
};

extern template class Model<float>;
extern template class Model<double>;

// Window `index` of this rank at this step; see counter_rng.h.
void draw_batch(std::span<const std::uint8_t> text, int context, int samples, std::uint64_t seed,
                std::uint64_t step, int rank, Batch& out);
// Windows spread evenly over `text`: the same for every rank, seed and step.
Batch evenly_spaced_batch(std::span<const std::uint8_t> text, int context, int samples);

}  // namespace tutti::charlm
