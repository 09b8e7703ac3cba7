#include "cli/simulate.h"

#include <yaml-cpp/yaml.h>
#include <zlib.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <ostream>

#include "cli/failure.h"
#include "cli/plot.h"
#include "scheduler/replay/report.h"

namespace tutti::cli {

namespace {

namespace json = boost::json;

constexpr std::size_t kMaxTrace = 1UL << 30;  // bytes, unpacked
constexpr std::size_t kProblemsShown = 10;

// Plain files come through gzread as they are.
std::string read_trace_file(const std::string& path) {
  struct Close {
    void operator()(gzFile file) const { gzclose(file); }
  };
  const std::unique_ptr<std::remove_pointer_t<gzFile>, Close> file(gzopen(path.c_str(), "rb"));
  if (!file) throw Failure(Exit::usage, "--trace: cannot open " + path);
  std::string text;
  std::string chunk(1 << 20, '\0');
  for (;;) {
    const int n = gzread(file.get(), chunk.data(), static_cast<unsigned>(chunk.size()));
    if (n < 0) throw Failure(Exit::usage, "--trace: " + path + " cannot be unpacked");
    if (n == 0) return text;
    text.append(chunk, 0, static_cast<std::size_t>(n));
    if (text.size() > kMaxTrace) throw Failure(Exit::usage, "--trace: " + path + " is larger than 1 GiB");
  }
}

void read_cluster(const std::string& path, SimulateOptions& into) {
  if (path.empty()) return;
  try {
    const YAML::Node root = YAML::LoadFile(path);
    into.nodes = root["nodes"].as<int>();
    if (root["gpus_per_node"]) into.gpus_per_node = root["gpus_per_node"].as<int>();
  } catch (const YAML::Exception& e) {
    throw Failure(Exit::usage, "--cluster: " + path + ": " + e.what() + "; it holds nodes and gpus_per_node");
  }
}

replay::Trace prepare(const SimulateOptions& o, std::ostream& err) {
  auto trace = replay::parse_trace(read_trace_file(o.trace));
  for (std::size_t i = 0; i < trace.problems.size() && i < kProblemsShown; ++i)
    err << "tutti: " << o.trace << ":" << trace.problems[i].line << ": " << trace.problems[i].reason << "\n";
  if (trace.problems.size() > kProblemsShown)
    err << "tutti: and " << trace.problems.size() - kProblemsShown << " more rows left out\n";
  if (o.to > 0) trace = replay::cut(trace, from_seconds(o.from), from_seconds(o.to));
  if (o.load > 0) trace = replay::with_load(trace, o.load, o.nodes * o.gpus_per_node);
  if (trace.jobs.empty()) throw Failure(Exit::usage, "--trace: no job in " + o.trace + " can be used");
  return trace;
}

std::vector<replay::NodeFault> read_faults(const SimulateOptions& o, std::ostream& err) {
  if (o.faults.empty()) return {};
  auto read = replay::parse_faults(read_trace_file(o.faults));
  for (std::size_t i = 0; i < read.problems.size() && i < kProblemsShown; ++i)
    err << "tutti: " << o.faults << ":" << read.problems[i].line << ": " << read.problems[i].reason << "\n";
  for (auto& fault : read.faults) {
    fault.at = from_seconds(to_seconds(fault.at) / o.fault_speed);
    fault.down = from_seconds(to_seconds(fault.down) / o.fault_speed);
  }
  return std::move(read.faults);
}

// The first run's result is kept for the pictures.
replay::Report run_policy(const replay::Trace& trace, const SimulateOptions& o, const planner::Policy& policy,
                          const std::vector<replay::NodeFault>& faults, std::vector<double>& waits) {
  std::vector<replay::Report> runs;
  for (int run = 0; run < o.runs; ++run) {
    replay::ReplayOptions options;
    options.policy = policy;
    options.nodes = o.nodes;
    options.node_size = o.gpus_per_node;
    options.restart_cost = from_seconds(o.restart_cost);
    options.shake = run == 0 ? Duration::zero() : from_seconds(o.shake);
    options.seed = o.seed + static_cast<std::uint64_t>(run);
    options.faults = faults;
    options.checkpoint_every = from_seconds(o.checkpoint_every);
    options.detection = from_seconds(o.detection);
    options.etas = static_cast<std::size_t>(o.etas);
    const auto result = replay::replay(trace, options);
    if (run == 0)
      for (std::size_t i = 0; i < result.jobs.size(); ++i)
        if (!result.jobs[i].never)
          waits.push_back(to_seconds(result.jobs[i].ended - result.jobs[i].submitted - trace.jobs[i].ran));
    runs.push_back(replay::report_of(trace, options, result));
  }
  return replay::mean_of(runs);
}

std::string text(double value, int digits) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return buffer;
}

json::object spread(const replay::Spread& s) {
  return {{"mean", s.mean}, {"p50", s.p50}, {"p90", s.p90}, {"p99", s.p99}, {"max", s.max}};
}

json::object view(const std::string& policy, const replay::Report& r, double seconds) {
  return {{"policy", policy},
          {"jobs", r.jobs},
          {"never", r.never},
          {"wait_seconds", spread(r.wait_seconds)},
          {"completion_seconds", spread(r.completion_seconds)},
          {"bounded_slowdown", r.bounded_slowdown},
          {"utilisation", r.utilisation},
          {"idle_while_waiting", r.idle_while_waiting},
          {"fairness", r.fairness},
          {"makespan_seconds", r.makespan_seconds},
          {"preemptions", r.preemptions},
          {"fragmented", r.fragmented},
          {"goodput", r.goodput},
          {"interruptions", r.interruptions},
          {"restart_wait_seconds", spread(r.restart_wait_seconds)},
          {"etas", r.etas},
          {"eta_coverage", r.eta_coverage},
          {"eta_range_seconds", r.eta_range_seconds},
          {"eta_limits_range_seconds", r.eta_limits_range_seconds},
          {"replay_seconds", seconds}};
}

}  // namespace

