// What gangs ask for, and which machines could ever give it.
#include <algorithm>
#include <charconv>

#include "scheduler/planner/nodes.h"

namespace tutti::planner {

namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool contains_ignoring_case(std::string_view text, std::string_view part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end(),
                     [](char a, char b) { return lower(a) == lower(b); }) != text.end();
}

// "550.54.15" → 550, 54, 15. Empty: not a version.
std::vector<std::int64_t> version_of(std::string_view text) {
  std::vector<std::int64_t> out;
  while (!text.empty()) {
    const auto dot = text.find('.');
    const auto part = text.substr(0, dot);
    std::int64_t n = 0;
    const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), n);
    if (code != std::errc{} || end != part.data() + part.size() || n < 0) return {};
    out.push_back(n);
    if (dot == std::string_view::npos) return out;
    text.remove_prefix(dot + 1);
  }
  return {};
}

std::strong_ordering compare(std::string_view a, std::string_view b) {
  const auto va = version_of(a), vb = version_of(b);
  if (va.empty() || vb.empty()) return a <=> b;
  return std::lexicographical_compare_three_way(va.begin(), va.end(), vb.begin(), vb.end());
}

// nullopt: the node has no such label.
std::optional<std::string> label_of(const NodeDesc& node, const std::string& label) {
  if (const auto found = node.labels.find(label); found != node.labels.end()) return found->second;
  if (label == "name") return node.name;
  if (label == "queue") return node.queue;
  if (label == "model" && !node.devices.empty()) return node.devices.front().model;
  return std::nullopt;
}

}  // namespace

std::string GangAsk::key() const {
  std::string k = queue + '\0' + std::to_string(min_nodes) + '-' + std::to_string(nodes) + 'x' +
                  std::to_string(resources.gpus) + '/' + std::to_string(resources.cpus) + '/' +
                  std::to_string(resources.memory_bytes) + '/' + std::string(name(topology.require)) + '/' +
                  std::string(name(topology.prefer)) + (topology.spread ? "s" : "");
  for (const auto& kind : resources.gpu_kinds)
    k += '\0' + kind.model + '/' + std::to_string(kind.memory_bytes);
  k += '\1';
  for (const auto& c : constraints) k += '\0' + to_string(c);
  k += '\1';
  for (const auto& e : exclude_nodes) k += '\0' + e;
  return k;
}

GangAsk ask_of(const JobSpec& spec, std::string queue_of_nodes) {
  GangAsk ask{.queue = std::move(queue_of_nodes),
              .nodes = spec.nodes,
              .min_nodes = spec.min_nodes,
              .resources = spec.resources,
              .topology = spec.topology,
              .constraints = spec.constraints,
              .exclude_nodes = spec.exclude_nodes};
  std::ranges::sort(ask.exclude_nodes);
  std::ranges::sort(ask.constraints, {}, [](const Constraint& c) { return to_string(c); });
  return ask;
}

int cpus_of(const Resources& r) { return r.cpus > 0 ? r.cpus : (r.gpus == 0 ? 1 : 0); }

namespace {

// "1g.10gb", "2g.20gb+me": how NVIDIA calls the profiles of slices (MIG User Guide).
bool names_a_profile(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  for (std::size_t g = 1; g + 2 < text.size(); ++g)
    if (lower(text[g]) == 'g' && text[g + 1] == '.' && digit(text[g - 1]) && digit(text[g + 2])) return true;
  return false;
}

}  // namespace

// A slice of a GPU is only given to who asks for one: by its profile, or for any ("MIG").
bool kind_matches(const DeviceGroup& group, const GpuKind& kind) {
  const bool slice = contains_ignoring_case(group.model, "MIG ");
  const bool wanted = names_a_profile(kind.model) || contains_ignoring_case(kind.model, "MIG");
  return slice == wanted && group.memory_bytes >= kind.memory_bytes &&
         (kind.model.empty() || contains_ignoring_case(group.model, kind.model));
}

bool satisfies(const NodeDesc& node, const Constraint& c) {
  const auto has = label_of(node, c.label);
  if (!has) return c.op == Constraint::Op::not_equal;
  const auto order = compare(*has, c.value);
  switch (c.op) {
    case Constraint::Op::exists: return true;
    case Constraint::Op::equal: return order == 0;
    case Constraint::Op::not_equal: return order != 0;
    case Constraint::Op::less: return order < 0;
    case Constraint::Op::at_most: return order <= 0;
    case Constraint::Op::more: return order > 0;
    case Constraint::Op::at_least: return order >= 0;
  }
  return false;
}

}  // namespace tutti::planner
