// What is wrong with this node as a whole, now, and what has lately happened to it. Part of WorkerCore; pure.
// Times are CLOCK_BOOTTIME.
//
//   1. A condition is one (kind, subject); it begins once, until it is over. A new detail is no new
//   beginning.
//   2. Conditions and untold incidents are bounded; incidents of one kind are told at most once in ten
//      seconds, with how many there were. None goes uncounted.
//   3. An incident that was told may be lost with its connection, or was told to a scheduler that does not
//      lead: until a later heartbeat has been answered it is told again with the next Hello.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "scheduler/model/protocol.h"

namespace tutti::worker {

class NodeConditions {
 public:
  struct Condition {
    std::string detail;
    std::int64_t since_us = 0;
  };
  using Key = std::pair<std::string, std::string>;  // kind, subject

  /// True if it has begun just now.
  bool begin(const std::string& kind, const std::string& subject, const std::string& detail,
             std::int64_t boot_us);
  /// All of that kind. True if one held.
  bool end_all(const std::string& kind);
  /// True if it held.
  bool end(const std::string& kind, const std::string& subject);
  void incident(const std::string& kind, const std::string& detail, std::int64_t boot_us);
  /// Incidents that came too soon after one that had been told are told when their ten seconds are over.
  void tick(std::int64_t boot_us);

  bool holds(const std::string& kind, const std::string& subject) const {
    return all_.contains({kind, subject});
  }
  const std::map<Key, Condition>& all() const { return all_; }
  /// "" = none that keeps new work away; else the first one, in words.
  std::string why_closed() const;

  /// Something is to be told.
  bool changed() const { return changed_; }
  /// All of it; incidents are told once over a connection. `heartbeat`: number of the last one sent.
  protocol::NodeHealth take_message(std::int64_t now_boot_us, std::int64_t heartbeat);
  /// A new connection: incidents of which it is not known that they have arrived are to be told again.
  void begin_anew();
  /// This heartbeat has been answered: what was told before it has arrived.
  void arrived(std::int64_t heartbeat);

 private:
  struct Incident {
    std::string kind, detail;
    std::int64_t boot_us = 0;
    int more = 0;  // of its kind, within ten seconds
  };
  std::map<Key, Condition> all_;
  std::deque<Incident> untold_;
  struct Told {
    Incident incident;
    std::int64_t after = 0;  // number of the heartbeat before it
  };
  std::deque<Told> told_;       // perhaps in vain; the newest
  struct Lately {               // of one kind
    std::int64_t begun_us = 0;  // the ten seconds
    int untold = 0;             // in them, beside those that are counted in `untold_`
    std::string detail;         // of the last of these
    std::int64_t detail_us = 0;
  };
  std::map<std::string, Lately> lately_;
  bool changed_ = false;
};

}  // namespace tutti::worker
