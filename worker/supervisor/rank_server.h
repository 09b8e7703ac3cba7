// The unix socket on which each rank's keeper (tutti-rank) reports: up, then its program's end. Owned by the
// supervisor's thread. Lines of JSON, `{"rank":0,"pid":4711,"world":8,"boot_us":…}` and
// `{"rank":0,"exit":1,"signal":0,"boot_us":…}`; back goes `{"signal":15}` for its program, which is
// to end, or `{"once":10}`, for what it does with that. tutti-checkpoint asks `{"ask":"epoch"}` and gets
// `{"epoch":7,"current":true}`: whether this attempt may still write.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>

#include "worker/supervisor/gang_part.h"
#include "worker/supervisor/peer.h"
#include "worker/supervisor/poller.h"

namespace tutti::supervisor {

inline constexpr const char* kRankSocket = "rank.sock";

class RankServer {
 public:
  struct Events {
    // False: turned away. `program`: its process, as the keeper says; 0 = it does not.
    std::function<bool(std::int32_t rank, std::int32_t world_size, pid_t program)> up;
    std::function<void(std::int32_t rank, const Exit&, bool vanished, std::int64_t boot_us)> ended;
    std::function<std::string()> epoch;  // the answer to that question
  };

  // Only processes of `user` (and root) may speak.
  RankServer(Poller& poller, Fd listener, uid_t user, std::size_t max_peers, Events events);
  ~RankServer();

  // Takes in all that has arrived: a keeper reports before it exits, and its report must be heard first.
  void drain();
  bool has_come_up_under(pid_t keeper) const { return keepers_.contains(keeper); }
  bool has_come_up(std::int32_t rank) const { return ranks_.contains(rank); }
  // To the program of each rank that is up, and of each that comes up later.
  void signal_all(int signal);
  // To those that are up now only; no shell line ends by it.
  void signal_once(int signal);

 private:
  struct Rank {
    std::unique_ptr<Peer> peer;
    pid_t keeper = 0;
    std::int32_t rank = -1;  // -1 = has not said
    bool ended = false;
  };
  using Where = std::list<Rank>::iterator;

  void accept_all();
  void on_line(Where who, std::string_view line);
  void on_gone(Where who);

  Poller& poller_;
  Fd listener_;
  uid_t user_;
  std::size_t max_peers_;
  Events events_;
  std::list<Rank> peers_;
  std::set<pid_t> keepers_;
  std::set<std::int32_t> ranks_;
  int signal_ = 0;
};

}  // namespace tutti::supervisor
