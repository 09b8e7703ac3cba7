// Interfaces and adapters: a made-up sysfs tree, and the real thing in a network namespace with several
// interfaces of its own.
#include "worker/node/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace tutti::node {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// As /sys of a node with eight GPUs has it, in small: two sockets, below each a switch per pair.
class Sysfs {
 public:
  Sysfs() {
    char name[] = "/tmp/tutti-sysfs-XXXXXX";
    if (mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
    root_ = name;
  }
  ~Sysfs() { fs::remove_all(root_); }
  const std::string& root() const { return root_; }

  void interface(const std::string& name, const std::string& state, int mbps, bool device = true) const {
    const auto at = root_ + "/class/net/" + name;
    write(at + "/operstate", state);
    if (mbps > 0) write(at + "/speed", std::to_string(mbps));
    if (device) fs::create_directories(at + "/device");
  }
  // `place`: below devices/, as "pci0000:00/0000:00:01.0/0000:02:00.0".
  void adapter(const std::string& name, const std::string& place, const std::string& state,
               const std::string& layer, const std::string& rate, int numa) const {
    const auto device = root_ + "/devices/" + place;
    const auto ib = device + "/infiniband/" + name;
    write(device + "/numa_node", std::to_string(numa));
    write(ib + "/ports/1/state", state);
    write(ib + "/ports/1/link_layer", layer);
    write(ib + "/ports/1/rate", rate);
    fs::create_directory_symlink(device, ib + "/device");
    fs::create_directories(root_ + "/class/infiniband");
    fs::create_directory_symlink(ib, root_ + "/class/infiniband/" + name);
  }
  std::string gpu(const std::string& pci, const std::string& place) const {
    fs::create_directories(root_ + "/devices/" + place);
    fs::create_directories(root_ + "/bus/pci/devices");
    fs::create_directory_symlink(root_ + "/devices/" + place, root_ + "/bus/pci/devices/" + pci);
    return gpu_path(root_, "0000" + pci);
  }

 private:
  static void write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << text << "\n";
  }
  std::string root_;
};

constexpr const char* kRoutes =
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eno1\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "eno1\t0002000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";

const std::vector<OwnAddress> kAddresses = {{"lo", "127.0.0.1", "127.0.0.0/8"},
                                            {"eno1", "10.0.2.5", "10.0.2.0/24"},
                                            {"ens1", "10.9.0.5", "10.9.0.0/16"},
                                            {"ens2", "10.8.0.5", "10.8.0.0/16"},
                                            {"docker0", "172.17.0.1", "172.17.0.0/16"}};

void usual(const Sysfs& s) {
  s.interface("lo", "unknown", 0, false);
  s.interface("docker0", "up", 10000, false);
  s.interface("veth12ab", "up", 10000, false);
  s.interface("eno1", "up", 1000);
  s.interface("ens1", "up", 100000);
  s.interface("ens2", "down", 400000);
}

NetworkChoice chosen(const Sysfs& s, const std::string& own, const std::vector<std::string>& gang,
                     const std::vector<std::string>& gpus = {}) {
  return choose_network(read_network(s.root(), kRoutes, kAddresses), own, gang, gpus);
}

TEST(Network, TheInterfaceWherePeersReachUsIsChosen) {
  const Sysfs s;
  usual(s);
  const auto c = chosen(s, "10.9.0.5", {"10.9.0.5", "10.9.0.6"});
  EXPECT_EQ(c.interface, "ens1");
  EXPECT_EQ(c.subnet, "10.9.0.0/16");
  EXPECT_THAT(c.why, HasSubstr("ens1 has the node's address 10.9.0.5 (100000 Mb/s)"));
  EXPECT_EQ(chosen(s, "10.0.2.5", {"10.0.2.5", "10.0.2.6"}).interface, "eno1");
  // All workers on one machine.
  EXPECT_EQ(chosen(s, "127.0.0.1", {"127.0.0.1", "127.0.0.1"}).interface, "lo");
}

