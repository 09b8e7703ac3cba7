// Takes the values of a job's secrets out of texts: logs, tails of logs, evidence. It knows the values, and
// so finds them wherever they stand, also as JSON, in a URL, in base64 (alone, or inside of what was encoded
// with something before it, as in "Basic …"), and line by line. What a program has made of them in other ways
// (encrypted, cut in pieces, in hexadecimal) nobody can find. Pure. Used by worker/service and the
// supervisor.
//
// A text may come in pieces. Invariant: whatever the pieces, no byte of a value leaves, if for each piece
// those around it are shown as far as reach(), and what open_tail() says is held back until more has come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

class SecretMask {
 public:
  SecretMask() = default;
  /// By name. Values under 6 bytes are not looked for: they would be found everywhere.
  explicit SecretMask(const std::map<std::string, std::string>& secrets);

  bool empty() const { return forms_.empty(); }
  /// Bytes on either side of a piece that must be known to find what crosses its borders.
  std::size_t reach() const { return reach_; }
  /// The bytes [from, to) of `window`, "‹secret NAME›" in the place of each value (of several without a gap
  /// between them the first one's). A value that begins before `from` was named by the piece before. `ended`:
  /// nothing will follow the window, so what is there of a value at its end is taken out as well.
  std::string text(std::string_view window, std::size_t from = 0, std::size_t to = std::string_view::npos,
                   bool ended = true) const;
  /// As many '*' instead: for files whose layout must stay.
  std::string binary(std::string_view whole) const;
  /// So many bytes at the end may be the beginning of a value.
  std::size_t open_tail(std::string_view window) const;

 private:
  struct Form {
    std::string bytes;
    std::size_t name;                   // in names_
    std::vector<std::uint32_t> border;  // of each prefix: length of its longest proper border
  };
  /// For each byte of a value found in the window its name's place + 1, else 0.
  std::vector<std::size_t> cover(std::string_view window) const;

  std::vector<std::string> names_;
  std::vector<Form> forms_;
  std::size_t reach_ = 0;
};

inline constexpr std::size_t kShortestSecret = 6;
inline constexpr std::string_view kMaskBegins = "‹secret";

}  // namespace tutti
