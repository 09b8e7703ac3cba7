// What all tests of one run share: a directory under /tmp with copies of the programs (ranks run as an
// unprivileged user, who may not be able to enter the checkout), one PostgreSQL, and, as root, a bridge with
// network namespaces for the nodes. Made once per process. A janitor process clears up when we end, however.
//
//   /tmp/tutti-e2e-XXXXXX/bin lib          programs
//                        /pg               the shared PostgreSQL
//                        /1, /2, …         one per cluster
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "db/embedded/embedded_postgres.h"
#include "tests/e2e/process.h"

namespace tutti::e2e {

/// First column of the rows.
std::vector<std::string> sql_rows(const std::string& connection, const std::string& text);

/// A PostgreSQL that a test may stop and kill.
class PostgresServer {
 public:
  /// `listen`: an address of ours where it is reached without a password, as well as by its socket.
  explicit PostgresServer(const std::string& directory, const std::string& listen = {});
  void start() { server_.start(); }
  void stop() { server_.stop(); }
  void kill();  // SIGKILL to the postmaster, and until it is gone
  pid_t pid() const { return server_.pid(); }
  std::string connection_string(const std::string& database) const {
    return server_.connection_string(database);
  }
  void create_database(const std::string& name);

 private:
  db::EmbeddedPostgres server_;
};

/// One bridge, and a namespace per node: its own interface, its own address. The scheduler is on the bridge.
class Network {
 public:
  explicit Network(int nodes);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  static std::string prefix();  // of all our names; has our pid in it
  std::string scheduler_address() const { return subnet_ + ".1"; }
  std::string address(int node) const { return subnet_ + "." + std::to_string(10 + node); }
  static std::string name_space(int node) { return prefix() + "n" + std::to_string(node); }
  void cut(int node);   // what leaves it is lost, what is sent to it too
  void heal(int node);  // also when it is whole; mends whatever is broken about it
  /// One direction alone: what the node sends to the scheduler is lost, or what the scheduler sends to it.
  void lose_from(int node);
  void lose_to(int node);
  /// The node is cut off from the scheduler, and still hears the others that have been split off.
  void split_off(int node);

 private:
  int nodes_;
  std::string subnet_;
  std::set<int> one_way_;
};
/// Removes every interface and namespace whose name begins so.
void remove_network(const std::string& prefix);

/// What was mounted below `directory`: small disks of nodes.
void remove_mounts(const std::string& directory);

/// Of attempts below `directory` that were left without a proof of death (a node that lost its power), once
/// nothing of them runs. A real machine would have lost them too.
void remove_cgroups(const std::string& directory);

class Site {
 public:
  static Site& instance();
  ~Site();

  std::string program(const std::string& name) const { return root_ + "/bin/" + name; }
  bool has(const std::string& name) const;
  std::string nvml_double() const { return root_ + "/lib/nvml-double/libnvidia-ml.so.1"; }
  /// A file of the source tree, "" when there is no source tree or no such file.
  static std::string source(const std::string& path);
  const std::string& root() const { return root_; }

  PostgresServer& postgres();
  static constexpr int kNodes = 8;
  static constexpr int kSchedulerPlace = kNodes + 1;  // in the network, of a scheduler that can be cut off
  static bool may_use_network() { return geteuid_is_root(); }
  Network& network();

  std::string next_directory();  // of a cluster
  void keep();                   // for looking at after a failure

 private:
  Site();
  static bool geteuid_is_root();
  void stage();

  std::string root_;
  bool keep_ = false;
  int clusters_ = 0;
  Process janitor_;
  std::unique_ptr<PostgresServer> postgres_;
  std::unique_ptr<Network> network_;
};

}  // namespace tutti::e2e
