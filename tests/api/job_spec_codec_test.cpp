// The job spec: forms that are accepted, everything that is refused, and how it is said.
#include "api/wire/job_spec_codec.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "api/wire/text_values.h"

namespace tutti::wire {
namespace {

using namespace std::chrono_literals;

const Now kNow{*parse_instant("2026-01-01T00:00:00Z"), Mono{}};

/// `members` beside a legal name and program.
SpecParse parse(std::string_view members) {
  std::string text = R"({"name":"a","run":"true")";
  if (!members.empty()) text.append(",").append(members);
  return parse_spec_json(text + "}", kNow);
}

std::string problems_of(const SpecParse& p) {
  std::string out;
  for (const auto& problem : p.problems)
    out += problem.field + ": " + problem.message + " | " + problem.hint + "\n";
  return out;
}

JobSpec good(std::string_view members) {
  auto p = parse(members);
  EXPECT_TRUE(p.ok()) << members << "\n" << problems_of(p);
  return std::move(p.spec);
}

TEST(JobSpecCodec, ShortestLegalJobGetsEveryDefault) {
  const auto p = parse_spec_json(R"({"name":"hello","run":"nvidia-smi"})", kNow);
  ASSERT_TRUE(p.ok()) << problems_of(p);
  EXPECT_EQ(
      encode_spec(p.spec),
      R"({"apiVersion":"v1","name":"hello","project":"default","queue":"default","priority":50,"labels":{},)"
      R"("nodes":1,"resources":{"gpus":0,"cpus":0,"memory":0},)"
      R"("topology":{"require":"any","prefer":"any","spread":false},"constraints":[],"exclude_nodes":[],"workdir":"",)"
      R"("env":{},"secrets":[],"private_tmp":false,"launcher":"direct","procs_per_node":1,"setup":"","run":"nvidia-smi","time_limit":null,)"
      R"("total_time_limit":null,"begin_time":null,"deadline":null,"depends_on":[],"schedule":null,"scheduled_by":null,"array":null,"preemptible":true,"stop":{"signal":"TERM","grace":"30s"},)"
      R"("checkpoint":{"dir":"","keep":0,"keep_every":0,"max_interval":null},)"
      R"("retry":{"budget":{},"backoff":{},"exit_codes":{},"no_progress_limit":3},"preflight":"quick","hang":null,"notify":[],"compat":null})");
}

TEST(JobSpecCodec, ReadsTheForms) {
  const auto gpus = [](std::string_view v) {
    return good("\"resources\":{\"gpus\":" + std::string(v) + "}").resources;
  };
  EXPECT_EQ(gpus("8").gpus, 8);
  EXPECT_EQ(gpus("\"8\"").gpus, 8);
  EXPECT_TRUE(gpus("\"8\"").gpu_kinds.empty());
  EXPECT_EQ(gpus("\"H100:8\"").gpus, 8);
  EXPECT_EQ(gpus("\"H100:8\"").gpu_kinds.front().model, "H100");
  EXPECT_EQ(gpus("\"H100\"").gpus, 1);
  EXPECT_EQ(gpus("\"A100 80GB:2\"").gpu_kinds.front().model, "A100 80GB");
  EXPECT_EQ(gpus("8.0").gpus, 8);

  const auto memory = [](std::string_view v) {
    return good("\"resources\":{\"memory\":" + std::string(v) + "}").resources.memory_bytes;
  };
  EXPECT_EQ(memory("\"800GB\""), 800'000'000'000);
  EXPECT_EQ(memory("\"64GiB\""), 64LL << 30);
  EXPECT_EQ(memory("1048576"), 1 << 20);

  const auto limit = [](std::string_view v) { return good("\"time_limit\":" + std::string(v)).time_limit; };
  EXPECT_EQ(limit("\"24h\""), 24h);
  EXPECT_EQ(limit("\"1h30m\""), 90min);
  EXPECT_EQ(limit("\"500ms\""), 500ms);
  EXPECT_EQ(limit("90"), 90s);
  EXPECT_EQ(limit("1.5"), 1500ms);
  EXPECT_EQ(limit("null"), std::nullopt);

  EXPECT_EQ(good(R"("begin_time":"+2h")").begin_time, kNow.wall + 2h);
  EXPECT_EQ(good(R"("begin_time":"2026-10-01T04:00:00+02:00")").begin_time,
            parse_instant("2026-10-01T02:00:00Z"));

  EXPECT_EQ(good(R"("resources":{"gpus":8})").procs_per_node, 8) << "auto: one per GPU";
  EXPECT_EQ(good(R"("procs_per_node":"auto")").procs_per_node, 1) << "at least one";
  EXPECT_EQ(good(R"("procs_per_node":3,"resources":{"gpus":8})").procs_per_node, 3);

  const auto retry =
      good(R"("retry":{"budget":{"user":0,"preempted":-1},"backoff":{"user":{"initial":"1s","max":60}},)"
           R"("exit_codes":{"85":"restart","42":"never"},"no_progress_limit":0})")
          .retry;
  EXPECT_EQ(retry.budget, (std::map<Cause, int>{{Cause::user, 0}, {Cause::preempted, -1}}));
  EXPECT_EQ(retry.backoff.at(Cause::user), (Backoff{1s, 1min}));
  EXPECT_EQ(retry.exit_codes,
            (std::map<int, ExitAction>{{85, ExitAction::restart}, {42, ExitAction::never}}));
  EXPECT_EQ(retry.no_progress_limit, 0);

  EXPECT_EQ(good(R"("env":{"A":"x","B":3,"C":true,"D":1.5})").env,
            (std::map<std::string, std::string>{{"A", "x"}, {"B", "3"}, {"C", "true"}, {"D", "1.5"}}));
  EXPECT_EQ(good(R"("stop":{"signal":"SIGUSR1","grace":"2m"})").stop.signal, "USR1");
  EXPECT_TRUE(good(R"("compat":"slurm")").compat_slurm);
  const HangPolicy hang = good(R"("hang":{"after":"15m","action":"capture_only"})").hang;
  EXPECT_EQ(hang.after, std::chrono::minutes(15));
  EXPECT_EQ(hang.action, HangAction::capture_only);
  EXPECT_EQ(good(R"("hang":{"action":"capture_and_restart"})").hang.after, std::nullopt);
  EXPECT_EQ(good(R"("preflight":"none")").preflight, Preflight::none);
  EXPECT_EQ(good(R"("preflight":"full","launcher":"mpirun")").preflight, Preflight::full);
  EXPECT_EQ(good(R"("launcher":"mpirun")").launcher, Launcher::mpirun);
  EXPECT_EQ(
      good(
          R"("notify":[{"on":["failed","hung","failed"],"to":"webhook:ops"},{"on":"ended","to":"webhook:x.y"}])")
          .notify,
      (std::vector<Notify>{{{"failed", "hung"}, "ops"}, {{"ended"}, "x.y"}}));
}

TEST(JobSpecCodec, WhatSaysNothingIsNoProblem) {
  good(
      R"("image":null,"topology":{"require":"any","prefer":"any"},"constraints":[],"secrets":[],"deadline":null,)"
      R"("schedule":null,"depends_on":[],"array":null,"matrix":{},"preflight":"none","hang":null,"notify":[],)"
      R"("total_time_limit":null,"queue":null,"stop":null,"env":null,"apiVersion":"v1")");
}

struct Bad {
  std::string_view members;
  std::string_view field;
  std::string_view says;  // part of the message or the hint
};

TEST(JobSpecCodec, ReadsWhereAJobMayRun) {
  const JobSpec list = good(R"("resources":{"gpus":["H100:8","80GB:8"]})");
  EXPECT_EQ(list.resources.gpus, 8);
  ASSERT_EQ(list.resources.gpu_kinds.size(), 2u);
  EXPECT_EQ(list.resources.gpu_kinds[0].model, "H100");
  EXPECT_EQ(list.resources.gpu_kinds[1].memory_bytes, 80'000'000'000);
  const JobSpec elastic = good(R"("nodes":"2..4","launcher":"torchrun")");
  EXPECT_EQ(elastic.nodes, 4);
  EXPECT_EQ(elastic.min_nodes, 2);
  EXPECT_EQ(good(R"("nodes":"4..4")").min_nodes, 0);
  const JobSpec near =
      good(R"("topology":{"require":"block","prefer":"rack"},"constraints":["driver>=550","ib","zone!=b"])");
  EXPECT_EQ(near.topology.require, TopologyLevel::block);
  EXPECT_EQ(near.topology.prefer, TopologyLevel::rack);
  ASSERT_EQ(near.constraints.size(), 3u);
  EXPECT_EQ(near.constraints[0], (Constraint{"driver", Constraint::Op::at_least, "550"}));
  EXPECT_EQ(near.constraints[1], (Constraint{"ib", Constraint::Op::exists, ""}));
  EXPECT_EQ(good(R"("topology":"rack")").topology.require, TopologyLevel::rack);
}

TEST(JobSpecCodec, ReadsArraysAndDependencies) {
  const JobSpec range = good(R"("array":{"range":"0-6:3,10","max_parallel":2})");
  ASSERT_TRUE(range.array);
  std::vector<int> indices;
  for (const auto& t : range.array->tasks) indices.push_back(t.index);
  EXPECT_EQ(indices, (std::vector<int>{0, 3, 6, 10}));
  EXPECT_EQ(range.array->max_parallel, 2);
  const JobSpec matrix = good(R"("matrix":{"lr":[1e-4,3e-4],"batch-size":[8,16,32]})");
  ASSERT_EQ(matrix.array->tasks.size(), 6u);
  EXPECT_EQ(matrix.array->tasks[4].variables.at("BATCH_SIZE"), "16");
  EXPECT_EQ(good(R"("array":3)").array->tasks.size(), 3u);
  EXPECT_EQ(good(R"("resources":{"gpus":"1g.10gb:2"})").resources.gpu_kinds.at(0).model, "1g.10gb");
  const JobSpec after = good(R"("depends_on":[12,{"job":13,"when":"any"}])");
  EXPECT_EQ(after.depends_on,
            (std::vector<Dependency>{{JobId(12), Dependency::When::ok}, {JobId(13), Dependency::When::any}}));
  const JobSpec task = good(R"("array":{"index":7,"position":2,"tasks":9,"max_parallel":4})");
  EXPECT_EQ(task.array_task, (ArrayTask{.index = 7, .position = 2, .tasks = 9, .max_parallel = 4}));
}

TEST(JobSpecCodec, NamesTheFieldAndTheWayOut) {
  for (const auto& bad : std::initializer_list<Bad>{
           {R"("nam":"x")", "nam", "did you mean 'name'?"},
           {R"("Time-Limit":"1h")", "Time-Limit", "did you mean 'time_limit'?"},
           {R"("gpus":8)", "gpus", "did you mean 'resources.gpus'?"},
           {R"("command":"x")", "command", "did you mean 'run'?"},
           {R"("zzzzzzzz":1)", "zzzzzzzz", "unknown field"},
           {R"("resources":{"memroy":"1GB"})", "resources.memroy", "did you mean 'memory'?"},
           {R"("retry":{"backoff":{"user":{"inital":"1s"}}})", "retry.backoff.user.inital",
            "did you mean 'initial'?"},
           {R"("stop":{"signal":"TERM","grase":1})", "stop.grase", "did you mean 'grace'?"},
           {R"("retry":{"budget":{"gpuu":1}})", "retry.budget.gpuu", "did you mean 'gpu'?"},
           {R"("retry":{"budget":{"nodelost":1}})", "retry.budget.nodelost", "did you mean 'node_lost'?"},
           {R"("retry":{"budget":{"cancelled":1}})", "retry.budget.cancelled", "unknown cause"},
           {R"("retry":{"budget":{"gpu":-2}})", "retry.budget.gpu", "from -1"},
           {R"("retry":{"budget":{"preempted":3}})", "retry.budget.preempted", "our fault is never charged"},
           {R"("retry":{"budget":{"time_limit":1}})", "retry.budget.time_limit", "is not started again"},
           {R"("retry":{"backoff":{"control":{}}})", "retry.backoff.control", "no back-off of yours"},
           {R"("resources":{"shm_size":"64GB"})", "resources.shm_size", "only with an image"},
           {R"("retry":{"exit_codes":{"137":"restart"}})", "retry.exit_codes.137", "cannot be mapped"},
           {R"("retry":{"exit_codes":{"143":"restart"}})", "retry.exit_codes.143", "cannot be mapped"},
           {R"("retry":{"exit_codes":{"0":"restart"}})", "retry.exit_codes.0", "1 to 255"},
           {R"("retry":{"exit_codes":{"300":"restart"}})", "retry.exit_codes.300", "1 to 255"},
           {R"("retry":{"exit_codes":{"085":"restart"}})", "retry.exit_codes.085", "1 to 255"},
           {R"("retry":{"exit_codes":{"85":"again"}})", "retry.exit_codes.85", "restart"},
           {R"("retry":{"backoff":{"user":{"initial":"2m","max":"1m"}}})", "retry.backoff.user",
            "max must not be less"},
           {R"("nodes":0)", "nodes", "from 1 to 4096"},
           {R"("nodes":4097)", "nodes", "from 1 to 4096"},
           {R"("nodes":1.5)", "nodes", "whole number"},
           {R"("nodes":"4..2")", "nodes", "FEWEST..MOST"},
           {R"("nodes":"2..4","launcher":"script")", "nodes", "torchrun"},
           {R"("topology":"rak")", "topology", "did you mean 'rack'?"},
           {R"("topology":{"require":"rack","prefer":"block"})", "topology.prefer", "wider"},
           {R"("constraints":["driver>>5"])", "constraints[0]", "no constraint"},
           {R"("depends_on":["pr\u0007ep"])", "depends_on[0]", "control characters"},
           {R"("depends_on":[{"when":"ok"}])", "depends_on[0].job", "required"},
           {R"("depends_on":[{"job":1,"when":"done"}])", "depends_on[0].when", "ok, any, failed or started"},
           {R"("array":{"range":"0-9999999"})", "array.range", "at most 10000 tasks"},
           {R"("array":1000000)", "array", "at most 10000 tasks"},
           {R"("array":{"range":"5-3"})", "array.range", "must be a range"},
           {R"("array":{"range":"1,1"})", "array.range", "twice"},
           {R"("array":{"max_parallel":4})", "array", "range or matrix"},
           {R"("array":"0-3","matrix":{"a":[1]})", "matrix", "not both"},
           {R"("matrix":{"a":[]})", "matrix.a", "list of values"},
           {R"("begin_time":"+3h","deadline":"+2h")", "deadline", "not after begin_time"},
           {R"("time_limit":"3h","total_time_limit":"2h")", "total_time_limit", "less than time_limit"},
           {R"("nodes":"four")", "nodes", "whole number"},
           {R"("priority":101)", "priority", "0 to 100"},
           {R"("resources":{"gpus":65})", "resources.gpus", "64"},
           {R"("resources":{"gpus":"H100:0"})", "resources.gpus", "1 to 64"},
           {R"("resources":{"gpus":"H100:eight"})", "resources.gpus", "MODEL:COUNT"},
           {R"("resources":{"gpus":""})", "resources.gpus", "MODEL:COUNT"},
           {R"("resources":{"gpus":["H100:8","A100:4"]})", "resources.gpus[1]", "same number"},
           {R"("resources":{"gpus":["H100:8",8]})", "resources.gpus[1]", "no kind of GPU"},
           {R"("resources":{"memory":"lots"})", "resources.memory", "64GiB"},
           {R"("resources":{"memory":-1})", "resources.memory", "size"},
           {R"("resources":8)", "resources", "must be an object, not a number"},
           {R"("time_limit":"5 parsecs")", "time_limit", "1h30m"},
           {R"("time_limit":0)", "time_limit", "at least"},
           {R"("time_limit":-5)", "time_limit", "duration"},
           {R"("time_limit":1e30)", "time_limit", "duration"},
           {R"("begin_time":"tomorrow")", "begin_time", "+2h"},
           {R"("begin_time":"2026-02-30T00:00:00Z")", "begin_time", "must be a time"},
           {R"("launcher":"mpi")", "launcher", "unknown launcher"},
           {R"("launcher":"mpirunn")", "launcher", "did you mean 'mpirun'?"},
           {R"("procs_per_node":0)", "procs_per_node", "1 to 1024"},
           {R"("stop":{"signal":"USR3"})", "stop.signal", "did you mean 'USR"},
           {R"("workdir":"here")", "workdir", "absolute"},
           {R"("checkpoint":{"dir":"x"})", "checkpoint.dir", "absolute"},
           {R"("checkpoint":{"keep":-1})", "checkpoint.keep", "0"},
           {R"("env":{"1A":"x"})", "env.1A", "not the name of a variable"},
           {R"("env":{"A=B":"x"})", "env.A=B", "not the name of a variable"},
           {R"("env":{"A":null})", "env.A", "must be text, not null"},
           {R"("env":{"A":["x"]})", "env.A", "must be text, not a list"},
           {R"("env":["A=1"])", "env", "must be an object, not a list"},
           {R"("exclude_nodes":"n1")", "exclude_nodes", "list"},
           {R"("exclude_nodes":["n1",2])", "exclude_nodes[1]", "must be text"},
           {R"("preemptible":"yes")", "preemptible", "true or false"},
           {R"("apiVersion":"v2")", "apiVersion", "v1"},
           {R"("compat":"pbs")", "compat", "slurm"},
           {R"("hang":{"after":"10ms"})", "hang.after", "at least"},
           {R"("hang":{"action":"kill"})", "hang.action", "capture_and_restart"},
           {R"("preflight":"thorough")", "preflight", "quick"},
           {R"("preflight":"full")", "preflight", "needs launcher mpirun"},
           {R"("hang":{"limit":"5m"})", "hang.limit", "unknown field"},
           {R"("queue":"a\nb")", "queue", "control characters"},
           {R"("queue":"")", "queue", "must not be empty"},
       }) {
    const auto p = parse(bad.members);
    ASSERT_EQ(p.problems.size(), 1u) << bad.members << "\n" << problems_of(p);
    EXPECT_EQ(p.problems[0].field, bad.field);
    const auto said = p.problems[0].message + " | " + p.problems[0].hint;
    EXPECT_NE(said.find(bad.says), std::string::npos) << bad.members << " says: " << said;
    EXPECT_FALSE(p.malformed);
  }
}

TEST(JobSpecCodec, AnImageAsksForNodesThatRunIt) {
  const auto fetched = good(R"("image":"acme/train:1.4","resources":{"shm_size":"64GB"})");
  EXPECT_EQ(fetched.image, "acme/train:1.4");
  EXPECT_EQ(fetched.resources.shm_bytes, 64'000'000'000);
  ASSERT_EQ(fetched.constraints.size(), 2u);
  EXPECT_EQ(to_string(fetched.constraints[0]), "container!=bubblewrap");  // which cannot fetch
  EXPECT_EQ(to_string(fetched.constraints[1]), "container");
  const auto local = good(
      R"("image":"/images/pt2.4","mounts":[{"source":"/data"},{"source":"/a","target":"/b","read_only":true}])");
  ASSERT_EQ(local.constraints.size(), 1u);
  EXPECT_EQ(to_string(local.constraints[0]), "container");
  EXPECT_EQ(local.mounts, (std::vector<Mount>{{"/data", "/data", false}, {"/a", "/b", true}}));
  EXPECT_EQ(good(R"("image":"i","constraints":["container=podman"])").constraints.size(), 1u);
  // Read again from what was written it asks for the same.
  const auto again = parse_spec_json(encode_spec(local), kNow);
  ASSERT_TRUE(again.ok()) << problems_of(again);
  EXPECT_EQ(again.spec.constraints, local.constraints);
  EXPECT_EQ(again.spec.mounts, local.mounts);
  EXPECT_EQ(again.spec.image, local.image);
}

TEST(JobSpecCodec, WhatIsNoImageIsRefused) {
  for (const auto& [members, field] : std::vector<std::pair<std::string_view, std::string_view>>{
           {R"("image":"a b")", "image"},
           {R"("image":"--privileged")", "image"},
           {R"("image":"docker://")", "image"},
           {R"("image":"ftp://x")", "image"},
           {R"("image":"oci-archive:x.tar")", "image"},
           {R"("image":"/a/../b")", "image"},
           {R"("image":"/")", "image"},
           {R"("image":"//")", "image"},
           {R"("image":"/.")", "image"},
           {R"("image":"oci-archive://")", "image"},
           {R"("mounts":[{"source":"/a"}])", "mounts"},
           {R"("image":"i","mounts":[{"target":"/a"}])", "mounts[0].source"},
           {R"("image":"i","mounts":[{"source":"a"}])", "mounts[0].source"},
           {R"("image":"i","mounts":[{"source":"/a","target":"/"}])", "mounts[0].target"},
           {R"("image":"i","mounts":[{"source":"/a","target":"//"}])", "mounts[0].target"}}) {
    const auto p = parse(members);
    ASSERT_EQ(p.problems.size(), 1u) << members << problems_of(p);
    EXPECT_EQ(p.problems[0].field, field) << members;
  }
}

TEST(JobSpecCodec, ReportsAllProblemsAtOnce) {
  const auto p = parse_spec_json(
      R"({"nodes":0,"resources":{"gpus":99,"cpu":1},"retry":{"budget":{"x":1}},"image":7,"time_limit":"?"})",
      kNow);
  std::vector<std::string> fields;
  for (const auto& problem : p.problems) fields.push_back(problem.field);
  EXPECT_EQ(fields, (std::vector<std::string>{"nodes", "resources.gpus", "resources.cpu", "retry.budget.x",
                                              "image", "time_limit", "name", "run"}));
}

TEST(JobSpecCodec, ManyProblemsAreBounded) {
  std::string text = "{";
  for (int i = 0; i < 5000; ++i) text += "\"field" + std::to_string(i) + "\":1,";
  text.back() = '}';
  EXPECT_LE(parse_spec_json(text, kNow).problems.size(), kMaxSpecProblems);
}

TEST(JobSpecCodec, NameAndRunAreRequired) {
  EXPECT_EQ(problems_of(parse_spec_json("{}", kNow)), "name: is required | \nrun: is required | \n");
  EXPECT_EQ(problems_of(parse_spec_json(R"({"name":"a","run":" \n"})", kNow)), "run: is required | \n");
  EXPECT_EQ(problems_of(parse_spec_json(R"({"name":7,"run":"x"})", kNow)),
            "name: must be text, not a number | \n")
      << "said once";
  EXPECT_FALSE(parse_spec_json("[]", kNow).ok());
  EXPECT_FALSE(parse_spec_json("null", kNow).ok());
}

TEST(JobSpecCodec, HoldsItsLimits) {
  const auto named = [](const std::string& name) {
    return parse_spec_json(R"({"run":"x","name":")" + name + "\"}", kNow).ok();
  };
  EXPECT_TRUE(named(std::string(128, 'x')));
  EXPECT_FALSE(named(std::string(129, 'x')));
  std::string umlauts;
  for (int i = 0; i < 128; ++i) umlauts += "ü";
  EXPECT_TRUE(named(umlauts)) << "characters, not bytes";
  EXPECT_FALSE(named(umlauts + "ü"));
  EXPECT_FALSE(named("\\u0085")) << "a control character of two bytes";

  const auto runs = [](std::size_t n) {
    return parse_spec_json(R"({"name":"a","run":")" + std::string(n, 'x') + "\"}", kNow).ok();
  };
  EXPECT_TRUE(runs(64 << 10));
  EXPECT_FALSE(runs((64 << 10) + 1));

  const auto entries = [](std::string_view field, int n) {
    std::string members = "\"" + std::string(field) + "\":{";
    for (int i = 0; i < n; ++i) members += (i ? "," : "") + ("\"K" + std::to_string(i)) + "\":\"v\"";
    return parse(members + "}").ok();
  };
  EXPECT_TRUE(entries("env", 256));
  EXPECT_FALSE(entries("env", 257));
  EXPECT_TRUE(entries("labels", 64));
  EXPECT_FALSE(entries("labels", 65));

  const auto huge = parse_spec_json(std::string(kMaxEncodedSpec + 1, ' '), kNow);
  EXPECT_FALSE(huge.ok());
  EXPECT_FALSE(huge.malformed);
}

TEST(JobSpecCodec, WhatIsAcceptedCanBeReadAgain) {
  // Control characters take six bytes as JSON, one in YAML: what would not fit when stored is refused now.
  std::string yaml = "name: a\nrun: x\nsetup: |\n  ";
  yaml.append(60 << 10, '\x01');
  yaml += "\nenv:\n";
  for (int i = 0; i < 5; ++i)
    yaml += "  V" + std::to_string(i) + ": \"" + std::string(25 << 10, '\x02') + "\"\n";
  const auto p = parse_spec_yaml(yaml, kNow);
  if (p.ok()) {
    EXPECT_TRUE(parse_spec_json(encode_spec(p.spec), kNow).ok());
  } else {
    EXPECT_NE(problems_of(p).find("bytes"), std::string::npos) << problems_of(p);
  }
}

TEST(JobSpecCodec, YamlIsTheSameTree) {
  const auto yaml = parse_spec_yaml(R"(
apiVersion: v1
name: llama-sft
project: nlp
queue: h100
priority: 50
labels: {team: speech}
nodes: 4
resources:
  gpus: H100:8
  cpus: 64
  memory: 800GB
env: {DATASET: c4, VERSION: 1.10, N: 8, FLAG: true, SHELL_YES: yes, OCTAL: 010}
launcher: torchrun
procs_per_node: auto
setup: pip install -r requirements.txt   # once per node
run: |
  train.py --resume "$RESUME_CHECKPOINT"
time_limit: 24h
stop: {signal: TERM, grace: 120s}
checkpoint: {dir: /ckpt/llama-sft}
retry:
  budget: {user: 0}
  exit_codes: {85: restart, 42: never}
preflight: none
)",
                                    kNow);
  ASSERT_TRUE(yaml.ok()) << problems_of(yaml);
  const auto json = parse_spec_json(
      R"({"apiVersion":"v1","name":"llama-sft","project":"nlp","queue":"h100","priority":50,"labels":{"team":"speech"},
"nodes":4,"resources":{"gpus":"H100:8","cpus":64,"memory":"800GB"},
"env":{"DATASET":"c4","VERSION":"1.10","N":8,"FLAG":true,"SHELL_YES":"yes","OCTAL":"010"},"launcher":"torchrun",
"procs_per_node":"auto","setup":"pip install -r requirements.txt","run":"train.py --resume \"$RESUME_CHECKPOINT\"\n",
"time_limit":"24h","stop":{"signal":"TERM","grace":120},"checkpoint":{"dir":"/ckpt/llama-sft"},"retry":{"budget":{"user":0},"exit_codes":{"85":"restart","42":"never"}},"preflight":"none"})",
      kNow);
  ASSERT_TRUE(json.ok()) << problems_of(json);
  EXPECT_EQ(encode_spec(yaml.spec), encode_spec(json.spec));
  EXPECT_EQ(yaml.spec.env.at("VERSION"), "1.10") << "not a number";
}

TEST(JobSpecCodec, SaysWhereTextIsMalformed) {
  const auto json = parse_spec_json("{\"name\":\"a\",\n \"run\":}", kNow);
  EXPECT_TRUE(json.malformed);
  EXPECT_EQ(json.line, 2);
  EXPECT_EQ(json.column, 8);
  const auto yaml = parse_spec_yaml("name: a\nrun: [x\n", kNow);
  EXPECT_TRUE(yaml.malformed);
  EXPECT_GE(yaml.line, 2);
}

}  // namespace
}  // namespace tutti::wire
