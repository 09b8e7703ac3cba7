// tutti-chaos: the fault campaign over real processes in network namespaces (./dev chaos). Each row gets a
// cluster of its own, so that one row with the seed that is printed can be repeated alone.
//
//   --runs N      the whole campaign N times, with seeds S, S+1, …   (default 1)
//   --seed S      (default: from the clock)
//   --row A,B,…   only these rows                                     (default: all; --list names them)
//   --each N      injections of each row                              (default: the row's)
//   --minutes M   no new injection after so many minutes
//   --json FILE   the figures
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <random>

#include "tests/chaos/rows.h"

namespace {

using namespace tutti::chaos;
using tutti::e2e::Clock;

struct Options {
  int runs = 1, each = 0;
  double minutes = 0;
  std::uint64_t seed = 0;
  std::vector<std::string> rows;
  std::string json;
  bool list = false;
};

std::uint64_t seed_of(std::uint64_t seed, const std::string& row) {
  for (char c : row) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return seed;
}

std::string why_not(const Row& row) {
  if (row.missing != nullptr) return row.missing;
  if (row.options == with_fake_clocks) return why_no_fake_clocks();
  return {};
}

std::string how_to_repeat(const Row& row, std::uint64_t seed, const Options& options) {
  return "repeat with: ./dev chaos --seed " + std::to_string(seed) + " --row \"" + row.name + "\"" +
         (options.each > 0 ? " --each " + std::to_string(options.each) : "");
}

RowFigures run_row(const Row& row, std::uint64_t seed, const Options& options, Clock::time_point until) {
  RowFigures figures;
  figures.row = row.name;
  figures.title = row.title;
  figures.targets = row.targets;
  figures.control_fault = row.control_fault;
  if (const auto why = why_not(row); !why.empty()) {
    figures.skipped = true;
    figures.note = why;
    return figures;
  }
  std::unique_ptr<Lab> lab;
  try {
    lab = std::make_unique<Lab>(row.options != nullptr ? row.options() : LabOptions{},
                                seed_of(seed, row.name), figures);
    const int n = options.each > 0 ? options.each : row.injections;
    for (int i = 0; i < n && Clock::now() < until; ++i) {
      lab->begin();
      row.inject(*lab);
      lab->end(row.control_fault);
    }
    lab->finish();
  } catch (const std::exception& e) {
    figures.failures.push_back(e.what());
  }
  if (figures.failed()) {
    tutti::e2e::Site::instance().keep();
    std::printf("FAILED row %s, seed %llu\n", row.name, static_cast<unsigned long long>(seed));
    for (const auto& failure : figures.failures) std::printf("  %s\n", failure.c_str());
    std::printf("  %s\n", how_to_repeat(row, seed, options).c_str());
    if (lab) std::printf("  logs: %s\n", lab->cluster().directory().c_str());
    figures.failures.push_back(how_to_repeat(row, seed, options));
  }
  return figures;
}

std::vector<const Row*> choose(const Options& options) {
  std::vector<const Row*> chosen;
  for (const auto& wanted : options.rows) {
    const auto it = std::ranges::find_if(rows(), [&](const Row& row) { return row.name == wanted; });
    if (it == rows().end()) throw std::runtime_error("no row '" + wanted + "'; --list names them");
    chosen.push_back(&*it);
  }
  if (chosen.empty())
    for (const auto& row : rows()) chosen.push_back(&row);
  return chosen;
}

void write_json(std::vector<RowFigures> rows, const Options& options) {
  if (options.json.empty()) return;
  std::erase_if(rows, [](const RowFigures& f) { return f.row.empty(); });
  auto json = to_json(rows);
  json["seed"] = options.seed;
  json["runs"] = options.runs;
  std::ofstream out(options.json);
  out << boost::json::serialize(json) << "\n";
  out.close();
  if (!out) throw std::runtime_error("cannot write " + options.json);
}

int campaign(const Options& options) {
  const auto chosen = choose(options);
  const auto begin = Clock::now();
  const auto until = options.minutes > 0
                         ? begin + std::chrono::seconds(static_cast<int>(options.minutes * 60))
                         : Clock::time_point::max();
  std::printf(
      "tutti-chaos --seed %llu --runs %d: %d nodes of %d simulated GPUs; the gang has %d ranks on %d nodes, "
      "the "
      "bystander %d on %d (two cores do not carry 64 ranks); lease 6 s, kill margin 1.5 s\n",
      static_cast<unsigned long long>(options.seed), options.runs, kNodes, kGpusPerNode,
      kGangNodes * kGangGpus, kGangNodes, kBystanderNodes * kBystanderGpus, kBystanderNodes);
  std::vector<RowFigures> all(chosen.size());
  for (int run = 0; run < options.runs && Clock::now() < until; ++run)
    for (std::size_t i = 0; i < chosen.size() && Clock::now() < until; ++i) {
      const auto started = Clock::now();
      const auto figures =
          run_row(*chosen[i], options.seed + static_cast<std::uint64_t>(run), options, until);
      if (run == 0)
        all[i] = figures;
      else
        all[i].add(figures);
      std::printf("%-3s %-44s %s%4d injections, %5.1f s\n", figures.row.c_str(), figures.title.c_str(),
                  figures.skipped    ? "skipped, "
                  : figures.failed() ? "FAILED, "
                                     : "",
                  figures.injections, std::chrono::duration<double>(Clock::now() - started).count());
      std::fflush(stdout);
      write_json(all, options);  // so far: who stops the campaign keeps its figures
    }
  std::erase_if(all, [](const RowFigures& f) { return f.row.empty(); });
  std::cout << "\n" << table(all);
  std::printf("%.1f minutes\n", std::chrono::duration<double>(Clock::now() - begin).count() / 60);
  return std::ranges::any_of(all, [](const RowFigures& f) { return f.failed(); }) ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Kills, freezes, cuts and breaks real processes, and asks independent oracles"};
  Options options;
  options.seed = std::random_device{}() % 1'000'000;
  app.add_option("--runs", options.runs, "the whole campaign so many times")->check(CLI::PositiveNumber);
  app.add_option("--seed", options.seed, "of the first run");
  app.add_option("--row", options.rows, "only these rows: A,B,…")->delimiter(',');
  app.add_option("--each", options.each, "injections of each row")->check(CLI::PositiveNumber);
  app.add_option("--minutes", options.minutes, "no new injection after so many minutes")
      ->check(CLI::PositiveNumber);
  app.add_option("--json", options.json, "write the figures there");
  app.add_flag("--list", options.list, "name the rows");
  CLI11_PARSE(app, argc, argv);
  if (options.list) {
    for (const auto& row : rows())
      std::printf("%-3s %s%s%s\n", row.name, row.title, row.missing != nullptr ? ": " : "",
                  row.missing != nullptr ? row.missing : "");
    return 0;
  }
  if (!tutti::e2e::Site::may_use_network()) {
    std::fprintf(stderr, "tutti-chaos: network namespaces need root\n");
    return 77;  // to ctest: skipped
  }
  try {
    return campaign(options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tutti-chaos: %s\n", e.what());
    return 2;
  }
}
