#include "tests/model/explorer.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace tutti::model {
namespace {

struct HashBytes {
  std::size_t operator()(const Bytes& bytes) const {
    std::uint64_t h = 0x9e3779b97f4a7c15ULL;
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, 8);
      h = (h ^ word) * 0xff51afd7ed558ccdULL;
      h ^= h >> 32;
    }
    return h;
  }
};
static_assert(std::tuple_size_v<Bytes> % 8 == 0);

constexpr std::uint32_t kNoParent = ~std::uint32_t{0};
struct Seen {
  State state;
  std::uint32_t parent;
};

// In words, by walking the way once more.
std::vector<std::string> way_to(const Rules& rules, const std::vector<Seen>& seen, std::uint32_t last) {
  std::vector<std::uint32_t> way;
  for (std::uint32_t at = last; at != kNoParent; at = seen[at].parent) way.push_back(at);
  std::ranges::reverse(way);
  std::vector<std::string> words;
  std::vector<Rules::Next> next;
  for (std::size_t k = 0; k + 1 < way.size(); ++k) {
    rules.next(seen[way[k]].state, true, next);
    const Bytes wanted = Rules::canonical(seen[way[k + 1]].state);
    const auto step =
        std::ranges::find_if(next, [&](const Rules::Next& n) { return Rules::canonical(n.state) == wanted; });
    words.push_back(step == next.end() ? "?" : step->what);
  }
  return words;
}

}  // namespace

Report explore(const Search& search) {
  const Rules rules(search.bounds, search.mutation);
  Report report;
  std::vector<Seen> seen{{rules.start(), kNoParent}};
  std::unordered_map<Bytes, std::uint32_t, HashBytes> known{{Rules::canonical(rules.start()), 0}};
  std::vector<Rules::Next> next;
  std::size_t level_ends = 1;
  const auto found = [&](std::uint32_t at, const std::string& why) {
    report.broken = why;
    report.trace = way_to(rules, seen, at);
    report.states = seen.size();
  };
  for (std::uint32_t at = 0; at < seen.size(); ++at) {
    if (at == level_ends) {
      ++report.depth;
      level_ends = seen.size();
    }
    if (search.ask_every != 0 && HashBytes{}(Rules::canonical(seen[at].state)) % search.ask_every == 0) {
      ++report.asked_to_run;
      if (!rules.comes_to_run(seen[at].state)) {
        found(at, "the job is never placed again, though everything else is mended");
        return report;
      }
    }
    rules.next(State(seen[at].state), false, next);
    for (auto& n : next) {
      ++report.transitions;
      const auto [it, fresh] =
          known.try_emplace(Rules::canonical(n.state), static_cast<std::uint32_t>(seen.size()));
      if (!fresh) continue;
      seen.push_back({n.state, at});
      if (!n.broken) continue;
      found(it->second, *n.broken);
      return report;
    }
    if (seen.size() >= search.most_states) {
      report.states = seen.size();
      return report;
    }
  }
  report.states = seen.size();
  report.complete = true;
  return report;
}

}  // namespace tutti::model
