// Which texts of specs stand in table spec_text, as far as one session of the writer knows: what comes for
// the second time goes there, and the rows of jobs refer to it (docs/design/0020-spec-texts.md).
//
// Used by PgStore on its database thread. Invariants: (1) a text is referred to only when a transaction that
// put it there is committed, or puts it there itself; (2) what is remembered is bounded by kMost and kBytes.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "scheduler/model/rows.h"

namespace tutti::db {

class KnownTexts {
 public:
  static constexpr std::size_t kMost = 1'000;       // texts, and those of one batch
  static constexpr std::size_t kBytes = 16u << 20;  // of all together, likewise
  static constexpr std::size_t kShortest = 100;     // bytes; a shorter one is not worth a reference
  using Hash = std::array<unsigned char, 32>;       // BLAKE2b (RFC 7693), by libsodium

  struct Text {  // to be put there, or to be said to be in use
    Hash hash;
    std::string_view text;
  };
  struct Split {
    std::vector<std::optional<Hash>> refers;  // of each row: nullopt = its text stays with it
    std::vector<Text> texts;                  // views into the rows
  };

  /// `at`: of the commit.
  Split split(const std::vector<const SpecRow*>& rows, Instant at);
  /// What the last split() has put there is committed.
  void committed();
  /// It is not, or nobody knows; also at the end of a session.
  void forget();

 private:
  struct Known {
    std::string text;
    std::optional<Hash> hash;  // once it has come twice
    Instant said_at{};         // that it is in use, by a committed transaction; epoch 0 = never
    bool saying = false;       // by the last split()
  };
  Known& remember(std::size_t key, std::string_view text);

  std::unordered_map<std::size_t, Known> known_;  // by std::hash of the text; of two with one hash the newer
  std::size_t bytes_ = 0;
  std::vector<std::size_t> saying_;  // keys of `known_`
  Instant saying_at_{};
};

KnownTexts::Hash hash_of_spec(std::string_view text);

}  // namespace tutti::db
