#include "worker/node/network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <tuple>

namespace tutti::node {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMost = 4096;  // of each, read

std::string line_of(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line.substr(0, 128);
}

std::optional<std::int64_t> number_in(std::string_view text) {
  std::int64_t out = 0;
  const auto r = std::from_chars(text.data(), text.data() + text.size(), out);
  return r.ec == std::errc() ? std::optional(out) : std::nullopt;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code ec;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end && out.size() < kMost; it.increment(ec))
    out.push_back(it->path());
  std::ranges::sort(out);
  return out;
}

std::string real(const fs::path& path) {
  std::error_code ec;
  const auto found = fs::canonical(path, ec);
  return ec ? std::string() : found.string();
}

std::set<std::string> default_routes(std::string_view routes) {
  std::set<std::string> out;
  std::istringstream lines{std::string(routes)};
  std::string line;
  std::getline(lines, line);  // the heads of the columns
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string name, target, skip, mask;
    fields >> name >> target >> skip >> skip >> skip >> skip >> skip >> mask;
    if (target == "00000000" && mask == "00000000") out.insert(name);
  }
  return out;
}

Adapter read_port(const fs::path& device, const fs::path& port) {
  Adapter a;
  a.name = device.filename().string();
  a.port = static_cast<int>(number_in(port.filename().string()).value_or(1));
  a.active = line_of(port / "state").find("ACTIVE") != std::string::npos;  // "4: ACTIVE"
  a.ethernet = line_of(port / "link_layer") == "Ethernet";
  a.gbps = number_in(line_of(port / "rate")).value_or(0);  // "400 Gb/sec (4X NDR)"
  a.path = real(device / "device");
  a.numa = static_cast<int>(number_in(line_of(device / "device/numa_node")).value_or(-1));
  return a;
}

bool inside(const std::string& subnet, const std::string& address) {
  const auto slash = subnet.find('/');
  in_addr net{}, host{};
  const auto bits = number_in(std::string_view(subnet).substr(std::min(slash + 1, subnet.size())));
  if (slash == std::string::npos || !bits || *bits < 0 || *bits > 32 ||
      inet_pton(AF_INET, subnet.substr(0, slash).c_str(), &net) != 1 ||
      inet_pton(AF_INET, address.c_str(), &host) != 1)
    return false;
  const auto mask = *bits == 0 ? 0U : ~std::uint32_t{0} << (32 - *bits);
  return (ntohl(net.s_addr) & mask) == (ntohl(host.s_addr) & mask);
}

struct Claim {
  const NetInterface* interface = nullptr;
  std::string subnet, why;
  int rank = 0;  // higher first
};

Claim claim_of(const NetInterface& i, const std::string& own, const std::vector<std::string>& gang) {
  Claim c{&i, "", "", 0};
  if (!i.up) return c;
  const auto holds_all = [&](const OwnAddress& a) {
    return !gang.empty() &&
           std::ranges::all_of(gang, [&](const auto& other) { return inside(a.subnet, other); });
  };
  for (const auto& a : i.addresses) {
    if (a.address == own) return {&i, a.subnet, "has the node's address " + own, 4};
    if (inside(a.subnet, own) && c.rank < 3)
      c = {&i, a.subnet, "is in the network of the node's address " + own, 3};
    if (holds_all(a) && c.rank < 2 && !i.is_virtual)
      c = {&i, a.subnet, "all nodes of the gang are in its network", 2};
  }
  if (c.rank == 0 && i.default_route && !i.is_virtual && !i.addresses.empty())
    c = {&i, i.addresses.front().subnet, "has the default route", 1};
  return c;
}

// How many folders of their paths are the same, up to the host bridge or below it.
std::size_t shared_depth(const std::string& a, const std::string& b) {
  const auto end = std::ranges::mismatch(a, b);
  const auto same = static_cast<std::size_t>(end.in1 - a.begin());
  const bool whole = same == a.size() || same == b.size() || a[same] == '/' || b[same] == '/';
  const auto upto = whole ? same : a.rfind('/', same);
  return static_cast<std::size_t>(
      std::count(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(std::min(upto, a.size())), '/'));
}

// Of these the nearest to any of the GPUs; all, where nothing tells them apart.
std::vector<const Adapter*> nearest(const std::vector<const Adapter*>& all,
                                    const std::vector<std::string>& gpus) {
  std::set<const Adapter*> chosen;
  for (const auto& gpu : gpus) {
    std::size_t best = 0;
    for (const auto* a : all) best = std::max(best, shared_depth(a->path, gpu));
    for (const auto* a : all)
      if (shared_depth(a->path, gpu) == best) chosen.insert(a);
  }
  std::vector<const Adapter*> out;
  for (const auto* a : all)
    if (gpus.empty() || chosen.contains(a)) out.push_back(a);
  return out;
}

