// The decision log of a scheduler: the witness that writes down what the control plane is told and what it
// makes of it, so that `tutti replay` can decide it again (docs/design/0017-decision-log.md,
// docs/decision-log.md).
//
// The control thread puts the bytes of a round together and hands them over once the round is committed; a
// thread of its own hashes, packs and writes. Nothing ever waits for it: what it cannot take is not recorded,
// from then on until the rows are loaded again, and it says so once. Scheduling never depends on it.
//
// Invariants: (1) what is written of a life of the control plane is its beginning and each of its committed
// rounds, up to some point, with nothing left out; (2) the files are never larger than max_bytes together,
// but for one block; (3) no more than kMostQueued bytes wait.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "scheduler/core/plane_witness.h"
#include "scheduler/decisions/segment_file.h"

namespace tutti::decisions {

struct DecisionLogSettings {
  std::filesystem::path directory;
  std::uint64_t max_bytes = std::uint64_t{1} << 30;
  Duration keep = std::chrono::hours(24 * 14);  // segments that ended longer ago go
  std::string fault_table;                      // as given with --fault-table; "" = the built-in one
  std::string version;
  Duration flush_every = std::chrono::seconds(1);
};

class DecisionLog : public PlaneWitness {
 public:
  static constexpr std::uint64_t kMostQueued = 64 << 20;
  static constexpr std::size_t kMostPieces = 100'000;

  explicit DecisionLog(DecisionLogSettings settings);
  ~DecisionLog() override;  // writes what waits
  DecisionLog(const DecisionLog&) = delete;
  DecisionLog& operator=(const DecisionLog&) = delete;

  // ---- PlaneWitness
  void began(const ControlSettings& settings, std::shared_ptr<const Snapshot> snapshot,
             const LeaseTable& leases, Now now) override;
  void called(std::size_t method, Now now, const void* const* arguments) override;
  void decided(const Output& output) override;
  void committed() override;

  bool records() const { return life_ > 0 && broken_life_ < life_; }

 private:
  struct Piece {
    std::shared_ptr<const Opening> opening;  // a new segment begins with it; else
    std::string inputs, output;              // a round
    bool thrown = false;                     // `inputs` says that one was thrown away
    std::uint64_t life = 0;                  // of the control plane
  };

  // Control thread.
  void see_leases(Now now);
  void hand_over(Piece piece);
  void break_off(std::uint64_t life);  // any thread
  // Its own thread.
  void run();
  void take(Piece& piece);
  void open(const Opening& opening);
  void flush();
  bool make_room(std::uint64_t bytes);
  void drop_old(Instant now);
  void stop_segment(const std::string& why);

  const DecisionLogSettings settings_;
  ByteWriter::Mask mask_;  // any thread

  // ---- control thread
  std::uint64_t life_ = 0;  // of the control plane that is recorded; 0 = none yet
  const LeaseTable* leases_ = nullptr;
  std::map<NodeId, SeenLease> seen_;
  std::map<NodeId, Mono> exact_until_;  // nodes that were silent lately: their leases are told to the point
  Mono others_until_{};
  Now last_;
  Piece round_;
  std::uint64_t inputs_ = 0;  // of the round

  // ---- both
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> queue_;
  std::uint64_t queued_ = 0;  // bytes
  bool stopping_ = false;
  std::atomic<std::uint64_t> broken_life_ = 0;  // the last one whose record has ended before its time

  // ---- its own thread
  std::unique_ptr<SegmentWriter> segment_;
  std::uint64_t segment_life_ = 0;
  std::string content_;  // not yet written
  bool complained_ = false;
  std::thread thread_;
};

}  // namespace tutti::decisions
