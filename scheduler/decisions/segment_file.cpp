#include "scheduler/decisions/segment_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "api/wire/text_values.h"

namespace tutti::decisions {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMagic = "tutti-decisions 1";
constexpr std::string_view kPrefix = "decisions-", kSuffix = ".log";
constexpr std::size_t kHead = 8 + sizeof(Digest);
constexpr int kFast = 1;  // of zlib's levels

std::string reason() { return std::strerror(errno); }

std::string four_bytes(std::size_t n) {
  std::string out(4, '\0');
  for (std::size_t i = 0; i < 4; ++i) out[i] = static_cast<char>(n >> (8 * i));
  return out;
}
std::size_t number_at(std::string_view bytes, std::size_t at) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < 4; ++i)
    n |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  return n;
}

Digest chained(const Digest& before, std::string_view lengths, std::string_view packed) {
  std::string all(reinterpret_cast<const char*>(before.data()), before.size());
  return digest_of(all.append(lengths).append(packed));
}

// Microseconds since 1970, of a fixed width: in the order of names is the order of time.
std::string file_name(Instant at) {
  std::string number = std::to_string(at.time_since_epoch().count());
  return std::string(kPrefix) + std::string(18 - std::min<std::size_t>(18, number.size()), '0') + number +
         std::string(kSuffix);
}

}  // namespace

std::vector<fs::path> segments_in(const fs::path& directory) {
  std::vector<fs::path> out;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(directory, ec))
    if (began_at(entry.path())) out.push_back(entry.path());
  std::ranges::sort(out);
  return out;
}

std::optional<Instant> began_at(const fs::path& segment) {
  const std::string name = segment.filename().string();
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  const char* const begin = name.data() + kPrefix.size();
  const char* const end = name.data() + name.size() - kSuffix.size();
  std::int64_t us = 0;
  const auto [at, error] = std::from_chars(begin, end, us);
  if (error != std::errc{} || at != end || begin == end) return std::nullopt;
  return Instant(Duration(us));
}

// ---------------------------------------------------------------- writing

SegmentWriter::SegmentWriter(const fs::path& directory, Instant began, const std::string& version) {
  std::error_code ec;
  if (fs::create_directories(directory, ec)) fs::permissions(directory, fs::perms::owner_all, ec);
  for (int i = 0; fd_ < 0 && i < 100; ++i) {  // two that began at once have names of their own
    path_ = directory / file_name(began + Duration(i));
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd_ < 0 && errno != EEXIST) break;
  }
  if (fd_ < 0) throw SegmentError(path_.string() + ": " + reason());
  put(std::string(kMagic) + " " + version + " " + layout() + "\n");
}

SegmentWriter::~SegmentWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void SegmentWriter::put(std::string_view bytes) {
  while (!bytes.empty()) {
    const ::ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw SegmentError(path_.string() + ": " + reason());
    bytes.remove_prefix(static_cast<std::size_t>(n));
    bytes_ += static_cast<std::uint64_t>(n);
  }
}

bool SegmentWriter::write(std::string_view content, const Room& room) {
  for (; !content.empty(); content.remove_prefix(std::min(kBlock, content.size())))
    if (!write_block(content.substr(0, kBlock), room)) return false;
  return true;
}

bool SegmentWriter::write_block(std::string_view content, const Room& room) {
  uLongf size = ::compressBound(content.size());
  std::string packed(size, '\0');
  if (::compress2(reinterpret_cast<Bytef*>(packed.data()), &size,
                  reinterpret_cast<const Bytef*>(content.data()), content.size(), kFast) != Z_OK)
    throw SegmentError(path_.string() + ": cannot be packed");
  packed.resize(size);
  if (room && !room(kHead + size)) return false;
  const std::string lengths = four_bytes(packed.size()) + four_bytes(content.size());
  last_ = chained(last_, lengths, packed);
  put(lengths + std::string(reinterpret_cast<const char*>(last_.data()), last_.size()) + packed);
  return true;
}

// ---------------------------------------------------------------- reading

SegmentReader::SegmentReader(fs::path path) : path_(std::move(path)), file_(path_, std::ios::binary) {
  if (!file_) throw SegmentError(path_.string() + ": " + reason());
  std::string line(256, '\0');
  file_.getline(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(std::strlen(line.c_str()));
  if (file_.eof() && std::string(kMagic).starts_with(line.substr(0, kMagic.size()))) {
    torn_ = true;  // it died while it wrote its first line
    return;
  }
  const auto space = line.rfind(' ');
  if (!file_ || !line.starts_with(std::string(kMagic) + " ") || space <= kMagic.size())
    throw SegmentError(path_.string() + " is no file of a decision log");
  version_ = line.substr(kMagic.size() + 1, space - kMagic.size() - 1);
  layout_ = line.substr(space + 1);
}

bool SegmentReader::more(std::string& content) {
  if (torn_ || !file_) return false;
  const auto at = static_cast<std::int64_t>(file_.tellg());
  const auto damaged = [&] {
    return SegmentError(path_.string() + " is damaged at byte " + std::to_string(at) +
                        ": that is not what was written there");
  };
  std::string head(kHead, '\0');
  file_.read(head.data(), kHead);
  if (file_.gcount() < static_cast<std::streamsize>(kHead)) {
    torn_ = file_.gcount() > 0;
    return false;
  }
  const std::size_t packed_size = number_at(head, 0), size = number_at(head, 4);
  if (size == 0 || size > kBlock || packed_size > ::compressBound(kBlock)) throw damaged();
  std::string packed(packed_size, '\0');
  file_.read(packed.data(), static_cast<std::streamsize>(packed_size));
  if (file_.gcount() < static_cast<std::streamsize>(packed_size)) {
    torn_ = true;
    return false;
  }
  const Digest hash = chained(last_, head.substr(0, 8), packed);
  if (std::memcmp(hash.data(), head.data() + 8, hash.size()) != 0) throw damaged();
  last_ = hash;
  std::string plain(size, '\0');
  uLongf plain_size = size;
  if (::uncompress(reinterpret_cast<Bytef*>(plain.data()), &plain_size,
                   reinterpret_cast<const Bytef*>(packed.data()), packed_size) != Z_OK ||
      plain_size != size)
    throw damaged();
  content += plain;
  return true;
}

}  // namespace tutti::decisions