void choose_adapters(const NetworkInventory& all, const std::vector<std::string>& gpus,
                     NetworkChoice& choice) {
  std::vector<const Adapter*> active;
  for (const auto& a : all.adapters)
    if (a.active) active.push_back(&a);
  if (active.empty()) {
    if (!all.adapters.empty()) choice.why += "; no adapter has an active port";
    return;
  }
  const auto worth = [](const Adapter* a) { return std::tuple(!a->ethernet, a->gbps); };
  const auto* best = *std::ranges::max_element(active, {}, worth);
  std::erase_if(active, [&](const auto* a) { return worth(a) != worth(best); });
  std::vector<std::string> known;  // a simulated GPU stands nowhere
  for (const auto& gpu : gpus)
    if (!gpu.empty()) known.push_back(gpu);
  const auto chosen = nearest(active, known);
  for (const auto* a : chosen)
    choice.adapters += (choice.adapters.empty() ? "=" : ",") + a->name + ":" + std::to_string(a->port);
  choice.why += "; " + choice.adapters.substr(1) + ": active, " + (best->ethernet ? "RoCE" : "InfiniBand") +
                ", " + std::to_string(best->gbps) + " Gb/s";
  if (chosen.size() < active.size())
    choice.why += ", nearest to the GPUs of " + std::to_string(active.size());
}

}  // namespace

std::vector<OwnAddress> own_addresses() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  const auto dotted = [](std::uint32_t address) {
    in_addr raw{htonl(address)};
    char text[INET_ADDRSTRLEN] = {};
    inet_ntop(AF_INET, &raw, text, sizeof text);
    return std::string(text);
  };
  std::vector<OwnAddress> out;
  for (const auto* i = list; i != nullptr && out.size() < kMost; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_netmask == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    const auto own = ntohl(reinterpret_cast<const sockaddr_in*>(i->ifa_addr)->sin_addr.s_addr);
    const auto mask = ntohl(reinterpret_cast<const sockaddr_in*>(i->ifa_netmask)->sin_addr.s_addr);
    out.push_back({i->ifa_name, dotted(own), dotted(own & mask) + "/" + std::to_string(std::popcount(mask))});
  }
  return out;
}

NetworkInventory read_network(const std::string& sysfs, std::string_view routes,
                              const std::vector<OwnAddress>& addresses) {
  NetworkInventory out;
  const auto defaults = default_routes(routes);
  for (const auto& path : entries(fs::path(sysfs) / "class/net")) {
    NetInterface i;
    i.name = path.filename().string();
    const auto state = line_of(path / "operstate");
    i.up = state == "up" || state == "unknown";  // the loopback and some virtual ones have no carrier to lose
    // What has a device behind it lies outside devices/virtual; bonds and VLANs of such a device lie inside.
    i.is_virtual = !fs::exists(path / "device") && !fs::exists(path / "bonding") &&
                   i.name.find('.') == std::string::npos;
    i.mbps = std::max<std::int64_t>(0, number_in(line_of(path / "speed")).value_or(0));
    i.default_route = defaults.contains(i.name);
    for (const auto& a : addresses)  // a second address may have a label, which getifaddrs tells: "eth0:1"
      if (a.interface.substr(0, a.interface.find(':')) == i.name) i.addresses.push_back(a);
    out.interfaces.push_back(std::move(i));
  }
  for (const auto& device : entries(fs::path(sysfs) / "class/infiniband"))
    for (const auto& port : entries(device / "ports"))
      if (out.adapters.size() < kMost) out.adapters.push_back(read_port(device, port));
  return out;
}

std::string gpu_path(const std::string& sysfs, std::string_view pci) {
  std::string name(pci);
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name.size() == 16 && name.starts_with("0000")) name.erase(0, 4);  // NVML writes eight digits
  return name.empty() || name.find('/') != std::string::npos
             ? std::string()
             : real(fs::path(sysfs) / "bus/pci/devices" / name);
}

NetworkChoice choose_network(const NetworkInventory& all, const std::string& own,
                             const std::vector<std::string>& gang, const std::vector<std::string>& gpus) {
  Claim best;
  for (const auto& i : all.interfaces) {
    auto claim = claim_of(i, own, gang);
    if (claim.rank == 0) continue;
    const bool better = best.interface == nullptr ||
                        std::tuple(claim.rank, i.mbps) > std::tuple(best.rank, best.interface->mbps);
    if (better) best = std::move(claim);
  }
  NetworkChoice choice;
  if (best.interface == nullptr) {
    choice.why = "no interface that is up has a claim: none is chosen";
  } else {
    choice.interface = best.interface->name;
    choice.subnet = best.subnet;
    choice.why = choice.interface + " " + best.why;
    if (best.interface->mbps > 0) choice.why += " (" + std::to_string(best.interface->mbps) + " Mb/s)";
  }
  choose_adapters(all, gpus, choice);
  return choice;
}

}  // namespace tutti::node
