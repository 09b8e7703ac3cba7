#include "api/wire/tar_gz.h"

#include <sodium.h>
#include <zlib.h>

#include <cstdio>
#include <cstring>
#include <new>

namespace tutti::wire {
namespace {

constexpr std::size_t kBlock = 512;
constexpr int kLevel = 4;       // logs shrink nearly as well as with 6, in half the time
constexpr int kGzip = 15 + 16;  // zlib: the largest window, with a gzip header
constexpr int kBase64 = sodium_base64_VARIANT_ORIGINAL;

struct Header {  // POSIX ustar; numbers are octal text
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
      version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
static_assert(sizeof(Header) == kBlock);

}  // namespace

struct TarGz::Stream {
  z_stream z{};
};

TarGz::TarGz() : stream_(std::make_unique<Stream>()) {
  if (deflateInit2(&stream_->z, kLevel, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::bad_alloc();
}

TarGz::~TarGz() { deflateEnd(&stream_->z); }

void TarGz::put(std::string_view bytes, bool last) {
  auto& z = stream_->z;
  // zlib does not write through it.
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  char buffer[64 << 10];
  int result = Z_OK;
  do {
    z.next_out = reinterpret_cast<Bytef*>(buffer);
    z.avail_out = sizeof buffer;
    result = deflate(&z, last ? Z_FINISH : Z_NO_FLUSH);
    out_.append(buffer, sizeof buffer - z.avail_out);
  } while (z.avail_out == 0 || (last && result == Z_OK));
}

bool TarGz::add(const std::string& name, std::string_view data, std::int64_t changed_unix_s) {
  Header h{};
  if (name.empty() || name.size() >= sizeof h.name) return false;
  std::memcpy(h.name, name.data(), name.size());
  const auto octal = [](char* field, std::size_t size, unsigned long long value) {
    std::snprintf(field, size, "%0*llo", static_cast<int>(size - 1), value);
  };
  octal(h.mode, sizeof h.mode, 0644);
  octal(h.uid, sizeof h.uid, 0);
  octal(h.gid, sizeof h.gid, 0);
  octal(h.size, sizeof h.size, data.size());
  octal(h.mtime, sizeof h.mtime,
        static_cast<unsigned long long>(
            changed_unix_s < 0 || changed_unix_s > 077777777777LL ? 0 : changed_unix_s));
  h.type = '0';
  std::memcpy(h.magic, "ustar", 6);
  std::memcpy(h.version, "00", 2);
  std::memset(h.checksum, ' ', sizeof h.checksum);
  unsigned sum = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&h);
  for (std::size_t i = 0; i < kBlock; ++i) sum += bytes[i];
  std::snprintf(h.checksum, sizeof h.checksum, "%06o", sum);  // then NUL and the space that is there
  put({reinterpret_cast<const char*>(&h), kBlock});
  put(data);
  if (const auto over = data.size() % kBlock; over != 0) put(std::string(kBlock - over, '\0'));
  return true;
}

void TarGz::add_end() { put(std::string(2 * kBlock, '\0')); }

std::string TarGz::finish() {
  put({}, true);
  return std::move(out_);
}

std::string to_base64(std::string_view bytes) {
  std::string out(sodium_base64_ENCODED_LEN(bytes.size(), kBase64), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const unsigned char*>(bytes.data()),
                    bytes.size(), kBase64);
  out.pop_back();  // its NUL
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  std::string out(text.size() / 4 * 3 + 3, '\0');
  std::size_t length = 0;
  if (sodium_base642bin(reinterpret_cast<unsigned char*>(out.data()), out.size(), text.data(), text.size(),
                        nullptr, &length, nullptr, kBase64) != 0)
    return std::nullopt;
  out.resize(length);
  return out;
}

}  // namespace tutti::wire
