// sim_control_plane [--runs N] [--seed S] [--canary NAME] [--nodes N] [--storm] [--minutes M] [--verbose]
// Runs the whole control plane in virtual time, from seeds S, S+1, …; see simulation.h and oracle.h.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "tests/sim/simulation.h"

namespace {

volatile std::uint64_t g_seed = 0;  // of the run under way, for the handler below

void on_abort(int) {
  std::fprintf(stderr, "FAILED: aborted; repeat with: ./dev sim --seed %llu\n",
               static_cast<unsigned long long>(g_seed));
  std::fflush(stdout);
  std::_Exit(1);
}

[[noreturn]] void usage() {
  std::fprintf(stderr,
               "usage: sim_control_plane [--runs N] [--seed S] [--canary NAME] [--nodes N] [--storm] "
               "[--minutes M] [--verbose]\n canaries:");
  for (const auto& [canary, name] : tutti::sim::kCanaries)
    std::fprintf(stderr, " %s", std::string(name).c_str());
  std::fprintf(stderr, "\n");
  std::exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tutti::sim;
  std::uint64_t runs = 1, seed = 1;
  bool runs_given = false, seed_given = false, verbose = false, storm = false;
  int nodes = 0;
  double minutes = 0;
  std::string canary_name;
  Canary canary = Canary::none;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) usage();
      return argv[++i];
    };
    if (arg == "--runs") {
      runs = std::strtoull(value().c_str(), nullptr, 10);
      runs_given = true;
    } else if (arg == "--seed") {
      seed = std::strtoull(value().c_str(), nullptr, 10);
      seed_given = true;
    } else if (arg == "--canary") {
      canary_name = value();
      const auto parsed = parse_canary(canary_name);
      if (!parsed) usage();
      canary = *parsed;
    } else if (arg == "--nodes") {
      nodes = std::atoi(value().c_str());
      if (nodes < 1 || nodes > 10'000) usage();
    } else if (arg == "--storm") {
      storm = true;
    } else if (arg == "--minutes") {
      minutes = std::atof(value().c_str());
      if (minutes <= 0) usage();
    } else if (arg == "--verbose") {
      verbose = true;
    } else {
      usage();
    }
  }
  if (!runs_given && minutes > 0) runs = ~std::uint64_t{0} >> 1;
  if (!runs_given && !seed_given && minutes == 0) runs = nodes > 100 ? 1 : 200;
  std::string extra = canary == Canary::none ? "" : " --canary " + canary_name;
  if (nodes > 0) extra += " --nodes " + std::to_string(nodes);
  if (storm) extra += " --storm";
  std::printf("sim_control_plane --seed %llu --runs %llu%s\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(runs), extra.c_str());
  std::fflush(stdout);
  std::signal(SIGABRT, on_abort);

  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t events = 0, failures = 0, hash = 0, injections = 0, done = 0;
  double virtual_seconds = 0;
  std::map<std::string, std::uint64_t> marks;
  const auto minutes_gone = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / 60;
  };
  for (std::uint64_t i = 0; i < runs && (minutes == 0 || minutes_gone() < minutes); ++i) {
    g_seed = seed + i;
    ++done;
    RunResult result;
    try {
      result = run_simulation(
          {.seed = seed + i, .canary = canary, .verbose = verbose, .nodes = nodes, .storm = storm});
    } catch (const std::exception& e) {
      result.failure = std::string("exception: ") + e.what();
    }
    events += result.events;
    injections += result.injections;
    hash = tutti::mix(hash ^ result.hash);
    virtual_seconds += tutti::to_seconds(result.length);
    for (const auto& [mark, n] : result.marks) marks[mark] += n;
    if (result.failure) {
      ++failures;
      std::printf("FAILED seed %llu at %.3f s: %s\n  repeat with: ./dev sim --seed %llu --verbose%s\n",
                  static_cast<unsigned long long>(seed + i), tutti::to_seconds(result.failed_at),
                  result.failure->c_str(), static_cast<unsigned long long>(seed + i), extra.c_str());
      std::fflush(stdout);
    }
  }
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("covered:\n");
  for (const auto& [mark, n] : marks)
    std::printf("  %8llu  %s\n", static_cast<unsigned long long>(n), mark.c_str());
  std::printf(
      "%llu runs, %llu failures, %llu events, %.1f runs/s, %.0f events/s, %.2f virtual hours in %.1f s, hash "
      "%016llx\n",
      static_cast<unsigned long long>(done), static_cast<unsigned long long>(failures),
      static_cast<unsigned long long>(events), static_cast<double>(done) / took,
      static_cast<double>(events) / took, virtual_seconds / 3600, took,
      static_cast<unsigned long long>(hash));
  std::printf("%llu injections, %.0f a minute\n", static_cast<unsigned long long>(injections),
              static_cast<double>(injections) / took * 60);
  return failures == 0 ? 0 : 1;
}
