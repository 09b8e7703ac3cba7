// What was measured, for one question: points of one tier, in any order and from several sources, become
// lines of at most so many buckets. Pure.
//
// Called by: scheduler/service/series_record, by one thread at a time.
//   1. A point that comes twice changes nothing but the weight of the mean: sources may overlap.
//   2. However much is put in, what is held is bounded: with too many values the buckets become longer, of
//      too many items of a name the first ones stay, and `cut` says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/model/series.h"

namespace tutti {

struct SeriesQuery {
  struct Part {
    series::Owner owner;
    std::optional<std::set<std::int64_t>> items{};  // nullopt: all
  };
  std::vector<Part> parts;
  std::set<std::string> names{};  // empty: all
  Instant from, until;            // `from` before `until`
  std::int64_t points = 2'000;    // of one line, at most
};

struct SeriesFound {
  struct Value {
    std::int64_t bucket = 0;  // from `from` on
    double min = 0, max = 0, mean = 0;
  };
  struct Line {
    series::Kind kind = series::Kind::node;
    series::Key key;
    std::vector<Value> values;  // in order of time
  };
  Instant from, until;  // `from`: as it was asked for, or the begin of the stored bucket that this falls into
  Duration bucket{};
  bool simulated = false;
  bool cut = false;  // there is more
  std::vector<Line> lines;
};

struct SeriesBounds {
  std::size_t items = 256;      // of one name
  std::size_t names = 256;      // in all
  std::size_t values = 60'000;  // in all
};

/// Which tier answers best: the coarsest that is fine enough for so many points, coarser where it is not kept
/// for so long, or would take too many rows. `kept` says of each tier for how long.
std::size_t choose_tier(const SeriesQuery& query, const std::vector<Duration>& kept, Instant now,
                        std::size_t most_rows);

class SeriesMerge {
 public:
  SeriesMerge(const SeriesQuery& query, std::size_t tier, SeriesBounds bounds = {});

  void add(const series::Owner& owner, const series::Key& key, bool simulated, const series::Point& point);
  /// In two steps: `line`, and if that is wanted its points. The owner and the key stay until the next line.
  bool line(const series::Owner& owner, const series::Key& key, bool simulated);
  void add(const series::Point& point);
  void cut() { cut_ = true; }
  SeriesFound take();

 private:
  struct Sum {
    std::int64_t bucket = 0;
    double min = 0, max = 0, sum = 0;
    std::int64_t points = 0;
  };
  using Sums = std::vector<Sum>;  // by bucket
  using Name = std::pair<series::Kind, std::string>;

  bool is_asked_for(const series::Owner& owner, const series::Key& key) const;
  Sums* line_of(const series::Owner& owner, const series::Key& key);
  void put(Sums& line, const Sum& more);
  void coarsen();

  SeriesQuery query_;
  std::map<series::Owner, std::optional<std::set<std::int64_t>>> owners_;
  Duration step_;
  Instant begin_;
  Duration bucket_;
  SeriesBounds bounds_;
  bool simulated_ = false, cut_ = false;
  std::map<Name, std::map<std::int64_t, Sums>> lines_;  // name → item
  std::size_t values_ = 0;
  struct {  // whose points are being added
    const series::Owner* owner = nullptr;
    const series::Key* key = nullptr;
    bool simulated = false, refused = true;
    Sums* sums = nullptr;  // from its first point on
  } current_;
};

}  // namespace tutti
