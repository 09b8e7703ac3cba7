#include "training/charlm/corpus.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <system_error>

#include "training/charlm/exit_codes.h"
#include "training/charlm/fingerprint.h"

namespace tutti::charlm {

namespace fs = std::filesystem;

Corpus Corpus::load(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    if (!entry.is_symlink() && entry.is_regular_file()) files.push_back(entry.path());
  }
  if (error) throw Failure(Exit::no_text, "cannot read " + directory.string() + ": " + error.message());
  std::sort(files.begin(), files.end());

  std::string text;
  for (const fs::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    if (!in) throw Failure(Exit::no_text, "cannot read " + file.string());
    text.append(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  if (text.size() < 10'000) {
    throw Failure(Exit::no_text, directory.string() + " holds " + std::to_string(text.size()) +
                                     " bytes of text, at least 10000 are needed: see --data");
  }
  return from_text(text);
}

Corpus Corpus::from_text(std::string_view text) {
  std::array<bool, 256> seen{};
  for (const char c : text) seen[static_cast<std::uint8_t>(c)] = true;

  Corpus corpus;
  std::array<std::uint8_t, 256> symbol_of{};
  for (std::size_t byte = 0; byte < seen.size(); ++byte) {
    if (seen[byte]) symbol_of[byte] = static_cast<std::uint8_t>(corpus.alphabet_size_++);
  }
  corpus.symbols_.reserve(text.size());
  for (const char c : text) corpus.symbols_.push_back(symbol_of[static_cast<std::uint8_t>(c)]);
  corpus.fingerprint_ = Fingerprint{}.add(std::as_bytes(std::span(text))).value();
  return corpus;
}

}  // namespace tutti::charlm
