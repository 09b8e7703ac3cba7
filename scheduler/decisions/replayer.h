// One segment of the decision log, decided again: the real control plane, the same inputs, the same clocks,
// and leases as it saw them then. Whether each decision is the same byte for byte is what the digests say.
//
// Used by the command line (cli/decisions) and by tests; one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/decisions/segment_file.h"

namespace tutti::decisions {

// One round of the writer, decided again.
struct Round {
  std::uint64_t number = 0;  // in the segment; the first is 1
  Now now;
  std::vector<std::string_view> inputs;  // names of the methods, in their order
  std::optional<Digest> recorded, replayed;
  Output output;  // of the replay

  bool same() const { return recorded == replayed; }
};

class Replayer {
 public:
  // Throws SegmentError (no such file, damaged, or of a program with other structs) and BadBytes.
  explicit Replayer(std::filesystem::path segment);
  Replayer(const Replayer&) = delete;
  Replayer& operator=(const Replayer&) = delete;

  // Nothing could be read of how it begins: the program died as it wrote that, or writes it now.
  bool empty() const { return plane_ == nullptr; }
  const Opening& opening() const { return opening_; }
  const std::string& version() const { return file_.version(); }
  const std::filesystem::path& path() const { return file_.path(); }

  // Decides the next round; nullopt at the end, and before a round that is later than `until`.
  std::optional<Round> next(std::optional<Instant> until = std::nullopt);
  // After the last one: it breaks off in the middle of something.
  bool torn() const { return torn_; }
  // The store did not take the last round, which had so many inputs: it never was.
  std::optional<std::uint64_t> thrown_away() const { return thrown_; }

  const ControlPlane& plane() const { return *plane_; }
  Now now() const { return now_; }  // of the last round

 private:
  struct Waiting {  // a round that is read, not decided
    Now now;
    struct Input {
      std::size_t method = 0;
      Now now;
      Call call;
      std::optional<LeaseChanges> leases;
    };
    std::vector<Input> inputs;
    std::optional<Digest> digest;
  };
  bool read_round();
  void see_leases(Now now);

  SegmentReader file_;
  ByteReader in_;
  Opening opening_;
  std::unique_ptr<LeaseTable> leases_;
  std::map<NodeId, SeenLease> seen_;
  std::unique_ptr<ControlPlane> plane_;
  Now now_, read_at_;  // of the last round; of the last record
  std::optional<Waiting> waiting_;
  std::uint64_t rounds_ = 0;
  bool torn_ = false;
  std::optional<std::uint64_t> thrown_;
};

}  // namespace tutti::decisions
