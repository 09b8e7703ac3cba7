// A block:  version, flags, first bucket of all, number of lines, lines
// A line:   name (its number, or 0 and its text), item (from the line before), number of points, runs
// A run:    distance from the bucket before, number of buckets one after the other, their values. Where all
//           points of a line are one run, the number of points says so and the run's own is left out.
// A value:  mean, min and max as whole numbers, each as its difference from the one before
// Numbers are variable-length, seven bits a byte; signed ones are folded: 0, -1, 1, -2, …
#include "scheduler/core/series_codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace tutti {
namespace {

using series::Block;
using series::Key;
using series::Line;
using series::Point;

constexpr char kVersion = 1;
constexpr std::uint64_t kSimulated = 1;
constexpr std::uint64_t kMostPoints = 100'000;        // of one line of one block; more is damage
constexpr std::int64_t kMostBucket = 10'000'000'000;  // of any tier: thousands of years
constexpr double kMebibyte = 1024.0 * 1024.0;

// Numbers of names are stored: add at the end only. 0 is a name in letters.
struct Known {
  std::string_view name;
  double quantum;
};
constexpr std::array kKnown = {
    Known{"", 0},
    Known{series::kUtilisation, 0.5},
    Known{series::kMemory, kMebibyte},
    Known{series::kPower, 0.5},
    Known{series::kTemperature, 0.5},
    Known{series::kStep, 1},
    Known{series::kStepSeconds, 0},
    Known{series::kComputeSeconds, 0},
    Known{"loss", 0},
    Known{"throughput", 0},
};

// As whole numbers that are near to each other when the values are.
std::int64_t fold(double value, double quantum) {
  constexpr double kMost = 1e15;
  if (quantum > 0) return std::llround(std::clamp(value / quantum, -kMost, kMost));
  constexpr double kLargest = std::numeric_limits<float>::max();
  const auto bits = std::bit_cast<std::int32_t>(static_cast<float>(std::clamp(value, -kLargest, kLargest)));
  return bits >= 0 ? bits : std::int64_t{std::numeric_limits<std::int32_t>::min()} - bits;
}

double unfold(std::int64_t n, double quantum) {
  if (quantum > 0) return static_cast<double>(n) * quantum;
  constexpr std::int64_t kLowest = std::numeric_limits<std::int32_t>::min();
  constexpr std::int64_t kHighest = std::numeric_limits<std::int32_t>::max();
  n = std::clamp(n, kLowest, kHighest);  // others are damage
  return std::bit_cast<float>(static_cast<std::int32_t>(n >= 0 ? n : kLowest - n));
}

class Writer {
 public:
  void plain(std::uint64_t n) {
    for (; n >= 128; n >>= 7) out_ += static_cast<char>((n & 127) | 128);
    out_ += static_cast<char>(n);
  }
  void signed_number(std::int64_t n) {
    plain((static_cast<std::uint64_t>(n) << 1) ^ static_cast<std::uint64_t>(n >> 63));
  }
  void text(std::string_view s) {
    plain(s.size());
    out_ += s;
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

struct Damaged {};  // thrown inside this file only

class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  bool end() const { return in_.empty(); }
  std::uint64_t plain() {
    std::uint64_t n = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (in_.empty()) throw Damaged{};
      const auto byte = static_cast<unsigned char>(in_.front());
      in_.remove_prefix(1);
      n |= static_cast<std::uint64_t>(byte & 127) << shift;
      if (byte < 128) return n;
    }
    throw Damaged{};
  }
  std::int64_t signed_number() {
    const std::uint64_t n = plain();
    return static_cast<std::int64_t>((n >> 1) ^ (0 - (n & 1)));
  }
  std::string text(std::size_t most) {
    const std::uint64_t size = plain();
    if (size > most || size > in_.size()) throw Damaged{};
    const std::string out(in_.substr(0, size));
    in_.remove_prefix(size);
    return out;
  }

