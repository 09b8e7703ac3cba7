#include "scheduler/model/job_spec.h"

#include <algorithm>
#include <array>

namespace tutti {

std::string_view name(Launcher l) {
  switch (l) {
    case Launcher::direct: return "direct";
    case Launcher::mpirun: return "mpirun";
    case Launcher::torchrun: return "torchrun";
    case Launcher::script: return "script";
  }
  return "?";
}

std::string_view name(HangAction action) {
  return action == HangAction::capture_only ? "capture_only" : "capture_and_restart";
}

std::optional<Launcher> parse_launcher(std::string_view s) {
  for (auto l : {Launcher::direct, Launcher::mpirun, Launcher::torchrun, Launcher::script})
    if (s == name(l)) return l;
  return std::nullopt;
}

namespace {
constexpr auto kTopologyLevels =
    std::to_array<std::pair<TopologyLevel, std::string_view>>({{TopologyLevel::any, "any"},
                                                               {TopologyLevel::nvlink, "nvlink"},
                                                               {TopologyLevel::rack, "rack"},
                                                               {TopologyLevel::block, "block"},
                                                               {TopologyLevel::spine, "spine"}});
// Longer ones first: "<=" is not "<" and "=…".
constexpr auto kOps =
    std::to_array<std::pair<Constraint::Op, std::string_view>>({{Constraint::Op::not_equal, "!="},
                                                                {Constraint::Op::at_most, "<="},
                                                                {Constraint::Op::at_least, ">="},
                                                                {Constraint::Op::equal, "=="},
                                                                {Constraint::Op::equal, "="},
                                                                {Constraint::Op::less, "<"},
                                                                {Constraint::Op::more, ">"}});

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}
}  // namespace

std::string_view name(TopologyLevel level) {
  return std::ranges::find(kTopologyLevels, level, &decltype(kTopologyLevels)::value_type::first)->second;
}

std::optional<TopologyLevel> parse_topology_level(std::string_view s) {
  for (const auto& [level, text] : kTopologyLevels)
    if (s == text) return level;
  return std::nullopt;
}

std::string to_string(const Constraint& c) {
  if (c.op == Constraint::Op::exists) return c.label;
  if (c.op == Constraint::Op::equal) return c.label + "=" + c.value;
  return c.label + std::string(std::ranges::find(kOps, c.op, &decltype(kOps)::value_type::first)->second) +
         c.value;
}

std::optional<Constraint> parse_constraint(std::string_view text) {
  text = trimmed(text);
  const auto at = text.find_first_of("!<>=");
  Constraint out;
  out.label = std::string(trimmed(text.substr(0, at)));
  if (out.label.empty()) return std::nullopt;
  if (at == std::string_view::npos) return out;
  text.remove_prefix(at);
  for (const auto& [op, sign] : kOps) {
    if (!text.starts_with(sign)) continue;
    out.op = op;
    out.value = std::string(trimmed(text.substr(sign.size())));
    if (out.value.empty() || out.value.find_first_of("!<>=") != std::string::npos) return std::nullopt;
    return out;
  }
  return std::nullopt;
}

std::string why_no_secret_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'A' && c <= 'Z') || c == '_'; };
  if (name.empty() || name.size() > kMaxSecretName || !letter(name.front()) ||
      !std::ranges::all_of(name, [&](char c) { return letter(c) || (c >= '0' && c <= '9'); }))
    return "a secret's name has 1 to " + std::to_string(kMaxSecretName) +
           " capital letters, digits and '_', and does not begin with a digit";
  if (name.starts_with("TUTTI_")) return "names that begin with TUTTI_ are Tutti's own";
  return {};
}

std::string_view name(Schedule::Overlap overlap) {
  return overlap == Schedule::Overlap::skip ? "skip" : "queue";
}

std::optional<Schedule::Overlap> parse_overlap(std::string_view s) {
  for (const auto overlap : {Schedule::Overlap::skip, Schedule::Overlap::queue})
    if (name(overlap) == s) return overlap;
  return std::nullopt;
}

std::string_view name(Dependency::When when) {
  switch (when) {
    case Dependency::When::ok: return "ok";
    case Dependency::When::any: return "any";
    case Dependency::When::failed: return "failed";
    case Dependency::When::started: return "started";
  }
  return "?";
}

std::optional<Dependency::When> parse_when(std::string_view s) {
  for (auto w :
       {Dependency::When::ok, Dependency::When::any, Dependency::When::failed, Dependency::When::started})
    if (s == name(w)) return w;
  return std::nullopt;
}

}  // namespace tutti
