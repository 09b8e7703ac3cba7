#include "worker/node/links.h"

#include <algorithm>
#include <set>

namespace tutti::node {

std::vector<LinkFinding> LinkWatch::on_sample(std::int64_t boot_us, const std::vector<LinkSample>& links) {
  std::vector<LinkFinding> out;
  std::set<std::string> seen;
  for (const auto& sample : links) {
    seen.insert(sample.name);
    const auto [it, first] = links_.try_emplace(sample.name);
    look(it->second, sample, boot_us, first, out);
  }
  for (auto& [name, link] : links_)
    if (!seen.contains(name)) {
      LinkSample gone{name, false, "gone", link.downs, link.errors.empty() ? 0 : link.errors.back().second,
                      false};
      look(link, gone, boot_us, false, out);
    }
  return out;
}

void LinkWatch::look(Link& link, const LinkSample& now, std::int64_t boot_us, bool first,
                     std::vector<LinkFinding>& out) {
  const auto say = [&](bool& said, bool holds, const char* kind, std::string detail) {
    if (said != holds) out.push_back({kind, now.name, holds, std::move(detail)});
    said = holds;
  };
  if (first) link.downs = now.downs;
  // A flap between two samples shows in the counter only.
  const std::uint64_t counted = now.downs > link.downs ? now.downs - link.downs : 0;
  const bool went_down = !first && link.up && !now.up;
  for (std::uint64_t i = 0;
       i < std::min<std::uint64_t>(std::max<std::uint64_t>(counted, went_down ? 1 : 0), kFlaps); ++i)
    link.flaps.push_back(boot_us);
  if (counted > 0 || went_down)
    out.push_back({"link_flap", now.name, true, now.name + " went down (" + now.state + ")"});
  // The counter may follow its state by a sample: that is the same fall.
  link.downs = went_down && counted == 0 ? now.downs + 1 : std::max(link.downs, now.downs);
  if (now.downs < link.downs && !went_down && now.downs + 1 < link.downs) link.downs = now.downs;  // reset
  while (!link.flaps.empty() && boot_us - link.flaps.front() > kFlapWindowUs) link.flaps.pop_front();
  while (link.flaps.size() > 16) link.flaps.pop_front();

  link.up = now.up;
  link.ever_up = link.ever_up || now.up;
  if (now.up)
    link.down_since.reset();
  else if (!link.down_since)
    link.down_since = boot_us;
  const bool down = (link.ever_up || now.named) && link.down_since && boot_us - *link.down_since >= kDownUs;
  say(link.said_down, down, "link_down",
      now.name + " is down" + (link.ever_up ? "" : " since the worker started") + " (" + now.state + ")");
  say(link.said_flapping, link.flaps.size() >= kFlaps, "link_flapping",
      now.name + " went down " + std::to_string(link.flaps.size()) + " times within 5 minutes");

  link.errors.emplace_back(boot_us, now.symbol_errors);
  while (link.errors.size() > 1 && boot_us - link.errors.front().first > kFlapWindowUs)
    link.errors.pop_front();
  const auto base = link.errors.front().second;
  const auto fresh = now.symbol_errors > base ? now.symbol_errors - base : 0;
  say(link.said_errors, fresh >= kSymbolErrors, "link_errors",
      now.name + " had " + std::to_string(fresh) + " symbol errors within 5 minutes");
}

}  // namespace tutti::node
