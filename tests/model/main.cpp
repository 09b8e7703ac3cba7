// model_terms [--terms N] [--epochs N] [--margin N] [--from-submit 1] [--faults N] [--losses N] [--lease N]
// [--renews N]
//             [--states N] [--ask-every N] [--mutation NAME]
// Explores the small world of docs/design/0019-model.md and says what it has seen.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/model/explorer.h"

namespace {
[[noreturn]] void usage() {
  std::fprintf(stderr,
               "usage: model_terms [--terms N] [--epochs N] [--margin N] [--from-submit 1] [--faults N] "
               "[--losses N] [--lease N]\n"
               "                   [--renews N] [--states N] [--ask-every N] [--mutation NAME]\n mutations:");
  for (int i = 1; i < tutti::model::kMutations; ++i)
    std::fprintf(stderr, " %s", std::string(name(static_cast<tutti::model::Mutation>(i))).c_str());
  std::fprintf(stderr, "\n");
  std::exit(2);
}
}  // namespace

int main(int argc, char** argv) {
  using namespace tutti::model;
  Search search;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    const int n = std::atoi(value.c_str());
    if (flag == "--terms" && n < kTermsAtMost)
      search.bounds.terms = n;
    else if (flag == "--epochs")
      search.bounds.epochs = n;
    else if (flag == "--margin")
      search.bounds.margin = n;
    else if (flag == "--from-submit")
      search.bounds.from_submit = n != 0;
    else if (flag == "--faults")
      search.bounds.faults = n;
    else if (flag == "--losses")
      search.bounds.losses = n;
    else if (flag == "--lease")
      search.bounds.lease = n;
    else if (flag == "--renews")
      search.bounds.renews = n;
    else if (flag == "--states")
      search.most_states = std::strtoull(value.c_str(), nullptr, 10);
    else if (flag == "--ask-every")
      search.ask_every = std::strtoull(value.c_str(), nullptr, 10);
    else if (flag == "--mutation") {
      int m = 1;
      while (m < kMutations && name(static_cast<Mutation>(m)) != value) ++m;
      if (m == kMutations) usage();
      search.mutation = static_cast<Mutation>(m);
    } else
      usage();
  }
  if (argc % 2 == 0) usage();
  const auto begin = std::chrono::steady_clock::now();
  const Report report = explore(search);
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%llu states, %llu transitions, depth %llu, %s, %.1f s; from %llu states the job came to run\n",
              static_cast<unsigned long long>(report.states),
              static_cast<unsigned long long>(report.transitions),
              static_cast<unsigned long long>(report.depth),
              report.complete ? "all within the bounds" : "not complete", took,
              static_cast<unsigned long long>(report.asked_to_run));
  if (report.broken.empty()) return 0;
  for (std::size_t i = 0; i < report.trace.size(); ++i)
    std::printf("%4zu  %s\n", i + 1, report.trace[i].c_str());
  std::printf("BROKEN: %s\n", report.broken.c_str());
  return 1;
}
