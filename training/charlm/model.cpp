#include "training/charlm/model.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "training/charlm/counter_rng.h"
#include "training/charlm/fingerprint.h"

namespace tutti::charlm {

namespace {

// Where each layer lies in the flat vector, in this order: embedding, w1, b1, w2, b2.
struct Layout {
  explicit Layout(const ModelShape& s)
      : embedding(0),
        w1(static_cast<std::ptrdiff_t>(s.embed) * s.alphabet),
        b1(w1 + static_cast<std::ptrdiff_t>(s.hidden) * s.context * s.embed),
        w2(b1 + s.hidden),
        b2(w2 + static_cast<std::ptrdiff_t>(s.alphabet) * s.hidden),
        size(b2 + s.alphabet) {}
  std::ptrdiff_t embedding, w1, b1, w2, b2, size;
};

// Typed windows onto the flat vector; V is a const or mutable vector.
template <typename Scalar, typename V>
struct Layers {
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
  using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;
  static constexpr bool kConst = std::is_const_v<V>;
  using MatrixMap = Eigen::Map<std::conditional_t<kConst, const Matrix, Matrix>>;
  using VectorMap = Eigen::Map<std::conditional_t<kConst, const Vector, Vector>>;

  Layers(const ModelShape& s, V& flat, const Layout& at)
      : embedding(flat.data() + at.embedding, s.embed, s.alphabet),
        w1(flat.data() + at.w1, s.hidden, static_cast<std::ptrdiff_t>(s.context) * s.embed),
        b1(flat.data() + at.b1, s.hidden),
        w2(flat.data() + at.w2, s.alphabet, s.hidden),
        b2(flat.data() + at.b2, s.alphabet) {}

