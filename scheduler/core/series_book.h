// What is measured, gathered in buckets of time until it is written. One sample counts in a bucket of each
// tier, so that nothing has to be read again to make coarser ones. Pure: samples and the time go in, finished
// buckets come out.
//
// Called by: scheduler/service/series_record, on the control thread.
//   1. Everything is bounded: names of an item, lines of an owner, lines and points of all. What is too much
//      is not taken, and said so.
//   2. The buckets of a line are in order of time and each is there once: a sample that is a little
//      older than the bucket under way counts in that one. After one that is much older the clock was ahead,
//      and what was gathered for that time to come is let go.
//   3. An owner of whom nothing more comes is written to the end and forgotten.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "scheduler/core/series_codec.h"
#include "scheduler/model/series.h"

namespace tutti {

struct SeriesLimits {
  std::size_t names = 64;              // of one item
  std::size_t lines_of_owner = 8'192;  // of an attempt of a thousand ranks, eight
  std::size_t lines = 400'000;         // of all
  std::size_t points = 4'000'000;      // of all, not yet taken: what gathers while the store is away
};

enum class Taken : std::uint8_t {
  yes,
  bad_name,        // see series::is_name
  not_a_number,    // nor is it infinite
  too_many_names,  // of this item
  too_many_lines
};

/// What is wanted of an owner's measurements, and how much of it at most.
struct SeriesLook {
  std::size_t tier = 0;                           // and all coarser ones
  const std::set<std::int64_t>* items = nullptr;  // null: all
  const std::set<std::string>* names = nullptr;   // null: all
  Instant from, until;
  std::size_t items_of_name = SIZE_MAX;  // the first ones
  std::size_t points = SIZE_MAX;         // of a tier; the newest of each line
};

class SeriesBook {
 public:
  explicit SeriesBook(SeriesLimits limits = {}) : limits_(limits) {}

  Taken add(const series::Owner& owner, bool simulated, std::string_view name, std::int64_t item,
            double value, Instant at);

  /// Finished buckets of owners who are due, of so many owners and of about so many points at most; the next
  /// call goes on with those who have more.
  std::vector<series::Block> take(Instant now, std::size_t most_owners, std::size_t most_points = SIZE_MAX);
  /// Everything, buckets under way too. For the end.
  std::vector<series::Block> take_all();
  /// What has not been taken of one owner, the bucket under way too: a copy, a block of each tier.
  std::vector<series::Block> look(const series::Owner& owner, const SeriesLook& look) const;

  std::size_t owners() const { return owners_.size(); }
  std::size_t lines() const { return lines_; }
  std::size_t points() const { return points_; }
  /// Points that were let go since this was last asked: there were too many, or the clock was wrong.
  std::size_t take_lost() { return std::exchange(lost_, 0); }

 private:
  struct Bucket {  // under way
    std::int64_t number = 0;
    double min = 0, max = 0, sum = 0;
    std::int64_t samples = 0;  // 0: none is
  };
  struct Gathered {
    std::array<Bucket, series::kTiers.size()> open;
    std::array<std::vector<series::Point>, series::kTiers.size()> done;
  };
  struct Book {
    bool simulated = false;
    Instant last_at;                                       // of a sample
    std::array<Instant, series::kTiers.size()> written{};  // when it was last taken, or begun
    std::map<series::Key, Gathered> lines;
    std::map<std::int64_t, std::size_t> names;  // item → how many
  };

  static series::Point point_of(const Bucket& bucket);
  static bool has_more(const Book& book, std::size_t tier);  // that is finished
  static bool is_empty(const Book& book);
  static std::vector<series::Point> copy(const Gathered& line, std::size_t tier, const SeriesLook& look,
                                         std::size_t most);
  void finish(Gathered& line, std::size_t tier);
  void set_back(Book& book, Instant at);
  /// About so many points, the oldest; how many.
  std::size_t take_tier(const series::Owner& owner, Book& book, std::size_t tier, std::size_t most,
                        std::vector<series::Block>& out);

  SeriesLimits limits_;
  std::map<series::Owner, Book> owners_;
  std::size_t lines_ = 0, points_ = 0, lost_ = 0;
};

}  // namespace tutti
