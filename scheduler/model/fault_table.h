// What is done about GPU faults, as data: fault_table.csv, embedded in the binaries, replaced with
// `tutti-scheduler --fault-table FILE`. A verdict names its table (version, hash) and row. The scheduler
// alone judges; workers are told which faults to remember over a reset (protocol::Welcome).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "scheduler/model/error.h"

namespace tutti {

enum class FaultJob : std::uint8_t {
  none,   // the gang lives or dies by its ranks
  leave,  // ends at its next checkpoint, restarts elsewhere
  stop    // killed now, restarts elsewhere
};
enum class FaultGpu : std::uint8_t {
  none,       // recorded only
  watch,      // recorded, counts against the GPU by its weight
  quarantine  // no work until a reset or a person
};
enum class FaultBlame : std::uint8_t {
  hardware,
  user,
  infra,
  unknown,
  symptom
};

struct FaultRule {
  std::string fault;  // "xid:79", "gpu_lost", …
  FaultJob job = FaultJob::none;
  FaultGpu gpu = FaultGpu::watch;
  bool whole_island = false;  // all GPUs that share its NVLink
  FaultBlame blame = FaultBlame::unknown;
  double weight = 0;    // added to the blame of GPU and node, 0..1
  bool shadow = false;  // only say what would have been done
  std::string meaning;

  bool acts() const { return job != FaultJob::none || gpu == FaultGpu::quarantine; }
};

// What the row of such a fault says was done: "quarantine, stop", and where it was not, why: "shadow: …" (the
// rule only tells), "brake: …" (it was on too many nodes), "folded: …" (of an event that another has told).
std::string fault_action(const FaultRule& rule, bool braked, bool folded);

class FaultTable {
 public:
  // Errors name line and column of the file.
  static Result<FaultTable> parse(std::string_view csv);
  static const FaultTable& built_in();

  // `kind` as in protocol::GpuFault. There is always a rule: the row of what is not known.
  const FaultRule& judge(std::string_view kind, std::int32_t xid) const;
  // By a worker's words, which begin with the fault: "Xid 79: …", "gpu_lost: …".
  const FaultRule& judge_reason(std::string_view reason) const;

  // Version, and FNV-1a of the text: "2026-11-2#1a2b3c4d".
  std::string id() const { return version_ + "#" + hash_.substr(0, 8); }
  // (class, action) of every fault row that it may lead to; of kinds that it does not name, none.
  std::set<std::pair<std::string, std::string>> outcomes() const;
  // Its rows in shadow mode, named as fault rows name them: "2026-11-2#1a2b3c4d xid:79".
  std::vector<std::string> shadow_rows() const;

  // Faults that a worker is to remember until a reset. Where what is not known is one of them ("xid:*", "*"),
  // those that the table knows and lets pass follow as "!xid:13".
  std::vector<std::string> quarantining() const;

 private:
  std::string version_, hash_;
  std::map<std::string, FaultRule, std::less<>> rules_;
};

std::string fault_key(std::string_view kind, std::int32_t xid);
// Whether a fault is one of those that quarantining() has told.
bool is_listed(const std::set<std::string, std::less<>>& quarantining, std::string_view kind,
               std::int32_t xid);
std::string_view name(FaultJob);
std::string_view name(FaultGpu);
std::string_view name(FaultBlame);

}  // namespace tutti
