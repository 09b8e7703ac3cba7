#include "api/wire/spec_placement.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "api/wire/text_values.h"

namespace tutti::wire {
namespace {

namespace json = boost::json;

constexpr int kMaxGpus = 64;
constexpr int kMaxNodes = 4096;

bool is_model(std::string_view s) {
  return !s.empty() && s.size() <= 64 && s.front() != ' ' && s.back() != ' ' &&
         std::ranges::all_of(s, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ' ' ||
                  c == '-' || c == '_' || c == '.' || c == '/';
         });
}

std::optional<int> whole_number(std::string_view text) {
  int n = -1;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return n;
}

struct GpuAsk {
  int count = 0;
  std::optional<GpuKind> kind;
};

// 8, "8", "H100:8", "80GB:8", "H100" (one of them).
std::optional<GpuAsk> read_ask(SpecReader& r, const Path& at, const json::value& v) {
  const auto* s = v.if_string();
  if (s == nullptr) {
    const auto n = r.integer(at, v, 0, kMaxGpus);
    return n ? std::optional(GpuAsk{static_cast<int>(*n), {}}) : std::nullopt;
  }
  const std::string_view text = *s;
  const auto colon = text.rfind(':');
  auto model = text.substr(0, colon);
  auto count = colon == std::string_view::npos ? std::string_view("1") : text.substr(colon + 1);
  if (colon == std::string_view::npos && whole_number(text)) std::swap(model, count), model = {};
  const auto n = whole_number(count);
  if (!n || (count.data() != text.data() && !is_model(model))) {
    r.problem(at, "must be a count, MODEL:COUNT, MEMORY:COUNT or MODEL, not " + shown(v),
              "like 8, \"H100:8\" or \"80GB:8\"");
    return std::nullopt;
  }
  const int least = model.empty() ? 0 : 1;
  if (*n < least || *n > kMaxGpus) {
    r.problem(at, "must ask for " + std::to_string(least) + " to 64 GPUs per node, not " + shown(v));
    return std::nullopt;
  }
  GpuAsk ask{*n, {}};
  if (const auto bytes = parse_bytes(model))
    ask.kind = GpuKind{.model = "", .memory_bytes = *bytes};
  else if (!model.empty())
    ask.kind = GpuKind{.model = std::string(model), .memory_bytes = 0};
  return ask;
}

std::optional<TopologyLevel> read_level(SpecReader& r, const Path& at, const json::value& v) {
  static constexpr auto kNames = std::to_array<std::string_view>({"nvlink", "rack", "block", "spine", "any"});
  const auto s = r.string(at, v, 16);
  if (!s) return std::nullopt;
  const auto level = parse_topology_level(*s);
  if (!level) {
    auto hint = did_you_mean(*s, kNames);
    r.problem(at, "unknown level " + shown(v), hint.empty() ? "nvlink, rack, block, spine or any" : hint);
  }
  return level;
}

constexpr auto kTopologyFields = std::to_array<Field<Topology>>({
    {"require",
     [](SpecReader& r, const Path& at, const json::value& v, Topology& into) {
       if (const auto level = read_level(r, at, v)) into.require = *level;
     }},
    {"prefer",
     [](SpecReader& r, const Path& at, const json::value& v, Topology& into) {
       if (const auto level = read_level(r, at, v)) into.prefer = *level;
     }},
    {"spread",
     [](SpecReader& r, const Path& at, const json::value& v, Topology& into) {
       if (const auto b = r.boolean(at, v)) into.spread = *b;
     }},
});

}  // namespace

// One ask, or a list of them in order of preference.
void read_gpus(SpecReader& r, const Path& at, const json::value& v, Resources& into) {
  const auto* list = v.if_array();
  if (list == nullptr) {
    const auto ask = read_ask(r, at, v);
    if (!ask) return;
    into.gpus = ask->count;
    if (ask->kind) into.gpu_kinds = {*ask->kind};
    return;
  }
  if (list->empty() || list->size() > 8) return r.problem(at, "a list of GPUs has 1 to 8 entries");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Path here{&at, {}, static_cast<std::int64_t>(i)};
    const auto ask = read_ask(r, here, (*list)[i]);
    if (!ask) continue;
    if (!ask->kind) {
      r.problem(here, "names no kind of GPU", "like \"H100:8\"; any GPU will do for a plain count");
      continue;
    }
    if (!into.gpu_kinds.empty() && ask->count != into.gpus)
      r.problem(here, "all entries must ask for the same number of GPUs",
                "the number of ranks depends on it");
    into.gpus = ask->count;
    into.gpu_kinds.push_back(*ask->kind);
  }
}

// 4, or "2..4".
void read_nodes(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto* s = v.if_string();
  const auto dots = s == nullptr ? std::string_view::npos : std::string_view(*s).find("..");
  if (dots == std::string_view::npos) {
    if (const auto n = r.integer(at, v, 1, kMaxNodes)) into.nodes = static_cast<int>(*n);
    return;
  }
  const auto least = whole_number(std::string_view(*s).substr(0, dots));
  const auto most = whole_number(std::string_view(*s).substr(dots + 2));
  if (!least || !most || *least < 1 || *most > kMaxNodes || *least > *most)
    return r.problem(at, "must be a number, or FEWEST..MOST, not " + shown(v), "like \"2..4\"");
  into.nodes = *most;
  into.min_nodes = *least == *most ? 0 : *least;
}

void read_topology(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  if (v.is_string()) {
    if (const auto level = read_level(r, at, v)) into.topology.require = *level;
    return;
  }
  read_fields(r, at, v, into.topology, kTopologyFields);
  const Topology& t = into.topology;
  if (t.require != TopologyLevel::any && t.prefer > t.require)
    r.problem({&at, "prefer"}, "is wider than what is required", "prefer a finer level, or leave it out");
  if (t.spread && t.prefer != TopologyLevel::any)
    r.problem({&at, "spread"}, "nodes cannot be spread and near at once", "leave out prefer or spread");
}

void read_constraints(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list like [\"driver>=550\", \"fabric=ib\"]");
  if (list->size() > 64) return r.problem(at, "must have at most 64 entries");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Path here{&at, {}, static_cast<std::int64_t>(i)};
    const auto s = r.label(here, (*list)[i], 256);
    if (!s) continue;
    if (auto c = parse_constraint(*s))
      into.constraints.push_back(std::move(*c));
    else
      r.problem(here, "is no constraint: " + shown((*list)[i]),
                "LABEL, or LABEL with =, !=, <, <=, > or >= and a value");
  }
}

}  // namespace tutti::wire
