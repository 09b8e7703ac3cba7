#include "db/pg/spec_texts.h"

#include <sodium.h>

#include <utility>

namespace tutti::db {
namespace {

// A text in use is said to be so once a day: retention looks two days back (tutti_forget_texts).
constexpr auto kSayAgain = std::chrono::days(1);

}  // namespace

KnownTexts::Hash hash_of_spec(std::string_view text) {
  KnownTexts::Hash hash{};
  crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const unsigned char*>(text.data()),
                     text.size(), nullptr, 0);
  return hash;
}

KnownTexts::Known& KnownTexts::remember(std::size_t key, std::string_view text) {
  const auto found = known_.find(key);
  if (found != known_.end() && found->second.text == text) {
    Known& known = found->second;
    if (!known.hash) known.hash = hash_of_spec(text);
    return known;
  }
  if (found != known_.end()) {
    bytes_ -= found->second.text.size();
    known_.erase(found);
  }
  bytes_ += text.size();
  return known_.emplace(key, Known{.text = std::string(text), .hash = {}}).first->second;
}

KnownTexts::Split KnownTexts::split(const std::vector<const SpecRow*>& rows, Instant at) {
  Split out;
  out.refers.resize(rows.size());
  for (const std::size_t key : std::exchange(saying_, {}))  // nothing came of it
    if (const auto known = known_.find(key); known != known_.end()) known->second.saying = false;
  saying_at_ = at;
  if (known_.size() >= kMost || bytes_ >= kBytes) forget();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string_view text = rows[i]->spec_json;
    if (text.size() < kShortest) continue;
    const std::size_t key = std::hash<std::string_view>{}(text);
    Known& known = remember(key, text);
    out.refers[i] = known.hash;
    const bool said = at >= known.said_at && at < known.said_at + kSayAgain;
    if (!known.hash || said || known.saying) continue;
    known.saying = true;
    saying_.push_back(key);
    out.texts.push_back({*known.hash, text});
  }
  return out;
}

void KnownTexts::committed() {
  for (const std::size_t key : saying_) {
    const auto known = known_.find(key);
    if (known == known_.end() || !std::exchange(known->second.saying, false)) continue;
    known->second.said_at = saying_at_;
  }
  saying_.clear();
}

void KnownTexts::forget() {
  known_.clear();
  saying_.clear();
  bytes_ = 0;
}

}  // namespace tutti::db
