// Connections between workers and the scheduler: every message travels as the text of api/wire, in order,
// late by a random time. A direction that is cut keeps its frames until it heals, as TCP does; a peer that is
// silent for three seconds is taken for dead, as api/http/link does.
//
// The callbacks of an end run inside its process: `gate` defers them while the process is paused and drops
// them when it is gone.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/world.h"

namespace tutti::sim {

enum class Side {
  worker = 0,
  scheduler = 1
};
inline Side other(Side s) { return s == Side::worker ? Side::scheduler : Side::worker; }
inline std::size_t index(Side s) { return static_cast<std::size_t>(s); }

class Network;

class Link : public std::enable_shared_from_this<Link> {
 public:
  struct End {
    std::function<void(std::function<void()>)> gate;
    std::function<void(const std::string&)> on_text;
    std::function<void(const std::string&)> on_closed;  // once, whoever closed
  };
  Link(Network& network, std::size_t node, std::size_t host, std::uint64_t id)
      : network_(network), node_(node), host_(host), id_(id) {}
  std::uint64_t id() const { return id_; }  // in order of creation

  void start(Side side, End end);
  void send(Side from, std::string text);
  void abort(Side side, const std::string& why = "closed here");
  // The process of this side is gone; `reset`: its machine is not, so that the peer is told.
  void vanish(Side side, bool reset);
  bool open(Side side) const { return ends_[index(side)].open; }

 private:
  friend class Network;
  struct Frame {
    enum Kind {
      text,
      ping,
      close
    } kind = text;
    Time ready{};
    std::string body;
  };
  struct Half {  // frames from this side, and the end of this side
    std::deque<Frame> frames;
    Time last{};
    End end;
    bool open = false;
    Time heard{};
  };

  void push(Side from, Frame frame);
  void pump(Side from);
  void arrive(Side to, Frame frame);
  void keep_alive(Side side);
  void close_to(Side to, const std::string& why);

  Network& network_;
  const std::size_t node_, host_;
  const std::uint64_t id_;
  Half ends_[2];
};
using LinkPtr = std::shared_ptr<Link>;

class Network {
 public:
  Network(World& world, std::size_t nodes);

  World& world() { return world_; }
  LinkPtr make_link(std::size_t node, std::size_t host);
  bool is_cut(std::size_t node, Side from) const { return cuts_[node].count[index(from)] > 0; }
  bool reachable(std::size_t node) const {
    return !is_cut(node, Side::worker) && !is_cut(node, Side::scheduler);
  }
  // Between a node and one scheduler's host.
  bool is_cut(std::size_t node, std::size_t host, Side from) const {
    const auto pair = pairs_.find({node, host});
    return is_cut(node, from) || (pair != pairs_.end() && pair->second.count[index(from)] > 0);
  }
  bool reachable(std::size_t node, std::size_t host) const {
    return !is_cut(node, host, Side::worker) && !is_cut(node, host, Side::scheduler);
  }
  // Cuts nest: each is healed by itself.
  void cut(std::size_t node, Side from);
  void heal(std::size_t node, Side from);
  void cut(std::size_t node, std::size_t host, Side from) { ++pairs_[{node, host}].count[index(from)]; }
  void heal(std::size_t node, std::size_t host, Side from);
  // Between machines. Cuts of these nest as well.
  void cut_peers(std::size_t node) { ++cuts_[node].peers; }
  void heal_peers(std::size_t node) { --cuts_[node].peers; }
  bool peers_reachable(std::size_t a, std::size_t b) const {
    return cuts_[a].peers == 0 && cuts_[b].peers == 0 && cuts_[a].side == cuts_[b].side;
  }
  // A cluster that has fallen apart: machines of one side hear each other.
  void put_on_side(std::size_t node, int side) { cuts_[node].side = side; }
  bool datagram_lost() { return dice_.chance(10); }
  Duration latency() { return dice_.chance(20) ? dice_.between(1ms, 200ms) : dice_.between(50us, 3ms); }
  Dice& dice() { return dice_; }

 private:
  friend class Link;
  struct Cuts {
    int count[2] = {0, 0};
    int peers = 0, side = 0;
  };
  void pump_all(std::size_t node, Side from);
  World& world_;
  Dice dice_;
  std::uint64_t last_link_ = 0;
  std::vector<Cuts> cuts_;
  std::map<std::pair<std::size_t, std::size_t>, Cuts> pairs_;
  std::vector<std::vector<std::weak_ptr<Link>>> links_;
};

}  // namespace tutti::sim
