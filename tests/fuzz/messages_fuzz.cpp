// What a hostile worker or scheduler may send. What decodes must encode to something that decodes to the
// same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/wire/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tutti;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto m = wire::decode_from_worker(text)) {
    const std::string encoded = wire::encode(*m);
    auto again = wire::decode_from_worker(encoded);
    if (!again || wire::encode(*again) != encoded) std::abort();
  }
  if (auto m = wire::decode_to_worker(text)) {
    const std::string encoded = wire::encode(*m);
    auto again = wire::decode_to_worker(encoded);
    if (!again || wire::encode(*again) != encoded) std::abort();
  }
  return 0;
}
