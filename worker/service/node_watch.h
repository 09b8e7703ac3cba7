// The worker's eyes for everything of its machine but the GPUs: kernel log, links, memory, disks, shared file
// systems. Lives on the worker's thread; the kernel log has a thread of its own, sysfs another, and paths are
// looked at by helper processes, so that nothing here can hang the worker. What it finds goes to the core.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "scheduler/model/protocol.h"
#include "worker/node/kernel_inbox.h"
#include "worker/node/kernel_reader.h"
#include "worker/node/links.h"
#include "worker/node/space.h"
#include "worker/service/path_check.h"
#include "worker/service/settings.h"

namespace tutti::worker {

class NodeWatch {
 public:
  struct Events {
    std::function<void(const std::string& kind, const std::string& subject, const std::string& detail)>
        on_condition;
    std::function<void(const std::string& kind, const std::string& subject)> on_over;
    std::function<void(const std::string& kind, const std::string& detail)> on_incident;
    std::function<void(const node::KernelFinding&)>
        on_finding;  // news only: not what a former worker has told, or what is older than any
    /// All records up to this number have been looked at, and what they say has been told by on_finding.
    std::function<void(std::uint64_t)> on_log_read;
  };
  /// `log_read`: what a former worker's on_log_read said last, on this boot.
  NodeWatch(boost::asio::io_context& io, const Settings& settings, std::optional<std::uint64_t> log_read,
            Events events);
  ~NodeWatch();
  void start();

  /// The kernel log between two instants of CLOCK_BOOTTIME, as far as it is kept.
  std::string kernel_slice(std::int64_t from_boot_us, std::int64_t until_boot_us) const;

  /// Quick checks before an attempt: `folders` must be writable for its user. `why` "" = all is well.
  void gate(std::vector<std::string> folders, const Account& user, std::function<void(std::string why)> done);
  /// All checks, the gate's among them.
  void inspect(std::function<void(std::vector<protocol::CheckResult>)> done);

 private:
  struct Looked {  // by the thread for sysfs
    std::vector<node::LinkSample> links;
    std::optional<node::MemoryFacts> memory;
  };
  struct Wanted {  // one look at a path
    std::string name, owner;
    std::vector<std::string> words;
  };
  using Results = std::vector<protocol::CheckResult>;

  void start_kernel_log();
  void hear_kernel();
  void look();
  void on_looked(const Looked& looked);
  void look_at_disks();
  void on_space(const std::string& path, const PathChecks::Answer& answer);
  void on_file(const std::string& path, const PathChecks::Answer& answer);
  void set(bool holds, const std::string& kind, const std::string& subject, const std::string& detail,
           const std::string& look = "");
  bool said(const std::string& kind, const std::string& subject) const {
    return holding_.contains({kind, subject});
  }
  std::vector<std::string> disks() const;
  std::vector<std::string> interfaces() const;
  void run_all(std::vector<Wanted> wanted, std::function<void(Results)> done);
  protocol::CheckResult judge(const Wanted& wanted, const PathChecks::Answer& answer) const;
  static Results check_limits();

  boost::asio::io_context& io_;
  const Settings& settings_;
  const Events events_;
  PathChecks paths_;
  node::KernelInbox kernel_;
  std::unique_ptr<node::KernelReader> kernel_log_;
  node::LinkWatch links_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  boost::asio::steady_timer look_timer_, disk_timer_;
  bool looking_ = false;
  std::int64_t looking_since_us_ = 0;
  // Conditions said: (kind, subject) → the looks that find it. One path may be looked at in several ways.
  std::map<std::pair<std::string, std::string>, std::set<std::string>> holding_;
  std::vector<node::LinkSample> last_links_;
  boost::asio::thread_pool sysfs_{1};
};

}  // namespace tutti::worker