  MatrixMap embedding, w1;
  VectorMap b1;
  MatrixMap w2;
  VectorMap b2;
};

}  // namespace

std::size_t ModelShape::parameters() const { return static_cast<std::size_t>(Layout(*this).size); }

std::uint64_t ModelShape::fingerprint() const {
  Fingerprint print;
  for (const int n : {alphabet, context, embed, hidden}) print.add(static_cast<std::uint64_t>(n));
  return print.value();
}

template <typename Scalar>
Model<Scalar>::Model(ModelShape shape) : shape_(shape) {
  static std::once_flag once;  // they are Eigen's globals, and the tests run ranks as threads
  std::call_once(once, [] {
    // Eigen cuts products into blocks by the cache sizes it finds, and the blocks order the sums: fixed
    // sizes, so that a gang over two kinds of CPU, or a resume on another one, still agrees. One thread for
    // the same reason.
    Eigen::setCpuCacheSizes(32 * 1024, 512 * 1024, 2 * 1024 * 1024);
    Eigen::setNbThreads(1);
  });
}

template <typename Scalar>
typename Model<Scalar>::Vector Model<Scalar>::initial_parameters(std::uint64_t seed) const {
  const Layout at(shape_);
  Vector out = Vector::Zero(at.size);
  const auto fill = [&](std::ptrdiff_t from, std::ptrdiff_t to, double scale) {
    for (std::ptrdiff_t i = from; i < to; ++i) {
      const std::uint64_t bits = random_bits(seed, Stream::weights, 0, static_cast<std::uint64_t>(i));
      out[i] = static_cast<Scalar>(scale * random_signed_unit(bits));
    }
  };
  fill(at.embedding, at.w1, 0.5);
  fill(at.w1, at.b1, std::sqrt(3.0 / (shape_.context * shape_.embed)));
  fill(at.w2, at.b2, 0.5 * std::sqrt(3.0 / shape_.hidden));  // biases stay zero
  return out;
}

template <typename Scalar>
Scalar Model<Scalar>::forward(const Vector& parameters, const Batch& batch) {
  const Layers<Scalar, const Vector> p(shape_, parameters, Layout(shape_));
  const auto samples = static_cast<std::ptrdiff_t>(batch.samples());
  const int embed = shape_.embed;

  inputs_.resize(static_cast<std::ptrdiff_t>(shape_.context) * embed, samples);
  for (std::ptrdiff_t s = 0; s < samples; ++s) {
    for (std::ptrdiff_t c = 0; c < shape_.context; ++c) {
      const auto symbol = batch.windows[static_cast<std::size_t>(s * shape_.context + c)];
      inputs_.col(s).segment(c * embed, embed) = p.embedding.col(symbol);
    }
  }
  hidden_.noalias() = p.w1 * inputs_;
  hidden_.colwise() += p.b1;
  hidden_ = hidden_.array().tanh().matrix();

  probabilities_.noalias() = p.w2 * hidden_;
  probabilities_.colwise() += p.b2;
  Scalar total = 0;
  for (std::ptrdiff_t s = 0; s < samples; ++s) {
    auto column = probabilities_.col(s);
    const Scalar highest = column.maxCoeff();
    const Scalar target_logit = column[batch.targets[static_cast<std::size_t>(s)]] - highest;
    column = (column.array() - highest).exp().matrix();
    const Scalar sum = column.sum();
    column /= sum;
    total += std::log(sum) - target_logit;
  }
  return total / static_cast<Scalar>(samples);
}

template <typename Scalar>
void Model<Scalar>::backward(const Vector& parameters, const Batch& batch, Vector& gradient) {
  const Layout at(shape_);
  const Layers<Scalar, const Vector> p(shape_, parameters, at);
  gradient.setZero(at.size);
  Layers<Scalar, Vector> g(shape_, gradient, at);
  const auto samples = static_cast<std::ptrdiff_t>(batch.samples());
  const int embed = shape_.embed;

  // Softmax with cross-entropy: d loss / d logits = (p - onehot) / samples.
  for (std::ptrdiff_t s = 0; s < samples; ++s) {
    probabilities_(batch.targets[static_cast<std::size_t>(s)], s) -= Scalar(1);
  }
  probabilities_ /= static_cast<Scalar>(samples);

  g.w2.noalias() = probabilities_ * hidden_.transpose();
  g.b2 = probabilities_.rowwise().sum();

  d_hidden_.noalias() = p.w2.transpose() * probabilities_;
  d_hidden_.array() *= Scalar(1) - hidden_.array().square();

  g.w1.noalias() = d_hidden_ * inputs_.transpose();
  g.b1 = d_hidden_.rowwise().sum();

  d_inputs_.noalias() = p.w1.transpose() * d_hidden_;
  for (std::ptrdiff_t s = 0; s < samples; ++s) {
    for (std::ptrdiff_t c = 0; c < shape_.context; ++c) {
      const auto symbol = batch.windows[static_cast<std::size_t>(s * shape_.context + c)];
      g.embedding.col(symbol) += d_inputs_.col(s).segment(c * embed, embed);
    }
  }
}

template <typename Scalar>
Scalar Model<Scalar>::loss_and_gradient(const Vector& parameters, const Batch& batch, Vector& gradient) {
  const Scalar value = forward(parameters, batch);
  backward(parameters, batch, gradient);
  return value;
}

template <typename Scalar>
Scalar Model<Scalar>::loss(const Vector& parameters, const Batch& batch) {
  return forward(parameters, batch);
}

template class Model<float>;
template class Model<double>;

namespace {

void append_window(std::span<const std::uint8_t> text, std::size_t start, int context, Batch& out) {
  const auto window = text.subspan(start, static_cast<std::size_t>(context));
  out.windows.insert(out.windows.end(), window.begin(), window.end());
  out.targets.push_back(text[start + static_cast<std::size_t>(context)]);
}

}  // namespace

void draw_batch(std::span<const std::uint8_t> text, int context, int samples, std::uint64_t seed,
                std::uint64_t step, int rank, Batch& out) {
  out.windows.clear();
  out.targets.clear();
  const std::size_t starts = text.size() - static_cast<std::size_t>(context);
  for (int i = 0; i < samples; ++i) {
    const auto index = (static_cast<std::uint64_t>(rank) << 32U) | static_cast<std::uint64_t>(i);
    append_window(text, random_below(starts, random_bits(seed, Stream::samples, step, index)), context, out);
  }
}

Batch evenly_spaced_batch(std::span<const std::uint8_t> text, int context, int samples) {
  Batch out;
  const std::size_t starts = text.size() - static_cast<std::size_t>(context);
  const std::size_t count = std::min(starts, static_cast<std::size_t>(samples));
  for (std::size_t i = 0; i < count; ++i) append_window(text, i * starts / count, context, out);
  return out;
}

}  // namespace tutti::charlm
