// Properties of the job spec: what is written is read again as the same, and no text breaks the reader.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include "api/wire/job_spec_codec.h"
#include "api/wire/text_values.h"
#include "api/wire/utf8.h"

namespace tutti::wire {
namespace {

using rc::gen::element;
using rc::gen::inRange;

std::string printable(std::size_t min, std::size_t max) {
  static const std::vector<std::string> kPieces = {"a",  "Z",  "7", " ", "-", "_", ".",
                                                   "\"", "\\", "/", "ü", "→", "{", ":"};
  const auto n = *inRange<std::size_t>(min, max + 1);
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += *rc::gen::elementOf(kPieces);
  return out;
}

std::string script(std::size_t max) {
  static const std::vector<std::string> kPieces = {"run", " ",  "\n", "\t", "\x01", "\x1b",
                                                   "\"",  "\\", "$X", "ß",  "\x7f"};
  const auto n = *inRange<std::size_t>(0, max);
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += *rc::gen::elementOf(kPieces);
  return out;
}

Duration duration(std::int64_t min_micros) {
  return Duration(*rc::gen::oneOf(
      inRange<std::int64_t>(min_micros, 5'000'000),
      rc::gen::map(inRange<std::int64_t>(1, 100'000), [](std::int64_t s) { return s * 1'000'000; })));
}

std::string variable() {
  return *element<std::string>("A", "_x", "PATH", "LONG_NAME_1", "b") + std::to_string(*inRange(0, 99));
}

JobSpec any_spec() {
  JobSpec s;
  s.name = "n" + printable(0, 60);
  s.project = "p" + printable(0, 10);
  s.queue = "q" + printable(0, 10);
  s.priority = *inRange(0, 101);
  for (int i = *inRange(0, 5); i > 0; --i) s.labels["l" + printable(0, 20)] = printable(0, 20);
  s.nodes = *inRange(1, 4097);
  s.resources.gpus = *inRange(0, 65);
  if (s.resources.gpus > 0)
    for (int i = *inRange(0, 4); i > 0; --i)
      s.resources.gpu_kinds.push_back(
          *inRange(0, 3) == 0
              ? GpuKind{.model = "", .memory_bytes = *element<std::int64_t>(1000, 40LL << 30, 80'000'000'000)}
              : GpuKind{.model = *element<std::string>("H100", "A100 80GB", "L40S", "B200-x")});
  if (s.nodes > 1 && *inRange(0, 2) == 0) s.min_nodes = *inRange(1, s.nodes);
  s.topology.require =
      *element(TopologyLevel::any, TopologyLevel::nvlink, TopologyLevel::rack, TopologyLevel::spine);
  s.topology.spread = s.topology.require == TopologyLevel::any && *inRange(0, 2) == 0;
  for (int i = *inRange(0, 4); i > 0; --i)
    s.constraints.push_back(
        {"l" + std::to_string(i),
         *element(Constraint::Op::equal, Constraint::Op::not_equal, Constraint::Op::less,
                  Constraint::Op::at_most, Constraint::Op::more, Constraint::Op::at_least),
         *element<std::string>("550.54", "ib", "b c")});
  for (int i = *inRange(0, 3); i > 0; --i)
    s.depends_on.push_back({JobId(*inRange<std::int64_t>(1, 1LL << 50)),
                            *element(Dependency::When::ok, Dependency::When::any, Dependency::When::failed,
                                     Dependency::When::started)});
  for (auto& d : s.depends_on)
    if (*inRange(0, 3) == 0) d.tasks = *inRange(2, 100);
  if (*inRange(0, 3) == 0) s.scheduled_by = JobId(*inRange<std::int64_t>(1, 1LL << 50));
  if (s.depends_on.empty() && *inRange(0, 2) == 0) {
    const auto cron = *element<std::string>("0 2 * * *", "@daily", "*/5 8-18 * jan,jul mon-fri");
    s.schedule = Schedule{.cron = cron,
                          .times = *parse_cron(cron),
                          .overlap = *element(Schedule::Overlap::skip, Schedule::Overlap::queue)};
  } else if (*inRange(0, 2) == 0)
    s.array_task = ArrayTask{.index = *inRange(0, 99),
                             .position = *inRange(0, 99),
                             .tasks = *inRange(1, 99),
                             .max_parallel = *inRange(0, 9)};
  s.resources.cpus = *inRange(0, 4097);
  s.resources.memory_bytes =
      *element<std::int64_t>(0, 1, 1000, 1024, 800'000'000'000, 64LL << 30, (1LL << 60) - 1);
  for (int i = *inRange(0, 4); i > 0; --i) s.exclude_nodes.push_back("node" + printable(0, 8));
  if (*inRange(0, 2)) s.workdir = "/" + printable(0, 20);
  for (int i = *inRange(0, 6); i > 0; --i) s.env[variable()] = script(10);
  s.launcher = s.min_nodes > 0
                   ? Launcher::torchrun
                   : *element(Launcher::direct, Launcher::mpirun, Launcher::torchrun, Launcher::script);
  s.procs_per_node = *inRange(1, 1025);
  s.setup = script(20);
  s.run = "x" + script(50);
  if (*inRange(0, 2)) s.time_limit = duration(1);
  if (*inRange(0, 2)) s.total_time_limit = s.time_limit.value_or(Duration(0)) + duration(1);
  if (*inRange(0, 2)) s.begin_time = Instant(Duration(*inRange<std::int64_t>(0, 4'000'000'000'000'000)));
  s.preemptible = *inRange(0, 2) == 1;
  s.stop = {*element<std::string>("TERM", "USR1", "INT"), duration(0)};
  s.checkpoint.dir = *element<std::string>("", "/ckpt/a");
  s.checkpoint.keep = *inRange(0, 10'001);
  s.checkpoint.keep_every = *inRange<std::int64_t>(0, 1'000'000'000'001);
  if (*inRange(0, 2)) s.checkpoint.max_interval = duration(1) + std::chrono::seconds(1);
  for (const auto cause : {Cause::user, Cause::oom, Cause::gpu, Cause::launch, Cause::hang}) {
    if (*inRange(0, 3) == 0) s.retry.budget[cause] = *inRange(-1, 100);
    if (*inRange(0, 3) == 0) {
      const auto initial = duration(0);
      s.retry.backoff[cause] = {initial, initial + duration(0)};
    }
  }
  for (const int code : {1, 42, 85, 255})
    if (*inRange(0, 2)) s.retry.exit_codes[code] = *element(ExitAction::restart, ExitAction::never);
  s.retry.no_progress_limit = *inRange(0, 10'001);
  if (*inRange(0, 2) == 1) s.hang.after = std::chrono::seconds(*inRange(1, 100'000));
  if (*inRange(0, 2) == 1)
    s.hang.action = *element(HangAction::capture_only, HangAction::capture_and_restart);
  for (int i = *inRange(0, 3); i > 0; --i)
    s.notify.push_back(
        {{*element<std::string>("failed", "started", "hung"), "ended"}, "hook-" + std::to_string(i)});
  s.compat_slurm = *inRange(0, 2) == 1;
  return s;
}

void expect_same(const JobSpec& a, const JobSpec& b) {
  RC_ASSERT(a.name == b.name);
  RC_ASSERT(a.project == b.project);
  RC_ASSERT(a.queue == b.queue);
  RC_ASSERT(a.priority == b.priority);
  RC_ASSERT(a.labels == b.labels);
  RC_ASSERT(a.nodes == b.nodes);
  RC_ASSERT(a.resources == b.resources);
  RC_ASSERT(a.exclude_nodes == b.exclude_nodes);
  RC_ASSERT(a.workdir == b.workdir);
  RC_ASSERT(a.env == b.env);
  RC_ASSERT(a.launcher == b.launcher);
  RC_ASSERT(a.procs_per_node == b.procs_per_node);
  RC_ASSERT(a.setup == b.setup);
  RC_ASSERT(a.run == b.run);
  RC_ASSERT(a.time_limit == b.time_limit);
  RC_ASSERT(a.begin_time == b.begin_time);
  RC_ASSERT(a.preemptible == b.preemptible);
  RC_ASSERT(a.stop.signal == b.stop.signal);
  RC_ASSERT(a.stop.grace == b.stop.grace);
  RC_ASSERT(a.checkpoint.dir == b.checkpoint.dir);
  RC_ASSERT(a.checkpoint.keep == b.checkpoint.keep);
  RC_ASSERT(a.checkpoint.keep_every == b.checkpoint.keep_every);
  RC_ASSERT(a.checkpoint.max_interval == b.checkpoint.max_interval);
  RC_ASSERT(a.retry.budget == b.retry.budget);
  RC_ASSERT(a.retry.backoff == b.retry.backoff);
  RC_ASSERT(a.retry.exit_codes == b.retry.exit_codes);
  RC_ASSERT(a.retry.no_progress_limit == b.retry.no_progress_limit);
  RC_ASSERT(a.hang.after == b.hang.after);
  RC_ASSERT(a.hang.action == b.hang.action);
  RC_ASSERT(a.notify == b.notify);
  RC_ASSERT(a.compat_slurm == b.compat_slurm);
}

RC_GTEST_PROP(JobSpecProperties, WhatIsWrittenIsReadAgain, ()) {
  const auto spec = any_spec();
  const auto text = encode_spec(spec);
  const auto json = parse_spec_json(text, Now{});
  RC_LOG() << text << "\n" << (json.ok() ? "" : json.problems[0].field + ": " + json.problems[0].message);
  RC_ASSERT(json.ok());
  expect_same(spec, json.spec);
  RC_ASSERT(encode_spec(json.spec) == text);
}

/// A few bytes changed, taken away, doubled or put in. Texts near to legal ones reach deeper than noise.
std::string mutated(std::string text) {
  static const std::vector<std::string> kBits = {"\"",
                                                 "{",
                                                 "}",
                                                 "[",
                                                 "]",
                                                 ":",
                                                 ",",
                                                 "\\u0000",
                                                 "\\",
                                                 "\xff",
                                                 "\xc3",
                                                 "null",
                                                 "-1",
                                                 "1e999",
                                                 "&a",
                                                 "*a",
                                                 "- ",
                                                 "\n",
                                                 "!x",
                                                 "<<",
                                                 "#",
                                                 "\t",
                                                 "9999999999999999999",
                                                 std::string(1, '\0')};
  for (int i = *inRange(1, 6); i > 0 && !text.empty(); --i) {
    const auto at = *inRange<std::size_t>(0, text.size());
    const auto n = std::min(*inRange<std::size_t>(1, 8), text.size() - at);
    switch (*inRange(0, 4)) {
      case 0: text.erase(at, n); break;
      case 1: text.insert(at, text.substr(at, n)); break;
      case 2: text.insert(at, *rc::gen::elementOf(kBits)); break;
      default: text[at] = static_cast<char>(*inRange(0, 256)); break;
    }
  }
  return text;
}

void expect_honest(const SpecParse& p) {
  if (!p.ok()) {
    for (const auto& problem : p.problems) RC_ASSERT(!problem.message.empty());
    return;
  }
  const auto again = parse_spec_json(encode_spec(p.spec), Now{});
  RC_ASSERT(again.ok());
  expect_same(p.spec, again.spec);
  RC_ASSERT(is_utf8(encode_spec(p.spec)));
}

RC_GTEST_PROP(JobSpecProperties, BrokenJsonIsRefusedOrReadTheSameAgain, ()) {
  const auto text = encode_spec(any_spec());
  for (int i = 0; i < 20; ++i) expect_honest(parse_spec_json(mutated(text), Now{}));
}

RC_GTEST_PROP(JobSpecProperties, BrokenYamlIsRefusedOrReadTheSameAgain, ()) {
  static const std::string kYaml =
      "name: a\nlabels: &l {team: speech}\nnodes: 4\nresources:\n  gpus: H100:8\n  memory: 800GB\n"
      "env:\n  A: 1.10\n  B: 'q'\n  C: \"d\\n\"\nexclude_nodes:\n  - n1\n  - n2\nrun: |\n  train\n  more\n"
      "retry: {budget: {user: 0}, exit_codes: {85: restart}}\ntime_limit: 1h30m\n";
  for (int i = 0; i < 20; ++i) expect_honest(parse_spec_yaml(mutated(kYaml), Now{}));
}

RC_GTEST_PROP(TextValueProperties, FormatThenParseIsTheSame, ()) {
  const Duration d(*inRange<std::int64_t>(0, kMaxDuration.count()));
  RC_ASSERT(parse_duration(format_duration(d)) == d);
  const auto bytes = *inRange<std::int64_t>(0, 1LL << 60);
  RC_ASSERT(parse_bytes(format_bytes(bytes)) == bytes);
  const Instant at(Duration(*inRange<std::int64_t>(-60'000'000'000'000'000, 250'000'000'000'000'000)));
  RC_ASSERT(parse_instant(format_instant(at)) == at);
}

}  // namespace
}  // namespace tutti::wire
