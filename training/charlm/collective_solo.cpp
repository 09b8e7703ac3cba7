#include <cstdlib>
#include <string>

#include "training/charlm/collective.h"

namespace tutti::charlm {

namespace {

class SoloCollective final : public Collective {
 public:
  [[nodiscard]] std::string_view name() const override { return "solo"; }
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int size() const override { return 1; }
  [[nodiscard]] int local_rank() const override { return 0; }
  void sum(std::span<std::int64_t>) override {}
  [[noreturn]] void abort(Exit exit) override { std::_Exit(static_cast<int>(exit)); }
};

}  // namespace

std::unique_ptr<Collective> make_solo_collective() { return std::make_unique<SoloCollective>(); }

void require_agreement(Collective& gang, std::uint64_t value, std::string_view what) {
  // 48 bits: the sum over 4096 ranks stays inside an int64.
  const auto mine = static_cast<std::int64_t>(value >> 16U);
  std::int64_t sum = mine;
  gang.sum({&sum, 1});
  if (sum != mine * gang.size()) {
    throw Failure(Exit::diverged, "the ranks do not agree on " + std::string(what));
  }
}

}  // namespace tutti::charlm
