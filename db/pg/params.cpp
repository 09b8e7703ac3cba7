#include "db/pg/params.h"

#include <algorithm>

namespace tutti::db {

namespace {

// Length of the valid UTF-8 sequence at `at`, 0 if there is none (also for NUL).
std::size_t sequence_length(std::string_view s, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(at);
  if (lead == 0) return 0;
  if (lead < 0x80) return 1;
  std::size_t length = 0;
  std::uint32_t point = 0;
  if ((lead & 0xE0) == 0xC0) {
    length = 2;
    point = lead & 0x1FU;
  } else if ((lead & 0xF0) == 0xE0) {
    length = 3;
    point = lead & 0x0FU;
  } else if ((lead & 0xF8) == 0xF0) {
    length = 4;
    point = lead & 0x07U;
  } else {
    return 0;
  }
  if (at + length > s.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
    point = point << 6 | (byte(at + i) & 0x3FU);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (point < kSmallest[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return 0;
  return length;
}

constexpr std::int64_t kPostgresEpochMicros = 946684800LL * 1000000;  // 2000-01-01 in Unix time

}  // namespace

bool is_clean_text(std::string_view s) {
  for (std::size_t i = 0; i < s.size();) {
    const std::size_t n = sequence_length(s, i);
    if (n == 0) return false;
    i += n;
  }
  return true;
}

std::string clean_text(std::string_view s) {
  std::string out;
  out.reserve(s.size() + 8);
  for (std::size_t i = 0; i < s.size();) {
    const std::size_t n = sequence_length(s, i);
    if (n == 0) {
      out += "\xEF\xBF\xBD";
      ++i;
    } else {
      out.append(s, i, n);
      i += n;
    }
  }
  return out;
}

namespace binary {

std::int64_t postgres_micros(Instant at) { return at.time_since_epoch().count() - kPostgresEpochMicros; }
Instant from_postgres_micros(std::int64_t micros) {
  constexpr std::int64_t kFirst = -62'135'596'800'000'000,
                         kLast = 253'402'300'799'999'999;  // of years 1, 9999
  return Instant(Duration(std::clamp(micros, kFirst - kPostgresEpochMicros, kLast - kPostgresEpochMicros) +
                          kPostgresEpochMicros));
}

}  // namespace binary

using binary::put;

namespace {
constexpr std::size_t kHeader = 20;  // dimensions, has-null flag, element type, size, lower bound
}

ArrayParam::ArrayParam(SqlType type, std::size_t rows) {
  bytes_.reserve(kHeader + rows * 12);
  put(bytes_, std::uint32_t{1});
  put(bytes_, std::uint32_t{0});
  put(bytes_, static_cast<std::uint32_t>(type));
  put(bytes_, std::uint32_t{0});
  put(bytes_, std::uint32_t{1});
}

void ArrayParam::add_smallint(std::int16_t v) {
  put(bytes_, std::uint32_t{2});
  put(bytes_, static_cast<std::uint16_t>(v));
  ++count_;
}
void ArrayParam::add_integer(std::int32_t v) {
  put(bytes_, std::uint32_t{4});
  put(bytes_, static_cast<std::uint32_t>(v));
  ++count_;
}
void ArrayParam::add_bigint(std::int64_t v) {
  put(bytes_, std::uint32_t{8});
  put(bytes_, static_cast<std::uint64_t>(v));
  ++count_;
}
void ArrayParam::add_boolean(bool v) {
  put(bytes_, std::uint32_t{1});
  put(bytes_, static_cast<std::uint8_t>(v ? 1 : 0));
  ++count_;
}
void ArrayParam::add_text(std::string_view v) {
  if (!is_clean_text(v)) {
    const std::string clean = clean_text(v);
    put(bytes_, static_cast<std::uint32_t>(clean.size()));
    bytes_ += clean;
  } else {
    put(bytes_, static_cast<std::uint32_t>(v.size()));
    bytes_ += v;
  }
  ++count_;
}
void ArrayParam::add_bytea(Bytes v) {
  put(bytes_, static_cast<std::uint32_t>(v.bytes.size()));
  bytes_ += v.bytes;
  ++count_;
}
void ArrayParam::add_timestamptz(Instant v) { add_bigint(binary::postgres_micros(v)); }
void ArrayParam::add_null() {
  put(bytes_, ~std::uint32_t{0});
  has_null_ = true;
  ++count_;
}

std::string ArrayParam::take() && {
  const auto set = [this](std::size_t at, std::uint32_t v) {
    std::string word;
    put(word, v);
    bytes_.replace(at, 4, word);
  };
  if (count_ == 0) {  // an empty array has no dimension
    set(0, 0);
    bytes_.resize(12);
  } else {
    set(4, has_null_ ? 1 : 0);
    set(12, static_cast<std::uint32_t>(count_));
  }
  return std::move(bytes_);
}

Params& Params::push(std::string value) {
  values_.push_back(std::move(value));
  null_.push_back(false);
  return *this;
}
Params& Params::bigint(std::int64_t v) {
  std::string s;
  put(s, static_cast<std::uint64_t>(v));
  return push(std::move(s));
}
Params& Params::integer(std::int32_t v) {
  std::string s;
  put(s, static_cast<std::uint32_t>(v));
  return push(std::move(s));
}
Params& Params::text(std::string_view v) { return push(clean_text(v)); }
Params& Params::timestamptz(std::optional<Instant> v) {
  if (v) return bigint(binary::postgres_micros(*v));
  push("");
  null_.back() = true;
  return *this;
}
Params& Params::array(ArrayParam column) { return push(std::move(column).take()); }

const std::vector<const char*>& Params::pointers() {
  pointers_.clear();
  for (std::size_t i = 0; i < values_.size(); ++i)
    pointers_.push_back(null_[i] ? nullptr : values_[i].c_str());
  return pointers_;
}
const std::vector<int>& Params::lengths() {
  lengths_.clear();
  for (const auto& v : values_) lengths_.push_back(static_cast<int>(v.size()));
  return lengths_;
}
const std::vector<int>& Params::formats() {
  formats_.assign(values_.size(), 1);
  return formats_;
}

}  // namespace tutti::db
