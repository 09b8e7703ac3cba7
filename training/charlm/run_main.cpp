#include "training/charlm/run_main.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <string>

#include "training/charlm/environment.h"
#include "training/charlm/stop_signal.h"
#include "training/charlm/train.h"

namespace tutti::charlm {

namespace {

struct CommandLine {
  Options options;
  bool solo = false;
};

void declare_options(CLI::App& app, CommandLine& line) {
  app.option_defaults()->take_last();  // so that a launcher's options can be overridden by appending
  Options& o = line.options;
  app.add_option("--data", o.data, "directory whose regular files are the text")->capture_default_str();
  app.add_option("--steps", o.steps, "steps of the whole run, resumed ones included")->capture_default_str();
  app.add_option("--batch", o.batch, "windows per rank and step")->check(CLI::Range(1, 65536));
  app.add_option("--context", o.context, "characters the model sees")->check(CLI::Range(1, 256));
  app.add_option("--embed", o.embed, "numbers per character")->check(CLI::Range(1, 1024));
  app.add_option("--hidden", o.hidden, "width of the hidden layer")->check(CLI::Range(1, 8192));
  app.add_option("--lr", o.learning_rate, "learning rate of Adam")->check(CLI::Range(1e-6F, 1.0F));
  app.add_option("--seed", o.seed, "of the weights and the samples");
  app.add_option("--step-ms", o.step_ms, "pacing: a step takes at least so many milliseconds")
      ->check(CLI::Range(0, 60'000));
  app.add_option("--checkpoint-every", o.checkpoint_every,
                 "steps between checkpoints; 0: at a planned stop only");
  app.add_option("--log-every", o.log_every, "steps between log lines")->check(CLI::Range(1, 1'000'000));
  app.add_flag("--solo", line.solo, "one process, no launcher");
}

// A rank that was told of a gang but came up alone would train its own model and report success.
void check_gang(const Collective& gang) {
  const int expected = environment_int({"WORLD_SIZE"}).value_or(gang.size());
  if (expected != gang.size()) {
    throw Failure(Exit::usage, "WORLD_SIZE is " + std::to_string(expected) + " but the " +
                                   std::string(gang.name()) + " back end has " + std::to_string(gang.size()) +
                                   " rank(s): start charlm with mpirun, charlm-nccl directly");
  }
}

void introduce(const Collective& gang) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string devices = environment_text("CUDA_VISIBLE_DEVICES");
  std::printf("rank %d/%d local %d host %s pid %d backend %.*s CUDA_VISIBLE_DEVICES=%s\n", gang.rank(),
              gang.size(), gang.local_rank(), host.data(), static_cast<int>(::getpid()),
              static_cast<int>(gang.name().size()), gang.name().data(),
              devices.empty() ? "(unset)" : devices.c_str());
  std::fflush(stdout);
}

int report(const Failure& failure, int rank) {
  std::fprintf(stderr, "charlm: rank %d: %s (exit %d)\n", rank, failure.what(),
               static_cast<int>(failure.exit()));
  return static_cast<int>(failure.exit());
}

}  // namespace

int run_main(int argc, char** argv, const char* description, const MakeCollective& make_collective) {
  CommandLine line;
  CLI::App app(description);
  declare_options(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(Exit::usage);
  }
  if (!environment_text("CHECKPOINT_DIR").empty()) install_stop_signal();

  std::unique_ptr<Collective> gang;
  try {
    gang = line.solo ? make_solo_collective() : make_collective(&argc, &argv);
  } catch (const Failure& failure) {
    return report(failure, environment_int({"RANK", "OMPI_COMM_WORLD_RANK"}).value_or(0));
  }
  try {
    introduce(*gang);
    check_gang(*gang);
    return static_cast<int>(train(line.options, load_environment(gang->rank()), *gang));
  } catch (const Failure& failure) {
    const int status = report(failure, gang->rank());
    gang->abort(failure.exit());
    return status;  // not reached; g++ 12 does not believe a virtual [[noreturn]]
  }
}

}  // namespace tutti::charlm
