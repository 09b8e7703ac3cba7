// Which network links are down, or go down again and again. Samples of sysfs go in, findings come out: pure,
// no clock, no file. Flaps are waited out: links come back by themselves after some seconds, and a gang that
// waits that long in its collective is better off than one that is moved.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tutti::node {

struct LinkSample {
  std::string name;  // "eth0", "mlx5_0/1"
  bool up = false;
  std::string state;        // in the kernel's words
  std::uint64_t downs = 0;  // times it went down since boot: carrier changes / 2, or link_downed
  std::uint64_t symbol_errors = 0;
  bool named = false;  // somebody wants it up; else one that was never up is taken to have no cable
};

/// A condition that holds now, or has ended.
struct LinkFinding {
  std::string kind;  // link_down | link_flapping | link_errors; "link_flap": an incident, over when told
  std::string link;
  bool holds = true;
  std::string detail;
};

class LinkWatch {
 public:
  static constexpr std::int64_t kDownUs = 10'000'000;  // so long down = link_down
  static constexpr std::int64_t kFlapWindowUs = 300'000'000;
  static constexpr std::size_t kFlaps = 2;            // so many in the window = link_flapping
  static constexpr std::uint64_t kSymbolErrors = 10;  // so many new ones in the window = link_errors

  /// Every second or so. A link that is no longer there counts as down.
  std::vector<LinkFinding> on_sample(std::int64_t boot_us, const std::vector<LinkSample>& links);

 private:
  struct Link {
    bool up = true;
    std::optional<std::int64_t> down_since;
    std::uint64_t downs = 0;
    std::deque<std::int64_t> flaps;  // in the window
    std::deque<std::pair<std::int64_t, std::uint64_t>> errors;
    bool said_down = false, said_flapping = false, said_errors = false;
    bool ever_up = false;
  };
  void look(Link&, const LinkSample&, std::int64_t boot_us, bool first, std::vector<LinkFinding>& out);

  std::map<std::string, Link> links_;
};

}  // namespace tutti::node