TEST(Network, AnAddressWithALabelIsOneOfItsInterface) {
  const Sysfs s;
  usual(s);
  auto addresses = kAddresses;
  addresses.push_back({"ens1:ib", "10.7.0.5", "10.7.0.0/16"});
  const auto c =
      choose_network(read_network(s.root(), kRoutes, addresses), "10.7.0.5", {"10.7.0.5", "10.7.0.6"}, {});
  EXPECT_EQ(c.interface, "ens1");
  EXPECT_EQ(c.subnet, "10.7.0.0/16");
}

TEST(Network, BehindAnAddressThatIsNoInterfacesTheGangsNetworkOrTheDefaultRouteCounts) {
  const Sysfs s;
  usual(s);
  EXPECT_EQ(chosen(s, "192.0.2.1", {"10.9.1.1", "10.9.2.2"}).interface, "ens1");
  const auto route = chosen(s, "192.0.2.1", {"192.0.2.1", "192.0.2.2"});
  EXPECT_EQ(route.interface, "eno1");
  EXPECT_THAT(route.why, HasSubstr("default route"));
}

TEST(Network, WhatIsDownOrVirtualIsNotChosen) {
  const Sysfs s;
  usual(s);
  EXPECT_NE(chosen(s, "10.8.0.5", {"10.8.0.5", "10.8.0.6"}).interface, "ens2");
  EXPECT_NE(chosen(s, "192.0.2.1", {"172.17.0.2", "172.17.0.3"}).interface, "docker0");
  const Sysfs empty;
  const auto none = chosen(empty, "10.9.0.5", {"10.9.0.5"});
  EXPECT_EQ(none.interface, "");
  EXPECT_EQ(none.adapters, "");
  EXPECT_THAT(none.why, HasSubstr("none is chosen"));
}

TEST(Network, ActivePortsOfTheFastestKindAreChosen) {
  const Sysfs s;
  usual(s);
  s.adapter("mlx5_0", "pci0000:00/0000:00:01.0/0000:01:00.0", "4: ACTIVE", "InfiniBand",
            "400 Gb/sec (4X NDR)", 0);
  s.adapter("mlx5_1", "pci0000:00/0000:00:02.0/0000:02:00.0", "1: DOWN", "InfiniBand", "400 Gb/sec (4X NDR)",
            0);
  s.adapter("mlx5_2", "pci0000:80/0000:80:01.0/0000:81:00.0", "4: ACTIVE", "InfiniBand",
            "400 Gb/sec (4X NDR)", 1);
  s.adapter("mlx5_3", "pci0000:80/0000:80:02.0/0000:82:00.0", "4: ACTIVE", "Ethernet", "25 Gb/sec (1X EDR)",
            1);
  const auto c = chosen(s, "10.9.0.5", {"10.9.0.5"});
  EXPECT_EQ(c.adapters, "=mlx5_0:1,mlx5_2:1");  // exact: "mlx5_1" alone would mean mlx5_10 as well
  EXPECT_THAT(c.why, HasSubstr("active, InfiniBand, 400 Gb/s"));
}

TEST(Network, RoceIsTakenWhereThereIsNothingElse) {
  const Sysfs s;
  usual(s);
  s.adapter("mlx5_0", "pci0000:00/0000:00:01.0/0000:01:00.0", "4: ACTIVE", "Ethernet", "200 Gb/sec (4X HDR)",
            0);
  s.adapter("mlx5_1", "pci0000:00/0000:00:02.0/0000:02:00.0", "4: ACTIVE", "Ethernet", "25 Gb/sec (1X EDR)",
            0);
  EXPECT_EQ(chosen(s, "10.9.0.5", {"10.9.0.5"}).adapters, "=mlx5_0:1");
  EXPECT_EQ(read_network(s.root(), "", {}).adapters[0].numa, 0);
}

