#include "worker/supervisor/checkpoint_manifest.h"

#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <set>

#include "worker/supervisor/whole_number.h"

namespace tutti::supervisor {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxName = 1024;
constexpr double kMaxSaveSeconds = 7 * 24 * 3600;

std::string read_shard(const json::value& v, Shard& shard) {
  const auto* o = v.if_object();
  if (o == nullptr) return "is no object";
  const auto* file = o->if_contains("file");
  if (file == nullptr || !file->is_string()) return "has no 'file'";
  shard.file = std::string(std::string_view(file->get_string()));
  if (auto why = why_no_shard_name(shard.file); !why.empty()) return why;
  const auto bytes = whole_number(*o, "bytes");
  if (!bytes || *bytes < 0) return "has no 'bytes' (a whole number, not negative)";
  shard.bytes = *bytes;
  const auto* crc = o->if_contains("crc32c");
  if (crc == nullptr || crc->is_null()) return "";
  if (crc->is_string()) shard.crc32c = parse_crc(crc->get_string());
  if (!shard.crc32c) return "'crc32c' must be a text of 8 hexadecimal digits";
  return "";
}

std::string read_list(const json::array& list, Manifest& m) {
  if (list.size() > kMaxShards)
    return "lists " + std::to_string(list.size()) + " shards, more than " + std::to_string(kMaxShards);
  std::set<std::string> names;
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    Shard shard;
    auto why = read_shard(list[i], shard);
    if (why.empty() && !names.insert(shard.file).second) why = "'" + shard.file + "' is listed twice";
    if (why.empty() && shard.bytes > INT64_MAX - sum) why = "'bytes' is out of range";
    if (!why.empty()) return "shards[" + std::to_string(i) + "]: " + why;
    sum += shard.bytes;
    m.list.push_back(std::move(shard));
  }
  if (m.bytes != 0 && m.bytes != sum)
    return "says " + std::to_string(m.bytes) + " bytes, its shards have " + std::to_string(sum);
  m.bytes = sum;
  m.shards = static_cast<std::int32_t>(m.list.size());
  return "";
}

// Slicing by eight: the reflected polynomial of CRC-32C, 0x82F63B78 (RFC 3720, appendix B.4).
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;
constexpr Tables make_tables() {
  Tables t{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? (c >> 1) ^ 0x82F63B78U : c >> 1;
    t[0][i] = c;
  }
  for (std::size_t k = 1; k < 8; ++k)
    for (std::size_t i = 0; i < 256; ++i) t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 0xFF];
  return t;
}
constexpr Tables kTables = make_tables();

}  // namespace

std::string why_no_shard_name(std::string_view file) {
  if (file.empty() || file.size() > kMaxName) return "'file' must have 1 to 1024 bytes";
  if (file.find('\0') != std::string_view::npos) return "'file' holds NUL";
  if (file == kComplete) return "'file' is COMPLETE.json itself";
  for (std::size_t begin = 0; begin <= file.size();) {
    const auto end = std::min(file.find('/', begin), file.size());
    const auto part = file.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..")
      return "'file' leads out of the checkpoint's folder, or is no plain path";
    begin = end + 1;
  }
  return "";
}

ParsedManifest parse_manifest(std::string_view text) {
  json::error_code ec;
  json::parse_options options;
  options.max_depth = 16;
  const auto v = json::parse(json::string_view(text.data(), text.size()), ec, {}, options);
  if (ec || !v.is_object()) return {std::nullopt, "is no JSON object"};
  const auto& o = v.get_object();
  Manifest m;
  const auto step = whole_number(o, "step");
  const auto epoch = whole_number(o, "epoch");
  if (!step || *step < 0) return {std::nullopt, "has no 'step' (a whole number, not negative)"};
  if (!epoch || *epoch < 0) return {std::nullopt, "has no 'epoch' (of $TUTTI_EPOCH)"};
  m.step = *step;
  m.epoch = *epoch;
  m.bytes = std::max<std::int64_t>(0, whole_number(o, "bytes").value_or(0));
  if (const auto* s = o.if_contains("save_seconds"); s != nullptr && s->is_number())
    if (const auto d = s->to_number<double>(); d > 0 && d < kMaxSaveSeconds)
      m.save_us = static_cast<std::int64_t>(d * 1e6);
  if (const auto* shards = o.if_contains("shards"); shards != nullptr && shards->is_array()) {
    if (auto why = read_list(shards->get_array(), m); !why.empty()) return {std::nullopt, why};
  } else {
    m.shards = static_cast<std::int32_t>(
        std::clamp<std::int64_t>(whole_number(o, "shards").value_or(0), 0, 1 << 30));
  }
  return {std::move(m), ""};
}

std::string write_manifest(const Manifest& m, std::string_view time) {
  json::array list;
  for (const Shard& s : m.list) {
    json::object one{{"file", s.file}, {"bytes", s.bytes}};
    if (s.crc32c) one["crc32c"] = crc_text(*s.crc32c);
    list.push_back(std::move(one));
  }
  json::object o{{"step", m.step}, {"epoch", m.epoch}, {"time", time}, {"bytes", m.bytes}};
  if (m.save_us > 0) o["save_seconds"] = static_cast<double>(m.save_us) / 1e6;
  if (m.list.empty())
    o["shards"] = m.shards;
  else
    o["shards"] = std::move(list);
  return json::serialize(o) + "\n";
}

void Crc32c::add(const void* data, std::size_t size) {
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint32_t c = state_;
  for (; size >= 8; size -= 8, p += 8) {
    c ^= static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8 |
         static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
    c = kTables[7][c & 0xFF] ^ kTables[6][c >> 8 & 0xFF] ^ kTables[5][c >> 16 & 0xFF] ^ kTables[4][c >> 24] ^
        kTables[3][p[4]] ^ kTables[2][p[5]] ^ kTables[1][p[6]] ^ kTables[0][p[7]];
  }
  for (; size > 0; --size, ++p) c = (c >> 8) ^ kTables[0][(c ^ *p) & 0xFF];
  state_ = c;
}

std::uint32_t Crc32c::value() const { return ~state_; }

std::string crc_text(std::uint32_t crc) {
  char text[16];
  std::snprintf(text, sizeof text, "%08x", crc);
  return text;
}

std::optional<std::uint32_t> parse_crc(std::string_view text) {
  std::uint32_t crc = 0;
  if (text.size() != 8) return std::nullopt;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + 8, crc, 16);
  if (ec != std::errc{} || end != text.data() + 8) return std::nullopt;
  return crc;
}

}  // namespace tutti::supervisor
