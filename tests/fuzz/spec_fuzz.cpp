// A job spec as anybody may send it: first byte chooses JSON or YAML. What parses must encode and parse back
// the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/wire/job_spec_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tutti;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const Now now{Instant(std::chrono::hours(500'000)), Mono(std::chrono::hours(1))};
  const wire::SpecParse first =
      data[0] % 2 == 0 ? wire::parse_spec_json(text, now) : wire::parse_spec_yaml(text, now);
  if (!first.ok()) return 0;
  const std::string encoded = wire::encode_spec(first.spec);
  const wire::SpecParse second = wire::parse_spec_json(encoded, now);
  if (!second.ok() || wire::encode_spec(second.spec) != encoded) std::abort();
  return 0;
}
