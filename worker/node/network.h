// Which network interface and which adapters (InfiniBand, RoCE) the ranks of a gang use: what there is on the
// node, and a choice among it. Reading is blocking and local, sysfs under a root that tests can choose; the
// choice is a pure function. A variable that the user gives wins over it (worker/core/environment.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::node {

struct OwnAddress {                        // IPv4, of an interface
  std::string interface, address, subnet;  // "eth0", "10.0.0.4", "10.0.0.0/24"
};

struct NetInterface {
  std::string name;
  bool up = false;
  bool is_virtual = false;  // no device behind it: veth, bridges of containers
  bool default_route = false;
  std::int64_t mbps = 0;  // 0: not known
  std::vector<OwnAddress> addresses;
};

struct Adapter {     // one port
  std::string name;  // "mlx5_0"
  int port = 1;
  bool active = false;
  bool ethernet = false;  // RoCE
  std::int64_t gbps = 0;
  int numa = -1;     // -1: not known
  std::string path;  // of its PCI device in sysfs: "…/pci0000:00/0000:00:01.0/0000:01:00.0"
};

struct NetworkInventory {
  std::vector<NetInterface> interfaces;
  std::vector<Adapter> adapters;
};

std::vector<OwnAddress> own_addresses();
/// `sysfs`: "/sys" or its stand-in; `routes`: the text of /proc/net/route.
NetworkInventory read_network(const std::string& sysfs, std::string_view routes,
                              const std::vector<OwnAddress>& addresses);
/// Where a GPU stands, from NVML's "00000000:3B:00.0"; "" = not known.
std::string gpu_path(const std::string& sysfs, std::string_view pci);

struct NetworkChoice {
  std::string interface;  // "" = none is fit
  std::string subnet;     // in which the gang meets
  std::string adapters;   // as NCCL_IB_HCA: "=mlx5_0:1,mlx5_1:1"; "" = none
  std::string why;        // for the record, one line
};
/// `own`: the address that other nodes know us by; `gang`: theirs, ours among them; `gpus`: paths of those
/// that were given.
///
/// Interface: that of `own`, since the peers reach us there; else one whose network holds the whole gang;
/// else the default route's; among equals the fastest. Never one that is down, nor a virtual one without a
/// better claim. Adapters: ports that are active, of the fastest kind there is (InfiniBand before RoCE), and
/// if the tree of PCI devices tells them apart, those nearest to the GPUs.
NetworkChoice choose_network(const NetworkInventory&, const std::string& own,
                             const std::vector<std::string>& gang, const std::vector<std::string>& gpus);

}  // namespace tutti::node
