#include "training/charlm/train.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <vector>

#include "training/charlm/adam.h"
#include "training/charlm/checkpoint.h"
#include "training/charlm/corpus.h"
#include "training/charlm/fingerprint.h"
#include "training/charlm/fixed_point.h"
#include "training/charlm/model.h"
#include "training/charlm/progress.h"
#include "training/charlm/stop_signal.h"

namespace tutti::charlm {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kHeldOutWindows = 2048;

class Trainer {
 public:
  Trainer(const Options& options, const Environment& env, Collective& gang, const Corpus& corpus)
      : options_(options),
        env_(env),
        gang_(gang),
        corpus_(corpus),
        model_({corpus.alphabet_size(), options.context, options.embed, options.hidden}),
        identity_{model_.shape().fingerprint(), corpus.fingerprint(), options.seed} {}

  Exit run() {
    start_or_resume();
    Progress progress(env_.progress_file, state_.step, options_.steps);
    while (state_.step < options_.steps) {
      const auto began = Clock::now();
      const StepResult result = step();
      const bool last = state_.step == options_.steps;
      progress.on_step(state_.step, result.compute, result.loss, last || result.stop);
      log_step(result, last || result.stop);

      const bool due =
          options_.checkpoint_every != 0 && (last || state_.step % options_.checkpoint_every == 0);
      if (!env_.checkpoint_dir.empty() && (due || result.stop)) {
        save_checkpoint(gang_, env_.checkpoint_dir, state_, identity_, env_.epoch);
        if (gang_.rank() == 0) say("checkpoint step-%" PRIu64 " complete\n", state_.step);
      }
      if (result.stop && !last) {
        if (gang_.rank() == 0) say("planned stop after step %" PRIu64 ", exit 85\n", state_.step);
        return Exit::restart_me;
      }
      pause_until(began + std::chrono::milliseconds(options_.step_ms));
    }
    report_final_loss();
    return Exit::done;
  }

 private:
  struct StepResult {
    double loss = 0;  // mean over ranks, before the update
    bool stop = false;
    Clock::duration compute{};
  };

  template <typename... Args>
  static void say(const char* format, Args... args) {
    std::printf(format, args...);
    std::fflush(stdout);  // through a pipe, and the log must be there when the process is killed
  }

  [[nodiscard]] std::span<const std::uint8_t> training_text() const {
    return std::span(corpus_.symbols()).first(corpus_.training_size());
  }

  void start_or_resume() {
    if (env_.resume_checkpoint.empty()) {
      state_ = fresh_state(model_.initial_parameters(options_.seed));
    } else {
      state_ = load_checkpoint(env_.resume_checkpoint, identity_, model_.shape().parameters());
      if (gang_.rank() == 0)
        say("resumed %s at step %" PRIu64 "\n", env_.resume_checkpoint.c_str(), state_.step);
    }
    // Another text, option or checkpoint on one node is found here, not as a strange loss curve a day later.
    require_agreement(gang_, run_fingerprint(), "text, options and starting point");
    if (gang_.rank() == 0) {
      say("text %zu characters, alphabet %d, parameters %zu, world size %d, step %" PRIu64 "/%" PRIu64 "\n",
          corpus_.symbols().size(), corpus_.alphabet_size(), model_.shape().parameters(), gang_.size(),
          state_.step, options_.steps);
    }
  }

  [[nodiscard]] std::uint64_t run_fingerprint() const {
    const auto bits = static_cast<std::uint64_t>(to_fixed_point(options_.learning_rate));
    return Fingerprint{}
        .add(fingerprint_of(state_))
        .add(identity_.model)
        .add(identity_.text)
        .add(options_.seed)
        .add(options_.steps)
        .add(static_cast<std::uint64_t>(options_.batch))
        .add(bits)
        .add(options_.checkpoint_every)
        .add(env_.checkpoint_dir.empty() ? 0 : 1)
        .value();
  }

  StepResult step() {
    const auto began = Clock::now();
    draw_batch(training_text(), options_.context, options_.batch, options_.seed, state_.step, gang_.rank(),
               batch_);
    const float my_loss = model_.loss_and_gradient(state_.parameters, batch_, gradient_);
    const auto count = static_cast<std::size_t>(gradient_.size());
    wire_.resize(count + 2);
    std::transform(gradient_.begin(), gradient_.end(), wire_.begin(), to_fixed_point);
    wire_[count] = to_fixed_point(my_loss);
    wire_[count + 1] = !env_.checkpoint_dir.empty() && stop_wanted(env_.stop_file) ? 1 : 0;

    StepResult result;
    result.compute = Clock::now() - began;
    gang_.sum(wire_);

    const int ranks = gang_.size();
    std::transform(wire_.begin(), wire_.end() - 2, gradient_.begin(),
                   [ranks](std::int64_t sum) { return mean_from_fixed_point(sum, ranks); });
    adam_step(state_, gradient_, options_.learning_rate);
    result.loss = mean_from_fixed_point(wire_[count], ranks);
    result.stop = wire_[count + 1] > 0;
    return result;
  }

  void log_step(const StepResult& result, bool last) const {
    if (gang_.rank() != 0 || (!last && state_.step % options_.log_every != 0)) return;
    say("step %" PRIu64 "/%" PRIu64 " loss %.4f compute %.1f ms\n", state_.step, options_.steps, result.loss,
        std::chrono::duration<double, std::milli>(result.compute).count());
  }

  // On the held-out text, so that every parameter has a part in it. All ranks hold the same parameters: that
  // is proved first, then rank 0 speaks for all.
  void report_final_loss() {
    require_agreement(gang_, fingerprint_of(state_), "the final state");
    if (gang_.rank() != 0) return;
    const auto held_out = std::span(corpus_.symbols()).subspan(corpus_.training_size());
    const Batch batch = evenly_spaced_batch(held_out, options_.context, kHeldOutWindows);
    say("final loss %.9f\n", static_cast<double>(model_.loss(state_.parameters, batch)));
  }

  const Options& options_;
  const Environment& env_;
  Collective& gang_;
  const Corpus& corpus_;
  Model<float> model_;
  RunIdentity identity_;
  TrainingState state_;
  Batch batch_;
  Eigen::VectorXf gradient_;
  std::vector<std::int64_t> wire_;
};

}  // namespace

Exit train(const Options& options, const Environment& env, Collective& gang) {
  if (gang.size() > kMaxRanks) throw Failure(Exit::usage, "more than 4096 ranks: see fixed_point.h");
  const Corpus corpus = Corpus::load(options.data);
  return Trainer(options, env, gang, corpus).run();
}

}  // namespace tutti::charlm
