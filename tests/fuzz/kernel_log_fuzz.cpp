// Whatever stands in the kernel log: users can write there too (/dev/kmsg, names of processes). Records are
// split at NUL, so that one input is a log of several.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "worker/node/kernel_log.h"
#include "worker/node/kernel_ring.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tutti::node;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  KernelLogParser parser;
  KernelRing ring(16, 4096);
  while (!text.empty()) {
    const auto end = text.find('\0');
    if (const auto record = parse_record(text.substr(0, end))) {
      ring.add(*record);
      if (const auto found = parser.take(*record)) {
        if (found->detail.size() > 300 || found->xid < 0) std::abort();
        if (!found->pci.empty() && normal_pci(found->pci) != found->pci) std::abort();
      }
    }
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  if (ring.size() > 16) std::abort();
  return 0;
}
