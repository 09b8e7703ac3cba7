// What each launcher gets, whole: argv, variables and files of every process, compared with the texts in
// tests/worker/golden. After a wanted change: TUTTI_UPDATE_GOLDEN=1 build/…/launch_plan_test, and read the
// diff.
#include "worker/core/launch_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace tutti::worker {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

struct Case {
  JobSpec spec;
  protocol::Prepare prepare;
  protocol::Launch launch;
  NodeFacts facts;
};

// Node 1 of a gang of two nodes with two GPUs each.
Case two_nodes(Launcher launcher, std::int32_t index) {
  Case c;
  c.spec.name = "llama";
  c.spec.launcher = launcher;
  c.spec.nodes = 2;
  c.spec.procs_per_node = 2;
  c.spec.resources.gpus = 2;
  c.spec.run = "train.py --resume \"$RESUME_CHECKPOINT\"";
  c.spec.env = {{"DATASET", "c4"}, {"NCCL_DEBUG", "INFO"}};
  c.spec.time_limit = std::chrono::hours(1);
  c.spec.checkpoint.dir = "/ckpt/llama";
  c.prepare.key = AttemptKey{JobId(42), Epoch(7)};
  c.prepare.attempt = 3;
  const bool script = launcher == Launcher::script;
  c.prepare.gang = {{"n0", "10.1.0.4", 0, script ? 1 : 2},
                    {"n1", "10.1.0.5", script ? 1 : 2, script ? 0 : 2}};
  c.prepare.index = index;
  c.prepare.gpu_uuids = {"GPU-a", "GPU-b"};
  c.prepare.resume_path = "/ckpt/llama/step-100";
  c.prepare.restart_cause = "gpu";
  c.prepare.secret = "quiet";
  c.launch.key = c.prepare.key;
  c.launch.master_port = 29501;
  c.launch.endpoints = {{"10.1.0.4", 0}, {"10.1.0.5", 4001}};
  c.facts.dir = "/var/lib/tutti/attempts/42-7";
  c.facts.account.name = "ada";
  c.facts.account.home = "/home/ada";
  c.facts.account.uid = c.facts.account.gid = 1000;
  c.facts.devices = {{"GPU-a", 2, "/dev/nvidia2", false}, {"GPU-b", 3, "/dev/nvidia3", false}};
  c.facts.node_has_gpus = true;
  c.facts.interface = "eth1";
  c.facts.subnet = "10.1.0.0/24";
  c.facts.ib_hcas = "=mlx5_0:1,mlx5_1:1";
  c.facts.rank_program = "/usr/lib/tutti/tutti-rank";
  c.facts.launch_agent = "/usr/lib/tutti/tutti-launch-agent";
  c.facts.torchrun = {"/usr/bin/python3", "/usr/share/tutti/torchrun"};
  c.facts.lease_path = "/var/lib/tutti/lease";
  return c;
}