 private:
  std::string_view in_;
};

// Of damaged numbers too, which may be anything.
std::int64_t sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

std::size_t number_of(std::string_view name) {
  for (std::size_t i = 1; i < kKnown.size(); ++i)
    if (kKnown[i].name == name) return i;
  return 0;
}

std::size_t run_at(const Line& line, std::size_t begin) {
  std::size_t end = begin + 1;
  while (end < line.points.size() && line.points[end].bucket == line.points[end - 1].bucket + 1) ++end;
  return end - begin;
}

void write_line(Writer& out, const Line& line, std::int64_t bucket, std::int64_t item) {
  const std::size_t number = number_of(line.key.name);
  out.plain(number);
  if (number == 0) out.text(line.key.name);
  out.signed_number(sum(line.key.item, -item));
  const bool one = !line.points.empty() && run_at(line, 0) == line.points.size();
  out.plain(line.points.size() << 1 | (one ? 1 : 0));
  const double quantum = kKnown[number].quantum;
  std::int64_t last = 0;
  for (std::size_t begin = 0; begin < line.points.size();) {
    const std::size_t run = run_at(line, begin);
    out.signed_number(line.points[begin].bucket - bucket);
    if (!one) out.plain(run);
    for (const std::size_t end = begin + run; begin < end; ++begin) {
      const Point& p = line.points[begin];
      const std::int64_t mean = fold(p.mean, quantum);
      out.signed_number(mean - last);
      out.signed_number(fold(p.min, quantum) - mean);
      out.signed_number(fold(p.max, quantum) - mean);
      last = mean;
      bucket = p.bucket;
    }
  }
}

/// The item of the line.
std::int64_t read_line(Reader& in, bool simulated, std::int64_t bucket, std::int64_t item, SeriesSink& sink) {
  const std::uint64_t number = in.plain();
  if (number >= kKnown.size()) throw Damaged{};  // or of a newer version
  Key key;
  key.name = number == 0 ? in.text(series::kMaxName) : std::string(kKnown[number].name);
  if (!series::is_name(key.name)) throw Damaged{};
  key.item = sum(item, in.signed_number());
  const std::uint64_t points = in.plain();
  std::uint64_t left = points >> 1;
  if (left > kMostPoints) throw Damaged{};
  const double quantum = kKnown[number].quantum;
  const bool wanted = sink.line(key, simulated);
  std::int64_t mean = 0;
  while (left > 0) {
    bucket = sum(bucket, in.signed_number());
    const std::uint64_t run = (points & 1) != 0 ? left : in.plain();
    if (run == 0 || run > left) throw Damaged{};
    for (std::uint64_t i = 0; i < run; ++i) {
      if (i > 0) bucket = sum(bucket, 1);
      if (bucket > kMostBucket || bucket < -kMostBucket) throw Damaged{};
      mean = sum(mean, in.signed_number());
      const std::int64_t min = sum(mean, in.signed_number()), max = sum(mean, in.signed_number());
      if (!wanted) continue;
      Point p{.bucket = bucket};
      p.mean = unfold(mean, quantum);
      p.min = unfold(min, quantum);
      p.max = unfold(max, quantum);
      if (!std::isfinite(p.mean) || !std::isfinite(p.min) || !std::isfinite(p.max)) throw Damaged{};
      sink.point(p);
    }
    left -= run;
  }
  return key.item;
}

}  // namespace

double quantum_of(std::string_view name) { return kKnown[number_of(name)].quantum; }

std::string encode_block(const Block& block) {
  Writer out;
  out.plain(kVersion);
  out.plain(block.simulated ? kSimulated : 0);
  std::int64_t first = 0, item = 0;
  for (const Line& line : block.lines)
    if (!line.points.empty() && (first == 0 || line.points[0].bucket < first)) first = line.points[0].bucket;
  out.signed_number(first);
  out.plain(block.lines.size());
  for (const Line& line : block.lines) {
    write_line(out, line, first, item);
    item = line.key.item;
  }
  return out.take();
}

bool decode_blocks(std::string_view bytes, SeriesSink& sink) {
  Reader in(bytes);
  try {
    while (!in.end()) {
      if (in.plain() != kVersion) return false;
      const bool simulated = (in.plain() & kSimulated) != 0;
      const std::int64_t first = in.signed_number();
      std::int64_t item = 0;
      for (std::uint64_t lines = in.plain(); lines > 0; --lines)
        item = read_line(in, simulated, first, item, sink);
    }
  } catch (const Damaged&) {
    return false;
  }
  return true;
}

}  // namespace tutti