TEST(Network, APartOfTheNodesGpusGetsTheAdaptersThatAreNearest) {
  const Sysfs s;
  usual(s);
  for (int i = 0; i < 4; ++i) {
    const auto n = std::to_string(i);
    const std::string bridge = i < 2 ? "pci0000:00" : "pci0000:80";
    s.adapter("mlx5_" + n, bridge + "/switch" + n + "/0000:0" + n + ":00.1", "4: ACTIVE", "InfiniBand",
              "400 Gb/sec (4X NDR)", i / 2);
  }
  const auto gpu0 = s.gpu("0000:3b:00.0", "pci0000:00/switch0/0000:3b:00.0");
  const auto gpu3 = s.gpu("0000:e1:00.0", "pci0000:80/switch3/0000:e1:00.0");
  const auto far = s.gpu("0000:f1:00.0", "pci0000:80/other/0000:f1:00.0");
  ASSERT_FALSE(gpu0.empty());
  EXPECT_EQ(gpu_path(s.root(), "00000000:3B:00.0"), gpu0) << "as NVML writes it";
  const auto gang = std::vector<std::string>{"10.9.0.5"};
  EXPECT_EQ(chosen(s, "10.9.0.5", gang, {gpu0}).adapters, "=mlx5_0:1");
  EXPECT_EQ(chosen(s, "10.9.0.5", gang, {gpu0, gpu3}).adapters, "=mlx5_0:1,mlx5_3:1");
  EXPECT_EQ(chosen(s, "10.9.0.5", gang, {far}).adapters, "=mlx5_2:1,mlx5_3:1") << "of its socket";
  EXPECT_EQ(chosen(s, "10.9.0.5", gang, {""}).adapters, "=mlx5_0:1,mlx5_1:1,mlx5_2:1,mlx5_3:1");
  EXPECT_EQ(gpu_path(s.root(), "../../x"), "");
}

// In a namespace that this test makes: what the kernel itself says of several interfaces.
[[noreturn]] void look_in_own_namespace() {
  const auto run = [](const char* command) {
    if (std::system(command) != 0) {
      std::fprintf(stderr, "failed: %s\n", command);
      _exit(2);
    }
  };
  run("mount --make-rprivate / && mount -t sysfs sysfs /sys");
  run("ip link set lo up");
  run("ip link add fast type veth peer name p1 && ip link set p1 up && ip addr add 10.9.0.5/16 dev fast && "
      "ip link set fast up");
  run("ip link add slow type veth peer name p2 && ip link set p2 up && ip addr add 10.0.2.5/24 dev slow && "
      "ip link set slow up");
  run("ip link add off type veth peer name p3 && ip addr add 10.7.0.5/24 dev off");
  run("ip route add default via 10.0.2.1");
  std::ifstream file("/proc/self/net/route");
  const std::string routes((std::istreambuf_iterator<char>(file)), {});
  const auto all = read_network("/sys", routes, own_addresses());
  const auto has = [&](const char* own, const char* interface, const char* subnet) {
    const auto c = choose_network(all, own, {own}, {});
    if (c.interface == interface && c.subnet == subnet) return;
    std::fprintf(stderr, "%s: %s in %s (%s)\n", own, c.interface.c_str(), c.subnet.c_str(), c.why.c_str());
    _exit(3);
  };
  has("10.9.0.5", "fast", "10.9.0.0/16");
  has("10.0.2.5", "slow", "10.0.2.0/24");
  has("127.0.0.1", "lo", "127.0.0.0/8");
  const auto off = choose_network(all, "10.7.0.5", {"10.7.0.5", "10.7.0.6"}, {});
  if (off.interface == "off") _exit(4);
  for (const auto& i : all.interfaces)
    if (i.name == "slow" && !i.default_route) _exit(5);
  _exit(0);
}

TEST(Network, InANamespaceWithSeveralInterfaces) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  if (std::system("unshare --net --mount true 2>/dev/null") != 0)
    GTEST_SKIP() << "no network namespaces here";
  EXPECT_EXIT(
      {
        if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) _exit(1);
        look_in_own_namespace();
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tutti::node
