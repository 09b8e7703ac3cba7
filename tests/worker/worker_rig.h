// Real tutti-worker processes and a scheduler that does what the test says: a WebSocket server on its own
// thread that remembers all messages. Every wait has a deadline and waits for a message, a pidfd or a file
// event, never for time.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "scheduler/model/job_spec.h"
#include "scheduler/model/protocol.h"

namespace tutti::worker::testing {

inline constexpr std::chrono::seconds kPatience{30};

std::string binary(const std::string& name);   // of this build
std::string library(const std::string& name);  // likewise

class FakeScheduler {
 public:
  FakeScheduler();
  ~FakeScheduler();
  std::uint16_t port() const;

  // What the next Hello is answered with, and whether heartbeats are acknowledged.
  std::int64_t lease_us = 30'000'000;
  std::int64_t heartbeat_us = 100'000;
  void keep(const std::string& node, std::vector<AttemptKey> attempts);
  void acknowledge(bool yes);
  void cut(const std::string& node);             // its connection
  void lead(std::int64_t term);                  // from the next Hello on
  void stand_by(const std::string& leader_url);  // likewise: it sends workers there
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port()); }

  void send(const std::string& node, const protocol::ToWorker& message);

  // The next message of this kind from this node that is as wanted; those of this kind before it are passed
  // over. Throws
  // std::runtime_error, with what came, when there is none in time.
  template <class T>
  T wait(
      const std::string& node, const std::function<bool(const T&)>& wanted = [](const T&) { return true; }) {
    T found;
    wait_any(node, protocol::FromWorker(T()).index(), [&](const protocol::FromWorker& m) {
      found = std::get<T>(m);
      return wanted(found);
    });
    return found;
  }
  protocol::AttemptStatus wait_phase(const std::string& node, AttemptKey key, protocol::Phase phase);
  protocol::AttemptStatus wait_end(const std::string& node, AttemptKey key) {
    return wait_phase(node, key, protocol::Phase::ended);
  }
  std::size_t count(const std::string& node, const std::string& type);  // of messages so far

 private:
  void wait_any(const std::string& node, std::size_t kind,
                const std::function<bool(const protocol::FromWorker&)>& take);
  struct State;
  std::unique_ptr<State> state_;
};

class WorkerProcess {
 public:
  WorkerProcess(const FakeScheduler& scheduler, std::string node,
                std::vector<std::string> more = {"--no-gpus"});
  ~WorkerProcess();  // kills it and all it has started

  void start();
  void kill(int signal);  // and waits for its end
  pid_t pid() const { return pid_; }
  const std::string& node() const { return node_; }
  const std::string& dir() const { return dir_; }
  std::string attempt_dir(AttemptKey key) const;
  std::string scratch(const std::string& name) const {
    return dir_ + "/scratch/" + name;
  }  // jobs may write it
  std::map<std::string, std::string> env;  // of the worker, beside ours

 private:
  std::uint16_t scheduler_port_;
  std::string node_, dir_;
  std::vector<std::string> more_;
  pid_t pid_ = 0;
};

// A process that is not reaped by us; whether it lives can be seen although its number might be used again.
class Pinned {
 public:
  explicit Pinned(pid_t pid);
  ~Pinned();
  Pinned(Pinned&&) noexcept;
  bool alive() const;
  bool dies_in(std::chrono::milliseconds time) const;

 private:
  int fd_;
};

/// The whole text of a file as soon as it ends with a newline; throws when that does not come to be.
std::string wait_for_file(const std::string& path);
void wait_until_exists(const std::string& path);                // likewise
std::string run_command(const std::vector<std::string>& argv);  // throws if its status is not 0

/// A Prepare for a gang on these nodes, `ranks` on each.
protocol::Prepare make_prepare(const JobSpec& spec, AttemptKey key, const std::vector<std::string>& nodes,
                               int index, int ranks);

}  // namespace tutti::worker::testing
