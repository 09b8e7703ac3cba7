#include "worker/node/sysfs.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>

namespace tutti::node {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostPorts = 256;

std::optional<std::string> first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  if (!in || !std::getline(in, line)) return std::nullopt;
  return line.substr(0, 128);
}

std::uint64_t number(const fs::path& path) {
  const auto text = first_line(path);
  std::uint64_t out = 0;
  if (text) std::from_chars(text->data(), text->data() + text->size(), out);
  return out;
}

// Of the loopback and of some virtual devices the kernel says "unknown": they have no carrier to lose.
LinkSample read_interface(const fs::path& net, const std::string& name) {
  LinkSample s;
  s.name = name;
  s.named = true;
  const auto state = first_line(net / name / "operstate");
  s.state = state.value_or("gone");
  s.up = s.state == "up" || s.state == "unknown";
  s.downs = number(net / name / "carrier_changes") / 2;
  return s;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code ec;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end && out.size() < kMostPorts;
       it.increment(ec))
    out.push_back(it->path());
  std::ranges::sort(out);
  return out;
}

}  // namespace

std::vector<LinkSample> read_links(const std::string& root, const std::vector<std::string>& interfaces) {
  std::vector<LinkSample> out;
  for (const auto& name : interfaces) out.push_back(read_interface(fs::path(root) / "class/net", name));
  for (const auto& device : entries(fs::path(root) / "class/infiniband"))
    for (const auto& port : entries(device / "ports")) {
      if (out.size() >= kMostPorts) return out;
      LinkSample s;
      s.name = device.filename().string() + "/" + port.filename().string();
      s.state = first_line(port / "state").value_or("gone");  // "4: ACTIVE"
      s.up = s.state.find("ACTIVE") != std::string::npos;
      s.downs = number(port / "counters/link_downed");
      s.symbol_errors = number(port / "counters/symbol_error");
      out.push_back(std::move(s));
    }
  return out;
}

}  // namespace tutti::node
