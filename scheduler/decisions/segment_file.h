// A file of the decision log: a line of text that says what it is, then blocks. A block is its length packed
// and unpacked (4 bytes each, the low one first), a hash over these, its content and the hash of the block
// before (16 bytes), and the content, packed by zlib. So a file that breaks off shows as such, and a byte
// that was changed shows as damage, wherever it is.
//
// One thread per object.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/decisions/codec.h"

namespace tutti::decisions {

inline constexpr std::size_t kBlock = 1 << 20;  // bytes of content, at most

// Of a directory, the oldest first. None when there is no such directory.
std::vector<std::filesystem::path> segments_in(const std::filesystem::path& directory);
// When it began, by its name.
std::optional<Instant> began_at(const std::filesystem::path& segment);

// The file cannot be written, or holds what nobody has written into it.
class SegmentError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class SegmentWriter {
 public:
  // A new file of that directory, which is made if need be; for the eyes of its owner only.
  SegmentWriter(const std::filesystem::path& directory, Instant began, const std::string& version);
  ~SegmentWriter();
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  // In blocks. `room` is asked before each, with what it takes; false: it ends there, and so does this.
  using Room = std::function<bool(std::uint64_t bytes)>;
  bool write(std::string_view content, const Room& room = {});
  const std::filesystem::path& path() const { return path_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  bool write_block(std::string_view content, const Room& room);
  void put(std::string_view bytes);
  std::filesystem::path path_;
  int fd_ = -1;
  std::uint64_t bytes_ = 0;
  Digest last_{};
};

class SegmentReader {
 public:
  explicit SegmentReader(std::filesystem::path path);
  const std::string& version() const { return version_; }
  const std::string& layout_words() const { return layout_; }
  // Puts the next block's content behind `content`; false: there is none. Throws SegmentError where the file
  // is damaged.
  bool more(std::string& content);
  // It ends in the middle of a block: that was being written when its program died, or is being written now.
  bool torn() const { return torn_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::ifstream file_;
  std::string version_, layout_;
  Digest last_{};
  bool torn_ = false;
};

}  // namespace tutti::decisions