int run_simulate(const SimulateOptions& given, bool as_json, const Look& look, std::ostream& out,
                 std::ostream& err) {
  SimulateOptions o = given;
  read_cluster(o.cluster, o);
  if (o.nodes < 1 || o.gpus_per_node < 1 || o.nodes > 1'000'000 || o.gpus_per_node > 1024)
    throw Failure(Exit::usage, "simulate: name the cluster: --nodes and --gpus-per-node, or --cluster");
  if (o.policies.empty()) o.policies = {"easy", "fair", "checkpoint"};
  const auto trace = prepare(o, err);

  Table table{.columns = {{"POLICY"},
                          {"WAIT s", true},
                          {"p50", true},
                          {"p90", true},
                          {"p99", true},
                          {"max h", true},
                          {"/first", true},
                          {"DONE s", true},
                          {"SLOW", true},
                          {"UTIL", true},
                          {"IDLE", true},
                          {"FAIR", true},
                          {"PRE", true}},
              .rows = {}};
  const auto faults = read_faults(o, err);
  Table more{.columns = {{"POLICY"},
                         {"FRAG", true},
                         {"GOODPUT", true},
                         {"FAULTS", true},
                         {"RESTART s", true},
                         {"p90", true},
                         {"MAKESPAN h", true},
                         {"ETA IN RANGE", true},
                         {"RANGE s", true},
                         {"LIMITS s", true}},
             .rows = {}};
  std::vector<Curve> curves;
  json::array all;
  double base = 0;
  for (const auto& name : o.policies) {
    const auto policy = planner::find_policy(name);
    if (!policy)
      throw Failure(Exit::usage,
                    "--policy: no policy '" + name + "'; there are " + std::string(planner::policy_names()));
    const auto began = std::chrono::steady_clock::now();
    curves.push_back({name, {}});
    const replay::Report r = run_policy(trace, o, *policy, faults, curves.back().values);
    const double took =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() / o.runs;
    if (table.rows.empty()) base = r.wait_seconds.mean;
    all.push_back(view(name, r, took));
    table.rows.push_back({{name},
                          {text(r.wait_seconds.mean, 0)},
                          {text(r.wait_seconds.p50, 0)},
                          {text(r.wait_seconds.p90, 0)},
                          {text(r.wait_seconds.p99, 0)},
                          {text(r.wait_seconds.max / 3600, 1)},
                          {base > 0 ? text(r.wait_seconds.mean / base, 3) : "-"},
                          {text(r.completion_seconds.mean, 0)},
                          {text(r.bounded_slowdown, 2)},
                          {text(r.utilisation, 3)},
                          {text(r.idle_while_waiting, 3)},
                          {text(r.fairness, 3)},
                          {std::to_string(r.preemptions)}});
    more.rows.push_back({{name},
                         {text(r.fragmented, 3)},
                         {text(r.goodput, 3)},
                         {std::to_string(r.interruptions)},
                         {r.interruptions > 0 ? text(r.restart_wait_seconds.mean, 0) : "-"},
                         {r.interruptions > 0 ? text(r.restart_wait_seconds.p90, 0) : "-"},
                         {text(r.makespan_seconds / 3600, 0)},
                         {r.etas > 0 ? text(r.eta_coverage, 2) : "-"},
                         {r.etas > 0 ? text(r.eta_range_seconds, 0) : "-"},
                         {r.etas > 0 ? text(r.eta_limits_range_seconds, 0) : "-"}});
  }
  if (!o.plot.empty()) plot_waits(o.plot, curves);
  if (as_json) {
    out << json::serialize(
               json::object{{"trace", o.trace},
                            {"nodes", o.nodes},
                            {"gpus_per_node", o.gpus_per_node},
                            {"offered_load", replay::offered_load(trace, o.nodes * o.gpus_per_node)},
                            {"runs", o.runs},
                            {"policies", std::move(all)}})
        << "\n";
    return 0;
  }
  out << trace.jobs.size() << " jobs, " << o.nodes << " nodes x " << o.gpus_per_node << " GPUs, offered load "
      << text(replay::offered_load(trace, o.nodes * o.gpus_per_node), 2) << ", mean of " << o.runs
      << " runs\n"
      << render_table(table, look)
      << "WAIT: completion minus run time (mean, quantiles, longest); /first: of the first policy's mean; "
         "DONE: "
         "submission to end; SLOW: bounded slowdown;\nUTIL and IDLE: busy, and idle while somebody waits; "
         "FAIR: "
         "Jain's index over users; PRE: preemptions\n\n"
      << render_table(more, look)
      << "FRAG: idle though the first that waits would fit if it were together; GOODPUT: share of held GPU "
         "time "
         "that was neither lost\nnor a restart; RESTART: queueing of gangs that a fault ended; ETA IN RANGE: "
         "share "
         "that started within the stated range (aim 0.8),\nRANGE: its median width, LIMITS: what limits "
         "alone say\n";
  return 0;
}

}  // namespace tutti::cli
