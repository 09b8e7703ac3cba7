// Which nodes a gang gets: all or none. Fewest free GPUs first, so that whole nodes stay whole (best fit);
// the smallest group of nodes that holds it (NVLink domain, rack, block, spine), so that large ones stay
// large; suspected nodes and those that failed the job before only when nothing else does. Ties break by
// index.
#include <algorithm>
#include <cmath>
#include <tuple>

#include "scheduler/planner/nodes.h"

namespace tutti::planner {

namespace {
std::size_t ix(int i) { return static_cast<std::size_t>(i); }

constexpr double kProbation = 1;  // for gangs of several nodes: after all others
}  // namespace

struct Nodes::Candidate {
  bool avoided;
  int suspicion;   // in tenths
  int preference;  // of the filter
  int left;        // GPUs free on it; where jobs want to be apart, how few
  int node;
  Part part;
  std::uint64_t rank = 0;  // all of these in order, lowest first

  void set_rank() {
    const auto bits = [](int v, unsigned width) {
      return static_cast<std::uint64_t>(std::clamp(v, 0, (1 << width) - 1));
    };
    rank = bits(avoided ? 1 : 0, 1) << 63 | bits(suspicion, 5) << 58 | bits(preference, 4) << 54 |
           bits(left, 14) << 30 | bits(node, 30);
  }
};

Parts Nodes::choose(int shape, const std::vector<int>& avoid, const NodeFilter* filter, bool soon) const {
  const Shape& s = this->shape(shape);
  for (const int n : s.needs) {
    const Need& need = this->need(n);
    if (!soon && need.fitting < s.ask.fewest_nodes()) continue;
    Parts parts = choose_for(need, s.ask, avoid, filter, soon);
    if (!parts.empty()) return parts;
  }
  return {};
}

std::vector<Nodes::Candidate> Nodes::candidates(const Need& need, int wanted, const std::vector<int>& avoid,
                                                const NodeFilter* filter, bool soon) const {
  std::vector<Candidate> out;
  const bool first_will_do = !has_places_ && avoid.empty() && filter == nullptr && !soon;
  int perfect = 0;
  for (int node = 0; node < size(); ++node) {
    if (!soon && need.fits[ix(node)] == 0) continue;
    const Machine& m = nodes_[ix(node)];
    if (soon && (need.could[ix(node)] == 0 || !m.desc->open())) continue;
    const int preference = filter == nullptr ? 0 : filter->preference(node, need);
    if (preference < 0) continue;
    const Room room = room_now(node, soon);
    const auto part = place(need, node, room);
    if (!part) continue;
    int left = 0;
    for (const auto g : room.gpus) left += g;
    const bool avoided = std::ranges::find(avoid, node) != avoid.end();
    const int suspicion = static_cast<int>(
        std::lround(std::max(m.desc->suspicion, m.desc->probation && wanted > 1 ? kProbation : 0.0) * 10));
    out.push_back({avoided, suspicion, preference, left, node, *part});
    out.back().set_rank();
    if (first_will_do && left == need.gpus && suspicion == 0 && ++perfect == wanted) break;
  }
  return out;
}

Parts Nodes::choose_for(const Need& need, const GangAsk& ask, const std::vector<int>& avoid,
                        const NodeFilter* filter, bool soon) const {
  auto from = candidates(need, ask.topology.spread ? size() : ask.nodes, avoid, filter, soon);
  if (static_cast<int>(from.size()) < ask.fewest_nodes()) return {};
  if (ask.topology.spread)
    for (auto& c : from) c.left = 1000 - c.left, c.set_rank();
  // Those that are to be avoided only when the others do not do.
  const auto is_bad = [](const Candidate& c) { return c.avoided || c.suspicion > 0; };
  if (std::ranges::any_of(from, is_bad)) {
    auto good = from;
    std::erase_if(good, is_bad);
    if (static_cast<int>(good.size()) >= ask.nodes)
      if (Parts parts = best_of(std::move(good), ask); !parts.empty()) return parts;
  }
  return best_of(std::move(from), ask);
}

Parts Nodes::best_of(std::vector<Candidate> from, const GangAsk& ask) const {
  if (has_places_ && ask.nodes > 1) pick_near(from, ask);
  if (static_cast<int>(from.size()) < ask.fewest_nodes()) return {};
  const auto n = std::min(from.size(), ix(ask.nodes));
  std::ranges::partial_sort(from, from.begin() + static_cast<std::ptrdiff_t>(n), {}, &Candidate::rank);
  Parts parts;
  for (std::size_t i = 0; i < n; ++i) parts.push_back(from[i].part);
  return parts;
}

// Leaves those of one group of nodes, the smallest that holds the gang, of the finest level where there is
// one. Where none does and none is required, all stay, those of the fullest groups first.
void Nodes::pick_near(std::vector<Candidate>& from, const GangAsk& ask) const {
  const auto required = ask.topology.require;
  if (ask.topology.spread && required == TopologyLevel::any) return pick_apart(from, ask.nodes);
  const std::size_t levels = required == TopologyLevel::any ? 4 : static_cast<std::size_t>(required);
  const std::size_t wished =
      ask.topology.prefer == TopologyLevel::any ? 0 : static_cast<std::size_t>(ask.topology.prefer);
  std::vector<int> in;
  for (std::size_t level = ask.topology.spread ? levels - 1 : 0; level < levels; ++level) {
    in.assign(places_[level].size(), 0);
    for (const auto& c : from) ++in[ix(nodes_[ix(c.node)].place[level])];
    // Rather fewer nodes inside the wished group than more outside it.
    const int least = level + 1 <= wished || level + 1 == levels ? ask.fewest_nodes() : ask.nodes;
    int best = -1;
    for (int p = 0; p < static_cast<int>(in.size()); ++p) {
      if (in[ix(p)] < least) continue;
      const auto worth = [&](int q) { return std::tuple(-std::min(in[ix(q)], ask.nodes), in[ix(q)], q); };
      if (best < 0 || worth(p) < worth(best)) best = p;
    }
    const bool all_here = best >= 0 && (in[ix(best)] >= ask.nodes || level + 1 == levels ||
                                        (wished != 0 && level + 1 == wished));
    if (!all_here) continue;
    std::erase_if(from, [&](const Candidate& c) { return nodes_[ix(c.node)].place[level] != best; });
    if (ask.topology.spread) pick_apart(from, ask.nodes);
    return;
  }
  if (required != TopologyLevel::any) return from.clear();
  constexpr std::size_t kRack = 1;
  in.assign(places_[kRack].size(), 0);
  for (const auto& c : from) ++in[ix(nodes_[ix(c.node)].place[kRack])];
  for (auto& c : from) {  // as many as possible of one rack
    c.preference = 15 - std::min(15, in[ix(nodes_[ix(c.node)].place[kRack])]);
    c.set_rank();
  }
}

// From different racks in turn.
void Nodes::pick_apart(std::vector<Candidate>& from, int wanted) const {
  std::ranges::sort(from, {}, &Candidate::rank);
  std::vector<Candidate> out;
  std::vector<bool> taken(from.size());
  while (static_cast<int>(out.size()) < wanted && out.size() < from.size()) {
    std::vector<int> racks;
    for (std::size_t i = 0; i < from.size() && static_cast<int>(out.size()) < wanted; ++i) {
      const int rack = nodes_[ix(from[i].node)].place[1];
      if (taken[i] || std::ranges::find(racks, rack) != racks.end()) continue;
      racks.push_back(rack);
      taken[i] = true;
      out.push_back(from[i]);
    }
  }
  from = std::move(out);
}

}  // namespace tutti::planner
