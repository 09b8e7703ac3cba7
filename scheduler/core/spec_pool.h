// Jobs that were submitted in the same words share one spec: a sweep of a hundred thousand equal jobs costs
// one JobSpec, not a hundred thousand of some kilobytes each, and is parsed once at boot. Specs never change;
// a job that is changed gets another one.
//
// Owned by the control plane. Invariants: (1) two jobs share a spec only if their stored texts are the same
// bytes, so that they would be equal after a recovery as well; (2) it remembers at most `most` texts, none
// longer than kMaxText, and keeps no spec alive.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "scheduler/model/job_spec.h"

namespace tutti {

class SpecPool {
 public:
  static constexpr std::size_t kMaxText = 16 << 10;

  explicit SpecPool(std::size_t most = 1000) : most_(most) {}

  /// The spec of an earlier job with this text, else what `make` returns.
  template <class Make>
  SpecPtr shared(std::string_view text, Make make) {
    if (text.empty() || text.size() > kMaxText) return make();
    const std::size_t key = std::hash<std::string_view>{}(text);
    if (const auto it = known_.find(key); it != known_.end() && it->second.text == text)
      if (SpecPtr spec = it->second.spec.lock()) return spec;
    if (known_.size() >= most_) std::erase_if(known_, [](const auto& e) { return e.second.spec.expired(); });
    if (known_.size() >= most_) known_.clear();
    SpecPtr spec = make();
    known_.insert_or_assign(key, Known{std::string(text), spec});
    return spec;
  }

  std::size_t size() const { return known_.size(); }

 private:
  struct Known {
    std::string text;
    std::weak_ptr<const JobSpec> spec;
  };
  std::size_t most_;
  std::unordered_map<std::size_t, Known> known_;  // by hash of the text; of two with one hash the newer
};

}  // namespace tutti
