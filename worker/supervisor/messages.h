// What a worker and the supervisor of one attempt say to each other: JSON, one object a line, over the
// supervisor's unix stream socket `<attempt dir>/supervisor.sock`. The worker connects, as often as it
// likes; on connect the supervisor sends its whole Status, and again after each change. The supervisor
// needs nobody: it holds its own copy of the lease deadline and of the kill order.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/protocol.h"

namespace tutti::supervisor {

struct Device {
  std::string path;  // held with an exclusive flock while the attempt lives (regular files only: simulated)
  std::string uuid;
  bool simulated = false;
};

// Read once at start from `<attempt dir>/supervise.json`, written by the worker before it spawns us.
struct Config {
  AttemptKey key;
  std::string dir;                 // the attempt's directory
  std::uint32_t uid = 0, gid = 0;  // whom setup and ranks run as
  std::vector<std::uint32_t> groups;
  std::string user, home,
      shell;                 // of that account; user "": an older worker, who left it to us to look it up
  bool allow_root = false;   // uid may be 0
  bool private_tmp = false;  // a /tmp and a /var/tmp of its own
  std::int64_t memory_bytes = 0;  // of all its processes together, where a cgroup can hold them to it; 0: any
  std::int64_t shm_bytes = -1;  // a tmpfs at <dir>/shm, of so many bytes (0: half the memory); -1: none
  std::string programs;           // folder of tutti-rank and the others
  std::string workdir;            // "" = the attempt's directory
  std::string setup;              // shell line, run once before `ready`; "" = none
  std::int64_t setup_timeout_us = 600'000'000;
  std::map<std::string, std::string> env;  // of setup (ranks bring their own)
  std::vector<Device> devices;
  std::int32_t first_rank = 0;
  std::int32_t local_ranks = 0;   // how many ranks will report in here
  bool listen_agent = false;      // accept a launch agent's command line (mpirun, nodes other than the first)
  std::string listen_address;     // for agent and master port
  std::string secret;             // what an agent must show
  bool pick_master_port = false;  // first node: choose a free port for the rendezvous
  std::string lease_path;  // file with one little-endian int64: CLOCK_BOOTTIME µs at which all must be dead
  std::string kill_mode = "auto";  // "auto" | "cgroup2" | "process-group"
  std::string cgroup_parent;       // "" = find the own cgroup v2 directory
};

struct Process {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;  // complete
  std::string log;                         // file under the attempt's directory for its stdout and stderr
  bool is_rank = false;  // started under tutti-rank, which writes the rank's own log and reports its exit
};

// worker → supervisor
struct Launch {
  std::vector<Process> processes;  // may be none: ranks then come by the launch agent
};
struct Stop {
  std::string cause;
  std::string signal;  // name without SIG; "" or "KILL": at once
  std::int64_t grace_us = 0;
};
struct SignalRanks {  // once, to the ranks that are up; nothing ends by it
  std::string signal;
};
struct Quit {};  // its end is known and committed: clean up and exit
// A person's command in a running attempt: `argv` is tutti-shell's, whose socket is `<attempt dir>/<socket>`,
// where the worker waits. Why it does not come to be is said over that socket.
struct OpenShell {
  std::int64_t shell = 0;  // number, for its own part of the cgroup
  std::string socket;
  std::int32_t rank = -1;  // whose environment; -1: of the first that runs here
  std::vector<std::string> argv;
  std::string term;  // TERM, "" = as it is
};
using ToSupervisor = std::variant<Launch, Stop, Quit, OpenShell, SignalRanks>;

// One rank that has come up, and how it ended.
struct RankState {
  std::int32_t rank = 0;
  std::int32_t pid = 0;  // of its program
  bool ended = false;
  std::int32_t exit_code = 0;
  std::int32_t signal = 0;
  std::int64_t ended_boot_us = 0;
};

// supervisor → worker; also persisted as `<attempt dir>/state.json` (write-then-rename) at each change
struct Status {
  protocol::Phase phase = protocol::Phase::preparing;
  std::int32_t agent_port = 0;
  std::int32_t master_port = 0;
  std::int32_t ranks_up = 0;
  std::int32_t ranks_done = 0;
  std::string kill_mode;  // the one in use: "cgroup2" or "process-group"
  std::optional<protocol::Failure> failure;
  std::optional<protocol::End> end;
  std::int32_t pid = 0;  // of the supervisor
  std::vector<RankState> ranks{};
};

std::string encode(const ToSupervisor&);  // one line with its newline
std::string encode(const Status&);
std::string encode(const Config&);
// Throw std::invalid_argument with the reason on anything malformed.
ToSupervisor decode_command(std::string_view line);
Status decode_status(std::string_view line);
Config decode_config(std::string_view text);

}  // namespace tutti::supervisor
