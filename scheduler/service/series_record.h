// Keeps what is measured: samples are gathered in memory (scheduler/core/series_book), what is finished is
// written aside, and old rows are dropped; and answers what was measured, of both.
//
// Called by: worker_hub (samples), a timer of scheduler/parts.cpp and tests (step), the handlers (find).
// Control thread; rows are encoded, written, read and decoded aside, writes and reads each on a thread and a
// session of their own, so that the control plane waits for neither and neither for the other.
//   1. One write is under way at most, and it is bounded. What could not be written is written again as it
//      is: a point that is stored twice is read as one. Meanwhile the book gathers, up to its limits. What a
//      store that is there finds too much, again and again, is written in halves, and a single row is let go.
//   2. What is being written is still found: a reader sees no gap.
//   3. Samples are taken of the attempt that the control plane knows, and while this scheduler leads.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "api/handlers/backend.h"
#include "api/handlers/series_history.h"
#include "db/aside.h"
#include "db/series.h"
#include "scheduler/core/series_book.h"
#include "scheduler/service/sample_sink.h"

namespace tutti {

struct SeriesSettings {
  // Of each of series::kTiers.
  std::vector<Duration> keep = {std::chrono::hours(24), std::chrono::hours(24 * 14),
                                std::chrono::hours(24 * 365)};
  SeriesLimits limits;
  SeriesBounds bounds;                 // of one answer
  std::size_t owners_per_write = 200;  // in a second; two thousand nodes need ten
  std::size_t points_per_write = 100'000;  // about; a second or two of the store
  int refusals = 3;                        // "too much", before it is tried with less
  int forget_at_once = 2'000;              // rows
  // Of one answer. What would be more than that is answered from a coarser tier, and at the end cut.
  int rows_per_read = 2'048;
  std::int64_t bytes_per_read = 64LL << 20;
  std::size_t unsaved_per_read = 500'000;  // points that are not stored yet, of an owner and tier
  Duration read_for = std::chrono::seconds(8);
  std::function<void(std::string_view why, std::size_t n)> dropped{};  // is told what was not kept
  std::function<void(std::size_t rows, bool ok)> wrote{};
};

// A store of its own for each thread.
struct SeriesAside {
  Aside aside;
  std::shared_ptr<SeriesStore> store;
};

class SeriesRecord final : public SeriesHistory, public SampleSink {
 public:
  SeriesRecord(Backend& backend, SeriesAside writer, SeriesAside reader, SeriesSettings settings = {});

  void step();
  /// The last step: writes all there is, unless the store is known to be away. Its answer is not waited for.
  void finish();

  // ---- SampleSink
  void on_loads(NodeId node, const std::vector<protocol::GpuLoad>& loads) override;
  void on_progress(NodeId node, const protocol::Progress& progress) override;
  void on_ranks(NodeId node, const protocol::RankReport& report) override;

  // ---- SeriesHistory
  void find(SeriesQuery query, std::function<std::string(const SeriesFound&)> render,
            std::function<void(Result<std::string>)> done) override;
  std::optional<std::int32_t> utilisation(GpuId gpu, Mono now) const override;

 private:
  using Blocks = std::shared_ptr<const std::vector<series::Block>>;

  const GangMember* member_of(AttemptKey key, NodeId node) const;
  void add(const series::Owner& owner, bool simulated, std::string_view name, std::int64_t item,
           double value);
  void say_dropped(std::string_view why, std::size_t n);
  void write();
  void written(std::exception_ptr failure);
  void drop_first();
  void halve_first();
  void forget(Now now);

  Backend& backend_;
  SeriesAside writer_, reader_;
  SeriesSettings settings_;
  SeriesBook book_;
  struct Use {
    std::int32_t percent = 0;
    Mono at{};
  };
  std::map<GpuId, Use> uses_;    // the newest of each GPU that has told it
  std::deque<Blocks> to_write_;  // the first is being written, or will be again
  bool writing_ = false;
  int refusals_ = 0;  // of the first
  bool failing_ = false;
  struct Forgetting {
    std::optional<Mono> last;
    bool under_way = false;
  };
  std::array<Forgetting, series::kTiers.size()> forgetting_{};
  bool forget_failing_ = false;
  std::set<series::Owner> warned_;  // of what is too much; bounded
};

}  // namespace tutti
