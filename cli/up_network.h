// Nodes of `tutti up --namespaces`: each a network namespace with an address of its own on a bridge, and a
// host name of its own. Needs root and iproute2; where it cannot be made the nodes share this host. Used by
// up.cpp.
//
// Invariants
// 1. Names and addresses follow from the data directory, so that what a killed `tutti up` has left is removed
// by
//    the next one on the same directory (which holds its lock).
// 2. Only the network and the host name are separated: cgroups, files and processes are this machine's.
#pragma once

#include <string>
#include <vector>

namespace tutti::cli {

class UpNetwork {
 public:
  // Throws std::runtime_error with what could not be done; nothing is left behind then.
  UpNetwork(const std::string& data, int nodes);
  ~UpNetwork();
  UpNetwork(const UpNetwork&) = delete;
  UpNetwork& operator=(const UpNetwork&) = delete;

  std::string host_address() const { return subnet_ + ".254"; }  // this machine's, on the bridge
  std::string address(int node) const { return subnet_ + "." + std::to_string(node); }
  // `argv` as a process of that node, in place: the process id stays.
  std::vector<std::string> inside(int node, const std::string& host_name,
                                  const std::vector<std::string>& argv) const;

 private:
  std::string name_space(int node) const { return prefix_ + "n" + std::to_string(node); }
  std::string cable(int node) const { return prefix_ + "v" + std::to_string(node); }
  void remove() noexcept;

  int nodes_;
  std::string prefix_;
  std::string subnet_;
};

}  // namespace tutti::cli
