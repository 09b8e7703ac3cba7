// The helper process that owns NVML, because NVML calls can hang in the driver: the worker starts it, reads
// its lines (probe_messages.h), and kills it when no Alive came within a deadline. One Probe per process.
//
// Threads: run() polls, samples and answers commands; EventWatch waits for NVML's events; a third reads
// commands.
//
// Invariants
// 1. Alive is written only after the NVML calls of a poll have returned, and only while the event wait
// returns too:
//    a hang anywhere silences it.
// 2. One GPU that fails never stops the look at the others.
// 3. A condition is told once when it begins and once when it ends; an Inventory starts the count anew.
// 4. Without a usable library the probe lives on and tries again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "worker/nvml/event_watch.h"
#include "worker/nvml/health.h"
#include "worker/nvml/inventory.h"
#include "worker/nvml/probe_lines.h"

namespace tutti::nvml {

struct ProbeOptions {
  std::string library;  // empty: the system's
  std::chrono::milliseconds poll{1000};
  std::chrono::milliseconds sample{5000};
  std::chrono::milliseconds deep{30'000};  // at the next sample after that, and after each event
  std::chrono::milliseconds retry{3000};
  std::chrono::milliseconds event_stall{5000};    // the event wait returns every second when all is well
  std::map<std::string, std::uint64_t> links_up;  // UUID → as an earlier probe told it in its last sample
};

class Probe {
 public:
  Probe(ProbeOptions options, int input, int output);
  [[noreturn]] void run();

 private:
  using Clock = std::chrono::steady_clock;
  struct Watched {
    NamedDevice device;
    Conditions brief;
    Conditions close;
    Conditions deep;
    std::uint64_t links_up = 0;
  };

  void open_session();
  void close_session();
  void become_unavailable(std::string reason, std::optional<Return> code);
  void poll(bool closely);
  bool inventory_changed(bool closely);  // or the library stopped working; both end the session
  bool slices_changed() const;
  void look_at(Watched& gpu, bool closely, bool deeply);
  void tell(const Watched& gpu, Conditions& before, Conditions now);
  void sample();
  void say_alive();
  void answer(const ProcessesCommand& command);
  void on_event(const EventData& data);
  void look_soon();
  // Waits for the next poll, a command or an event, and serves the commands. True when an event asks for a
  // look.
  bool wait_until(Clock::time_point until);

  ProbeOptions options_;
  int input_;
  LineWriter out_;
  std::string last_unavailable_;

  // The session: from a successful init to shutdown. Poll thread only.
  std::unique_ptr<Library> library_;
  unsigned unidentified_ = 0;
  Clock::time_point next_deep_{};
  std::map<std::string, std::uint64_t> links_up_;  // of earlier sessions, and earlier probes
  unsigned named_ = 0;                             // GPUs; gpus_ has their slices
  std::vector<Watched> gpus_;
  std::unique_ptr<EventWatch> events_;

  std::mutex mutex_;  // guards what follows, shared with the other threads
  std::condition_variable wake_;
  std::deque<ProcessesCommand> commands_;
  bool look_now_ = false;
  std::vector<NamedDevice> names_;  // to name the GPU of an event
};

}  // namespace tutti::nvml
