#include "scheduler/planner/nodes.h"

#include <algorithm>

#include "scheduler/model/assert.h"

namespace tutti::planner {

namespace {

std::size_t ix(int i) { return static_cast<std::size_t>(i); }

std::string need_key(const Need& n) {
  std::string k = n.queue + '\0' + n.kind.model + '\0' + std::to_string(n.kind.memory_bytes) + '/' +
                  std::to_string(n.gpus) + (n.one_island ? "i" : "") + '/' + std::to_string(n.cpus) + '/' +
                  std::to_string(n.memory_bytes);
  for (const auto& c : n.constraints) k += '\0' + to_string(c);
  k += '\1';
  for (const auto& e : n.exclude_nodes) k += '\0' + e;
  return k;
}

}  // namespace

int Machine::usable_gpus() const {
  int n = 0;
  for (const auto g : usable) n += g;
  return n;
}

int Machine::free_gpus() const {
  int n = 0;
  for (std::size_t g = 0; g < kGroups; ++g) n += std::max(0, usable[g] - held[g]);
  return n;
}

// ---------------------------------------------------------------- machines

int Nodes::place_of(std::size_t level, const NodeDesc& desc) {
  static constexpr std::array kLabels = {"topology.nvlink", "topology.rack", "topology.block",
                                         "topology.spine"};
  const auto label = desc.labels.find(kLabels[level]);
  std::string where;
  if (label != desc.labels.end()) {
    where = desc.queue + '\0' + label->second;
    if (level > 0 || !label->second.empty()) has_places_ = true;
  } else if (level == 0) {
    where = '\1' + desc.name;  // alone
  } else {
    where = desc.queue;  // with all others that do not say
  }
  auto& known = places_[level];
  return known.emplace(std::move(where), static_cast<int>(known.size())).first->second;
}

int Nodes::put(const NodeDesc& desc) {
  const auto [found, fresh] = index_.emplace(desc.id, size());
  const int node = found->second;
  if (fresh) nodes_.emplace_back();
  Machine& m = nodes_[ix(node)];
  if (!fresh && *m.desc == desc) return node;
  for (auto& need : needs_)
    if (!fresh && need.fits[ix(node)] != 0) count(need, node, -1);
  m.desc = std::make_shared<const NodeDesc>(desc);
  m.usable = {};
  for (std::size_t g = 0; g < desc.devices.size(); ++g)
    m.usable[std::min(g, kGroups - 1)] += static_cast<std::int16_t>(desc.devices[g].usable);
  for (std::size_t level = 0; level < m.place.size(); ++level) m.place[level] = place_of(level, desc);
  for (auto& need : needs_) {
    describe(need, node);
    need.fits[ix(node)] = 0;
  }
  refit(node);
  return node;
}

std::optional<int> Nodes::find(NodeId id) const {
  const auto found = index_.find(id);
  return found == index_.end() ? std::nullopt : std::optional(found->second);
}

int Nodes::usable_gpus(const std::string& queue) const {
  int n = 0;
  for (const auto& m : nodes_)
    if (m.desc->queue == queue && m.desc->open()) n += m.usable_gpus();
  return n;
}

// ---------------------------------------------------------------- asks

int Nodes::intern(const GangAsk& ask) {
  std::string key = ask.key();
  if (const auto known = shape_of_.find(key); known != shape_of_.end()) return known->second;
  Shape shape{.ask = ask, .needs = {}};
  auto kinds = ask.resources.gpu_kinds;
  if (kinds.empty() || ask.resources.gpus == 0) kinds.assign(1, GpuKind{});
  for (const GpuKind& kind : kinds) {
    Need need;
    need.queue = ask.queue;
    need.kind = kind;
    need.gpus = ask.resources.gpus;
    need.cpus = cpus_of(ask.resources);
    need.memory_bytes = ask.resources.memory_bytes;
    need.one_island = ask.topology.require == TopologyLevel::nvlink && ask.nodes == 1;
    need.constraints = ask.constraints;
    need.exclude_nodes = ask.exclude_nodes;
    shape.needs.push_back(find_need(need));
  }
  shapes_.push_back(std::move(shape));
  return shape_of_.emplace(std::move(key), shape_count() - 1).first->second;
}

int Nodes::find_need(const Need& like) {
  const auto [found, fresh] = need_of_.emplace(need_key(like), static_cast<int>(needs_.size()));
  if (!fresh) return found->second;
  needs_.push_back(like);
  Need& need = needs_.back();
  for (int node = 0; node < size(); ++node) {
    describe(need, node);
    need.fits[ix(node)] = fits_now(need, node) ? 1 : 0;
    if (need.fits[ix(node)] != 0) count(need, node, 1);
  }
  return found->second;
}

// What of a need depends on the node's description alone.
void Nodes::describe(Need& need, int node) {
  if (need.fits.size() < nodes_.size()) {
    need.groups.resize(nodes_.size());
    need.could.resize(nodes_.size());
    need.fits.resize(nodes_.size());
    need.ready.resize(nodes_.size());
    need.ready_of.resize(nodes_.size());
  }
  const NodeDesc& desc = *nodes_[ix(node)].desc;
  unsigned groups = 0, foreign = 0, shared = 0;  // slots by bit
  std::array<int, kGroups> has{};
  for (std::size_t g = 0; g < desc.devices.size(); ++g) {
    const DeviceGroup& group = desc.devices[g];
    if (group.total == 0 && group.usable == 0) continue;
    const auto slot = std::min(g, kGroups - 1);
    const unsigned bit = 1U << slot;
    const bool apart = need.one_island && need.gpus > 1 && (group.island == kNoIsland || (shared & bit) != 0);
    shared |= bit;
    if (apart || !kind_matches(group, need.kind)) {
      foreign |= bit;
      continue;
    }
    groups |= bit;
    has[slot] += group.total;
  }
  groups &= ~foreign;  // of a slot that several groups share all must do
  for (std::size_t slot = 0; slot < kGroups; ++slot)
    if ((foreign >> slot & 1U) != 0) has[slot] = 0;
  need.groups[ix(node)] = static_cast<std::uint8_t>(groups);
  int most = 0;
  for (const int h : has) most = need.one_island ? std::max(most, h) : most + h;
  const bool excluded = std::ranges::find(need.exclude_nodes, desc.name) != need.exclude_nodes.end();
  need.could_count -= need.could[ix(node)];
  need.could[ix(node)] =
      desc.queue == need.queue && !excluded && most >= need.gpus && desc.cpus >= need.cpus &&
              desc.memory_bytes >= need.memory_bytes &&
              std::ranges::all_of(need.constraints, [&](const auto& c) { return satisfies(desc, c); })
          ? 1
          : 0;
  need.could_count += need.could[ix(node)];
}

void Nodes::count(Need& need, int node, int by) {
  need.fitting += by;
  const Machine& m = nodes_[ix(node)];
  for (std::size_t level = 0; level < need.fitting_in.size(); ++level) {
    auto& in = need.fitting_in[level];
    const auto place = ix(m.place[level]);
    if (in.size() <= place) in.resize(place + 1);
    in[place] += by;
  }
}

bool Nodes::fits_now(const Need& need, int node) const {
  if (need.could[ix(node)] == 0 || !nodes_[ix(node)].desc->open()) return false;
  return place(need, node, room_now(node, false)).has_value();
}

void Nodes::refit(int node) {
  ++nodes_[ix(node)].version;
  for (auto& need : needs_) {
    const std::uint8_t fits = fits_now(need, node) ? 1 : 0;
    if (fits == need.fits[ix(node)]) continue;
    need.fits[ix(node)] = fits;
    count(need, node, fits != 0 ? 1 : -1);
  }
}

bool Nodes::fits(int shape) const {
  const Shape& s = this->shape(shape);
  const int least = s.ask.fewest_nodes();
  const auto level = s.ask.topology.require;
  return std::ranges::any_of(s.needs, [&](int n) {
    const Need& need = this->need(n);
    if (level == TopologyLevel::any || s.ask.nodes == 1) return need.fitting >= least;
    const auto& in = need.fitting_in[static_cast<std::size_t>(level) - 1];
    return std::ranges::any_of(in, [&](int fitting) { return fitting >= least; });
  });
}

bool Nodes::could_ever(int shape) const {
  const Shape& s = this->shape(shape);
  const auto level = s.ask.topology.require;
  return std::ranges::any_of(s.needs, [&](int n) {
    const Need& need = this->need(n);
    if (level == TopologyLevel::any || s.ask.nodes == 1) return need.could_count >= s.ask.fewest_nodes();
    std::map<int, int> in;
    int most = 0;
    for (int node = 0; node < size(); ++node)
      if (need.could[ix(node)] != 0)
        most = std::max(most, ++in[nodes_[ix(node)].place[static_cast<std::size_t>(level) - 1]]);
    return most >= s.ask.fewest_nodes();
  });
}

// ---------------------------------------------------------------- holding

void Nodes::occupy(JobId job, Instant until, const Resources& r, const Parts& parts) {
  for (const Part& part : parts) {
    Machine& m = nodes_[ix(part.node)];
    for (std::size_t g = 0; g < kGroups; ++g) m.held[g] = static_cast<std::int16_t>(m.held[g] + part.gpus[g]);
    m.cpus_held += cpus_of(r);
    m.memory_held += r.memory_bytes;
    Occupant o{.job = job, .until = until, .part = part, .cpus = cpus_of(r), .memory_bytes = r.memory_bytes};
    m.occupants.insert(std::ranges::upper_bound(m.occupants, until, {}, &Occupant::until), o);
    refit(part.node);
  }
}

void Nodes::vacate(JobId job, const Parts& parts) {
  set_leaving(job, parts, false);
  for (const Part& part : parts) {
    Machine& m = nodes_[ix(part.node)];
    const auto o = std::ranges::find(m.occupants, job, &Occupant::job);
    TUTTI_ASSERT(o != m.occupants.end(), "who leaves a node was there");
    for (std::size_t g = 0; g < kGroups; ++g) {
      m.held[g] = static_cast<std::int16_t>(m.held[g] - part.gpus[g]);
      TUTTI_ASSERT(m.held[g] >= 0, "no GPU is returned twice");
    }
    m.cpus_held -= o->cpus;
    m.memory_held -= o->memory_bytes;
    m.occupants.erase(o);
    refit(part.node);
  }
}

void Nodes::set_leaving(JobId job, const Parts& parts, bool leaves) {
  for (const Part& part : parts) {
    Machine& m = nodes_[ix(part.node)];
    const auto o = std::ranges::find(m.occupants, job, &Occupant::job);
    if (o == m.occupants.end() || o->leaves == leaves) continue;
    o->leaves = leaves;
    const int sign = leaves ? 1 : -1;
    for (std::size_t g = 0; g < kGroups; ++g)
      m.leaving[g] = static_cast<std::int16_t>(m.leaving[g] + sign * part.gpus[g]);
    m.cpus_leaving += sign * o->cpus;
    m.memory_leaving += sign * o->memory_bytes;
    refit(part.node);
  }
}

void Nodes::claim(const Resources& r, const Parts& parts, int sign) {
  for (const Part& part : parts) {
    Machine& m = nodes_[ix(part.node)];
    for (std::size_t g = 0; g < kGroups; ++g)
      m.claimed[g] = static_cast<std::int16_t>(m.claimed[g] + sign * part.gpus[g]);
    m.cpus_claimed += sign * cpus_of(r);
    m.memory_claimed += sign * r.memory_bytes;
    refit(part.node);
  }
}

bool Nodes::is_free(const Resources& r, const Parts& parts) const {
  return std::ranges::all_of(parts, [&](const Part& part) {
    const Machine& m = nodes_[ix(part.node)];
    bool free = m.desc->open() && m.desc->cpus - m.cpus_held >= cpus_of(r) &&
                m.desc->memory_bytes - m.memory_held >= r.memory_bytes;
    for (std::size_t g = 0; g < kGroups; ++g) free = free && m.usable[g] - m.held[g] >= part.gpus[g];
    return free;
  });
}

// ---------------------------------------------------------------- room

// What is claimed by somebody may be covered by those who leave; only the rest of the claim is taken from
// what is free now.
Nodes::Room Nodes::room_now(int node, bool soon) const {
  const Machine& m = nodes_[ix(node)];
  const auto left = [&](auto total, auto held, auto leaving, auto claimed) {
    const auto later = total - held + leaving - claimed;
    return soon ? later : std::min(total - held, later);
  };
  Room room;
  for (std::size_t g = 0; g < kGroups; ++g)
    room.gpus[g] = static_cast<std::int16_t>(left(m.usable[g], m.held[g], m.leaving[g], m.claimed[g]));
  room.cpus = left(m.desc->cpus, m.cpus_held, m.cpus_leaving, m.cpus_claimed);
  room.memory_bytes = left(m.desc->memory_bytes, m.memory_held, m.memory_leaving, m.memory_claimed);
  return room;
}

Nodes::Room Nodes::room_at(int node, Instant when) const {
  const Machine& m = nodes_[ix(node)];
  Room room = room_now(node, true);
  for (const Occupant& o : m.occupants) {
    if (o.until > when) break;  // in order of it
    if (o.leaves) continue;     // counted already
    for (std::size_t g = 0; g < kGroups; ++g)
      room.gpus[g] = static_cast<std::int16_t>(room.gpus[g] + o.part.gpus[g]);
    room.cpus += o.cpus;
    room.memory_bytes += o.memory_bytes;
  }
  return room;
}

// The smallest group that holds all; else groups with most room first.
std::optional<Part> Nodes::place(const Need& need, int node, const Room& room) const {
  if (room.cpus < need.cpus || room.memory_bytes < need.memory_bytes) return std::nullopt;
  Part part{.node = node, .gpus = {}};
  if (need.gpus == 0) return part;
  const unsigned groups = need.groups[ix(node)];
  int best = -1, sum = 0;
  for (std::size_t g = 0; g < kGroups; ++g) {
    if ((groups >> g & 1U) == 0 || room.gpus[g] <= 0) continue;
    sum += room.gpus[g];
    if (room.gpus[g] >= need.gpus && (best < 0 || room.gpus[g] < room.gpus[ix(best)]))
      best = static_cast<int>(g);
  }
  if (best >= 0) {
    part.gpus[ix(best)] = static_cast<std::uint8_t>(need.gpus);
    return part;
  }
  if (need.one_island || sum < need.gpus) return std::nullopt;
  int missing = need.gpus;
  while (missing > 0) {
    std::size_t most = kGroups;
    for (std::size_t g = 0; g < kGroups; ++g)
      if ((groups >> g & 1U) != 0 && part.gpus[g] == 0 && room.gpus[g] > 0 &&
          (most == kGroups || room.gpus[g] > room.gpus[most]))
        most = g;
    const int taken = std::min<int>(missing, room.gpus[most]);
    part.gpus[most] = static_cast<std::uint8_t>(taken);
    missing -= taken;
  }
  return part;
}

Instant Nodes::ready_at(int n, int node) const {
  const Need& need = this->need(n);
  const Machine& m = nodes_[ix(node)];
  if (need.ready_of[ix(node)] == m.version) return need.ready[ix(node)];
  Instant ready = Instant::max();
  if (need.could[ix(node)] != 0 && m.desc->open()) {
    if (need.fits[ix(node)] != 0) ready = Instant::min();
    for (std::size_t i = 0; ready == Instant::max() && i < m.occupants.size(); ++i) {
      const Instant until = m.occupants[i].until;
      if (i + 1 < m.occupants.size() && m.occupants[i + 1].until == until) continue;
      if (place(need, node, room_at(node, until))) ready = until;
    }
  }
  need.ready[ix(node)] = ready;
  need.ready_of[ix(node)] = m.version;
  return ready;
}

}  // namespace tutti::planner
