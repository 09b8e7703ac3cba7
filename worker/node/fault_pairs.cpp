#include "worker/node/fault_pairs.h"

#include <algorithm>
#include <cstdlib>

namespace tutti::node {
namespace {
constexpr std::int64_t kSameUs = 5'000'000;
constexpr std::size_t kMost = 512;
}  // namespace

bool FaultPairs::is_known(const std::string& gpu, std::int32_t xid, std::int64_t boot_us, Source source) {
  const auto pair = std::find_if(unpaired_.begin(), unpaired_.end(), [&](const Told& t) {
    return t.source != source && t.gpu == gpu && t.xid == xid && std::llabs(t.boot_us - boot_us) <= kSameUs;
  });
  if (pair != unpaired_.end()) {
    unpaired_.erase(pair);
    return true;
  }
  unpaired_.push_back({gpu, xid, boot_us, source});
  if (unpaired_.size() > kMost) unpaired_.pop_front();
  return false;
}

}  // namespace tutti::node
