// tar members (ustar) in one gzip member, without the end-of-archive mark unless asked: several of them, one
// after the other, are one archive (RFC 1952 2.2, POSIX ustar). That is why no archive library is used:
// theirs end an archive when they are closed. In memory: the caller bounds it. And base64 for what travels as
// text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace tutti::wire {

class TarGz {
 public:
  TarGz();
  ~TarGz();
  TarGz(const TarGz&) = delete;
  TarGz& operator=(const TarGz&) = delete;

  /// False: the name does not fit into a tar header (100 bytes); nothing was added.
  bool add(const std::string& name, std::string_view data, std::int64_t changed_unix_s);
  void add_end();  // the end-of-archive mark
  std::string finish();

 private:
  struct Stream;
  void put(std::string_view bytes, bool last = false);
  std::unique_ptr<Stream> stream_;
  std::string out_;
};

std::string to_base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);

}  // namespace tutti::wire