const Instant kNow{std::chrono::seconds(1'800'000'000)};

LaunchPlan planned(const Case& c) {
  auto r = plan_launch(c.spec, c.prepare, c.launch, c.facts, kNow);
  EXPECT_TRUE(r.has_value());
  return r.value();
}

std::string text_of(const std::map<std::string, std::string>& env) {
  std::string out;
  for (const auto& [k, v] : env) out += "  " + k + "=" + v + "\n";
  return out;
}

std::string text_of(const Case& c) {
  const auto preparation = plan_preparation(c.spec, c.prepare, c.facts);
  const auto plan = planned(c);
  std::ostringstream out;
  const auto& k = preparation.config;
  out << "supervisor: uid " << k.uid << ", workdir " << k.workdir << ", ranks " << k.first_rank << "+"
      << k.local_ranks << (k.listen_agent ? ", lets the launch agent in" : "")
      << (k.pick_master_port ? ", picks the rendezvous port" : "") << "\n";
  for (const auto& d : k.devices) out << "  device " << d.uuid << " " << d.path << "\n";
  out << "setup and agent environment:\n" << text_of(k.env);
  out << "hostfile:\n" << preparation.hostfile;
  for (const auto& a : plan.agents) out << "endpoint " << a.host << " " << a.address << ":" << a.port << "\n";
  for (const auto& p : plan.launch.processes) {
    out << "process" << (p.is_rank ? " (rank)" : "") << ", log " << p.log << ":\n";
    for (const auto& word : p.argv) out << "    " << word << "\n";
    out << text_of(p.env);
  }
  out << "set by Tutti:";
  for (const auto& name : plan.variables) out << " " << name;
  out << "\n";
  return out.str();
}

void expect_golden(const std::string& name, const std::string& text) {
  const char* source = std::getenv("TUTTI_SOURCE");
  ASSERT_NE(source, nullptr) << "run me through ctest";
  const auto path = std::string(source) + "/tests/worker/golden/" + name + ".txt";
  if (std::getenv("TUTTI_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::ifstream in(path);
  std::stringstream golden;
  golden << in.rdbuf();
  EXPECT_EQ(text, golden.str()) << path;
}

TEST(LaunchPlan, Direct) { expect_golden("direct", text_of(two_nodes(Launcher::direct, 1))); }
TEST(LaunchPlan, Torchrun) { expect_golden("torchrun", text_of(two_nodes(Launcher::torchrun, 1))); }
TEST(LaunchPlan, MpirunFirstNode) { expect_golden("mpirun-first", text_of(two_nodes(Launcher::mpirun, 0))); }
TEST(LaunchPlan, MpirunOtherNode) { expect_golden("mpirun-other", text_of(two_nodes(Launcher::mpirun, 1))); }
TEST(LaunchPlan, ScriptFirstNode) { expect_golden("script-first", text_of(two_nodes(Launcher::script, 0))); }
TEST(LaunchPlan, ScriptOtherNode) { expect_golden("script-other", text_of(two_nodes(Launcher::script, 1))); }

TEST(LaunchPlan, AFullPreflightRunsTheCheckOverTheSameNodesFirst) {
  auto c = two_nodes(Launcher::mpirun, 0);
  const auto plain = planned(c).launch.processes[0].argv;
  c.spec.preflight = Preflight::full;
  EXPECT_FALSE(plan_launch(c.spec, c.prepare, c.launch, c.facts, kNow)) << "nothing to check with";
  c.facts.preflight_program = "/x/tutti-preflight";
  c.facts.collective_check = "/x/tutti-collective-check";
  const auto argv = planned(c).launch.processes[0].argv;
  const auto then = std::find(argv.begin(), argv.end(), "--then");
  ASSERT_NE(then, argv.end());
  EXPECT_EQ(std::vector<std::string>(then + 1, argv.end()), plain);
  EXPECT_EQ(argv[0], "/x/tutti-preflight");
  EXPECT_EQ(*(then - 2), "/x/tutti-collective-check");
  EXPECT_THAT(*(then - 1), testing::EndsWith("/progress/collective.json"));
  EXPECT_THAT(std::vector<std::string>(argv.begin() + 4, then), testing::Contains("--host"));
}

TEST(LaunchPlan, NeverOverwritesWhatTheUserGave) {
  for (auto launcher : {Launcher::direct, Launcher::torchrun, Launcher::mpirun, Launcher::script}) {
    auto c = two_nodes(launcher, 0);
    for (const auto& name : planned(c).variables) c.spec.env[name] = "mine";
    const auto plan = planned(c);
    EXPECT_TRUE(plan.variables.empty()) << name(launcher);
    for (const auto& p : plan.launch.processes)
      for (const auto& [k, v] : c.spec.env) EXPECT_THAT(p.env, Contains(Pair(k, v)));
  }
}

TEST(LaunchPlan, SimulatedDevicesAreNamed) {
  auto c = two_nodes(Launcher::direct, 0);
  for (auto& d : c.facts.devices) d.simulated = true;
  EXPECT_THAT(planned(c).launch.processes[0].env,
              Contains(Pair("TUTTI_SIM_DEVICES", "/dev/nvidia2,/dev/nvidia3")));
}

TEST(LaunchPlan, SlicesAreNamedByTheirUuid) {
  auto c = two_nodes(Launcher::direct, 0);
  c.facts.devices = {{"MIG-a", 100, "", false}, {"MIG-b", 101, "", false}};
  EXPECT_THAT(planned(c).launch.processes[0].env, Contains(Pair("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")));
}

TEST(LaunchPlan, AJobWithoutGpusSeesNone) {
  auto c = two_nodes(Launcher::direct, 0);
  c.facts.devices.clear();
  auto env = planned(c).launch.processes[0].env;
  EXPECT_THAT(env, Contains(Pair("CUDA_VISIBLE_DEVICES", "")));
  EXPECT_THAT(env, Not(Contains(Pair("NCCL_DEBUG_FILE", testing::_))));
  c.facts.node_has_gpus = false;
  EXPECT_THAT(planned(c).launch.processes[0].env, Not(Contains(Pair("CUDA_VISIBLE_DEVICES", testing::_))));
}

TEST(LaunchPlan, SlurmNamesOnlyOnRequest) {
  auto c = two_nodes(Launcher::direct, 1);
  c.spec.compat_slurm = true;
  const auto plan = planned(c);
  EXPECT_THAT(plan.launch.processes[1].env, Contains(Pair("SLURM_PROCID", "3")));
  EXPECT_THAT(plan.launch.processes[1].env, Contains(Pair("SLURM_LOCALID", "1")));
  EXPECT_THAT(plan.launch.processes[1].env, Contains(Pair("SLURM_JOB_NODELIST", "n0,n1")));
}

// Several workers on one machine: Open MPI would take equal addresses for one host.
TEST(LaunchPlan, MpirunTellsNodesOfOneMachineApart) {
  auto c = two_nodes(Launcher::mpirun, 0);
  for (auto& n : c.prepare.gang) n.address = "127.0.0.1";
  c.facts.subnet = "127.0.0.0/8";
  const auto plan = planned(c);
  EXPECT_THAT(plan.launch.processes[0].argv, Contains("127.0.0.1:2,tutti-1:2"));
  ASSERT_EQ(plan.agents.size(), 2u);
  EXPECT_THAT(plan.launch.processes[0].argv, Contains("tcp,self")) << "shared memory would collide by name";
  EXPECT_EQ(plan.agents[1].host, "tutti-1");
  EXPECT_EQ(plan.agents[1].port, 4001);
}

// The subnet of this node must hold for all, since mpirun hands it to every daemon.
TEST(LaunchPlan, MpirunNamesASubnetOnlyIfAllNodesAreInIt) {
  auto c = two_nodes(Launcher::mpirun, 0);
  EXPECT_THAT(planned(c).launch.processes[0].argv, Contains("oob_tcp_if_include"));
  c.prepare.gang[1].address = "10.2.0.5";
  EXPECT_THAT(planned(c).launch.processes[0].argv, Not(Contains("oob_tcp_if_include")));
}

TEST(LaunchPlan, RefusesEndpointsThatDoNotFitTheGang) {
  auto c = two_nodes(Launcher::direct, 0);
  c.launch.endpoints.pop_back();
  const auto r = plan_launch(c.spec, c.prepare, c.launch, c.facts, kNow);
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().message, HasSubstr("1 endpoints for a gang of 2"));
}

TEST(LaunchPlan, PythonIsPutBeforeAScript) {
  EXPECT_EQ(rank_command("train.py -x", "/usr/bin/python3"), "/usr/bin/python3 train.py -x");
  EXPECT_EQ(rank_command("  a/b.py;ls", "p"), "p a/b.py;ls");
  EXPECT_EQ(rank_command("python train.py", "p"), "python train.py");
  EXPECT_EQ(rank_command("X=1 train.py", "p"), "X=1 train.py");
  EXPECT_EQ(rank_command("", "p"), "");
}

TEST(LaunchPlan, Subnets) {
  EXPECT_TRUE(in_subnet("10.1.0.0/16", "10.1.255.3"));
  EXPECT_FALSE(in_subnet("10.1.0.0/16", "10.2.0.1"));
  EXPECT_TRUE(in_subnet("0.0.0.0/0", "10.2.0.1"));
  EXPECT_TRUE(in_subnet("10.1.2.3/32", "10.1.2.3"));
  for (auto bad : {"", "10.1.0.0", "10.1.0.0/33", "10.1.0/8", "10.1.0.0/8x", "300.1.0.0/8"})
    EXPECT_FALSE(in_subnet(bad, "10.1.0.1")) << bad;
  EXPECT_FALSE(in_subnet("10.0.0.0/8", "node1"));
}

// ---------------------------------------------------------------- images

Case with_image(Launcher launcher) {
  auto c = two_nodes(launcher, 0);
  c.spec.image = "acme/train:1.4";
  c.spec.resources.shm_bytes = 64 << 20;
  c.spec.setup = "pip install 'x'";
  c.spec.mounts = {{"/data", "/data", true}};
  c.facts.image_program = "/usr/lib/tutti/tutti-image";
  c.facts.container_tool = "podman";
  c.facts.bubblewrap = "/usr/bin/bwrap";
  c.facts.image_cache = "/var/lib/tutti/images/1000";
  c.facts.state_dir = "/var/lib/tutti";
  return c;
}

Preparation prepared(const Case& c) { return plan_preparation(c.spec, c.prepare, c.facts); }

TEST(LaunchPlan, AnImageIsGotBeforeTheSetupThatRunsInIt) {
  const auto c = with_image(Launcher::direct);
  const auto p = prepared(c);
  EXPECT_EQ(
      p.config.setup,
      R"('/usr/lib/tutti/tutti-image' '/var/lib/tutti/attempts/42-7' && exec '/usr/lib/tutti/tutti-image')"
      R"( --inside '/var/lib/tutti/attempts/42-7' -- /bin/sh -c 'pip install '\''x'\''')");
  EXPECT_EQ(p.config.shm_bytes, 64 << 20);
  ASSERT_TRUE(p.container);
  EXPECT_EQ(p.container->image, "acme/train:1.4");
  EXPECT_EQ(p.container->mounts, c.spec.mounts);
  EXPECT_EQ(p.container->closed, "/var/lib/tutti");
  EXPECT_TRUE(p.container->gpus);
  EXPECT_THAT(p.container->user_variables, Contains("DATASET"));
  EXPECT_THAT(p.config.env, Contains(Pair("TUTTI_IMAGE", "acme/train:1.4")));
  EXPECT_THAT(planned(c).launch.processes[0].argv,
              Contains("python3 train.py --resume \"$RESUME_CHECKPOINT\""))
      << "the image's, wherever it is";
}

TEST(LaunchPlan, WithoutAnImageThereIsNoContainer) {
  const auto p = prepared(two_nodes(Launcher::direct, 0));
  EXPECT_FALSE(p.container);
  EXPECT_EQ(p.config.shm_bytes, -1);
  EXPECT_FALSE(p.config.env.contains("TUTTI_IMAGE"));
}

TEST(LaunchPlan, ANodeWithoutContainersFailsTheSetupWithWords) {
  auto c = with_image(Launcher::direct);
  c.facts.container_tool.clear();
  EXPECT_THAT(prepared(c).config.setup, HasSubstr("this node runs no images"));
  EXPECT_FALSE(prepared(c).container);
}

TEST(LaunchPlan, TorchrunWithAnImageStartsEachRankInItsContainer) {
  const auto plan = planned(with_image(Launcher::torchrun));
  ASSERT_EQ(plan.launch.processes.size(), 2u);
  for (const auto& process : plan.launch.processes) EXPECT_TRUE(process.is_rank);
  EXPECT_THAT(plan.launch.processes[1].env, Contains(Pair("LOCAL_RANK", "1")));
}

TEST(LaunchPlan, RanksInContainersDoNotReadEachOthersMemory) {
  EXPECT_THAT(prepared(with_image(Launcher::mpirun)).config.env,
              Contains(Pair("OMPI_MCA_btl_vader_single_copy_mechanism", "none")));
}

TEST(LaunchPlan, AUsersOwnChoiceOfInterfacesIsNotOverriddenForMpirun) {
  auto c = two_nodes(Launcher::mpirun, 0);
  EXPECT_THAT(planned(c).launch.processes[0].argv, Contains("btl_tcp_if_include"));
  c.spec.env["OMPI_MCA_btl_tcp_if_exclude"] = "lo";
  const auto argv = planned(c).launch.processes[0].argv;
  EXPECT_THAT(argv, Not(Contains("btl_tcp_if_include")));
  EXPECT_THAT(argv, Contains("oob_tcp_if_include"));
  EXPECT_THAT(argv, Contains("tcp,vader,self"));
  c.spec.env["OMPI_MCA_btl"] = "openib,vader,self";
  EXPECT_THAT(planned(c).launch.processes[0].argv, Not(Contains("btl")));
}

// "eth1" is eth10 and eth1.100 to NCCL, too; "=eth1" is no interface to Gloo.
TEST(LaunchPlan, NcclIsToldOneInterfaceAndNotAllThatBeginLikeIt) {
  const auto env = planned(two_nodes(Launcher::direct, 0)).launch.processes[0].env;
  EXPECT_THAT(env, Contains(Pair("NCCL_SOCKET_IFNAME", "=eth1")));
  EXPECT_THAT(env, Contains(Pair("GLOO_SOCKET_IFNAME", "eth1")));
}

TEST(LaunchPlan, UcxAndOpenMpiGetTheAdaptersOfNcclUnlessTheUserSaysOtherwise) {
  auto c = two_nodes(Launcher::mpirun, 0);
  const auto env = planned(c).launch.processes[0].env;
  EXPECT_THAT(env, Contains(Pair("UCX_NET_DEVICES", "mlx5_0:1,mlx5_1:1")));
  EXPECT_THAT(env, Contains(Pair("OMPI_MCA_btl_openib_if_include", "mlx5_0:1,mlx5_1:1")));
  c.spec.env["UCX_TLS"] = "tcp,self";  // which these devices do not have
  c.spec.env["OMPI_MCA_btl_openib_if_exclude"] = "mlx5_1";
  const auto other = planned(c).launch.processes[0].env;
  EXPECT_THAT(other, Not(Contains(Pair("UCX_NET_DEVICES", testing::_))));
  EXPECT_THAT(other, Not(Contains(Pair("OMPI_MCA_btl_openib_if_include", testing::_))));
  c.facts.ib_hcas.clear();
  c.spec.env.clear();
  EXPECT_THAT(planned(c).launch.processes[0].env, Not(Contains(Pair("UCX_NET_DEVICES", testing::_))));
}

}  // namespace
}  // namespace tutti::worker
