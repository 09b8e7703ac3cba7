#include "tests/sim/network.h"

#include <algorithm>
#include <utility>

namespace tutti::sim {
namespace {
constexpr Duration kPingEvery = 1s;
constexpr Duration kIdle = 3s;
}  // namespace

Network::Network(World& world, std::size_t nodes)
    : world_(world), dice_(world.dice(1)), cuts_(nodes), links_(nodes) {}

LinkPtr Network::make_link(std::size_t node, std::size_t host) {
  auto link = std::make_shared<Link>(*this, node, host, ++last_link_);
  std::erase_if(links_[node], [](const auto& weak) { return weak.expired(); });
  links_[node].push_back(link);
  return link;
}

void Network::cut(std::size_t node, Side from) { ++cuts_[node].count[index(from)]; }

void Network::heal(std::size_t node, Side from) {
  if (--cuts_[node].count[index(from)] == 0) pump_all(node, from);
}

void Network::heal(std::size_t node, std::size_t host, Side from) {
  if (--pairs_[{node, host}].count[index(from)] == 0) pump_all(node, from);
}

void Network::pump_all(std::size_t node, Side from) {
  for (const auto& weak : links_[node])
    if (auto link = weak.lock()) link->pump(from);
}

void Link::start(Side side, End end) {
  Half& half = ends_[index(side)];
  half.end = std::move(end);
  half.open = true;
  half.heard = network_.world().now();
  keep_alive(side);
}

void Link::send(Side from, std::string text) {
  if (ends_[index(from)].open) push(from, {Frame::text, {}, std::move(text)});
}

void Link::push(Side from, Frame frame) {
  Half& half = ends_[index(from)];
  frame.ready = std::max(half.last, network_.world().now() + network_.latency());
  half.last = frame.ready;
  const Time when = frame.ready;
  half.frames.push_back(std::move(frame));
  network_.world().at(when, [self = shared_from_this(), from] { self->pump(from); });
}

void Link::pump(Side from) {
  Half& half = ends_[index(from)];
  while (!half.frames.empty() && half.frames.front().ready <= network_.world().now() &&
         !network_.is_cut(node_, host_, from)) {
    Frame frame = std::move(half.frames.front());
    half.frames.pop_front();
    arrive(other(from), std::move(frame));
  }
}

void Link::arrive(Side to, Frame frame) {
  Half& half = ends_[index(to)];
  if (!half.open) return;
  if (frame.kind == Frame::text) network_.world().note(frame.body);
  half.end.gate([self = shared_from_this(), to, frame = std::move(frame)] {
    Half& here = self->ends_[index(to)];
    if (!here.open) return;
    here.heard = self->network_.world().now();
    if (frame.kind == Frame::close) return self->close_to(to, frame.body);
    if (frame.kind == Frame::text) {
      const auto on_text = here.end.on_text;  // it may end the link
      on_text(frame.body);
    }
  });
}

void Link::close_to(Side to, const std::string& why) {
  Half& half = ends_[index(to)];
  half.open = false;
  if (auto told = std::exchange(half.end.on_closed, nullptr)) told(why);
}

void Link::keep_alive(Side side) {
  network_.world().after(kPingEvery, [self = shared_from_this(), side] {
    Half& half = self->ends_[index(side)];
    if (!half.open) return;
    half.end.gate([self, side] {
      Half& here = self->ends_[index(side)];
      if (!here.open) return;
      if (self->network_.world().now() - here.heard > kIdle) return self->abort(side, "the peer is silent");
      self->push(side, {Frame::ping, {}, {}});
      self->keep_alive(side);
    });
  });
}

// Queued messages are lost, or not: some may have left already.
void Link::abort(Side side, const std::string& why) {
  Half& half = ends_[index(side)];
  if (!half.open) return;
  half.open = false;
  if (network_.dice().chance(500)) half.frames.clear();
  push(side, {Frame::close, {}, "closed by the peer"});
  half.end.gate([self = shared_from_this(), side, why] {
    if (auto told = std::exchange(self->ends_[index(side)].end.on_closed, nullptr)) told(why);
  });
}

void Link::vanish(Side side, bool reset) {
  Half& half = ends_[index(side)];
  half.open = false;
  half.end.on_closed = nullptr;
  half.end.on_text = nullptr;
  if (!reset) {
    half.frames.clear();
    return;
  }
  if (network_.dice().chance(500)) half.frames.clear();
  push(side, {Frame::close, {}, "reset by the peer"});
}

}  // namespace tutti::sim
