// The text charlm learns: the regular files of one directory, in order of their names, and its alphabet.
// Loaded once by every rank before training; immutable afterwards.
//
// Invariants: (1) every symbol is below alphabet_size(); (2) the same files give the same symbols and
// fingerprint on every machine; (3) the last twentieth is held out and never sampled for training.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::charlm {

class Corpus {
 public:
  // Throws Failure{no_text}. Symbolic links are skipped: they repeat another file of the directory.
  static Corpus load(const std::filesystem::path& directory);
  static Corpus from_text(std::string_view text);

  [[nodiscard]] const std::vector<std::uint8_t>& symbols() const { return symbols_; }
  [[nodiscard]] int alphabet_size() const { return alphabet_size_; }
  // Symbols before this index are for training, the rest for the final loss.
  [[nodiscard]] std::size_t training_size() const { return symbols_.size() - symbols_.size() / 20; }
  [[nodiscard]] std::uint64_t fingerprint() const { return fingerprint_; }

 private:
  std::vector<std::uint8_t> symbols_;
  int alphabet_size_ = 0;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace tutti::charlm
