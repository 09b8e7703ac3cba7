// Hands requests to the leader and their answers back: libcurl on a thread of its own, many at once. What is
// short is answered whole; what is long or endless (lists of thousands, events, logs) is passed on as it
// comes, and a client that does not read stops the leader's sending.
//
// Called by: handlers through Forwarding, on the control thread. Answers leave from the proxy's thread, which
// a Responder allows. Who leads is asked of Leader at each request. Invariants: (1) at most `at_once`
// requests are under way, and of each kind and caller their share, one more is answered 503; (2) 503 is said
// only when the leader cannot have seen the request, and a write is never sent twice; (3) a request that
// carries the mark of another scheduler is not handed on; (4) whom we do not know learns nothing of who
// leads, and where.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "api/access/forward_mark.h"
#include "api/handlers/forwarding.h"

namespace tutti {

struct LeaderProxySettings {
  std::size_t at_once = 1024;        // under way, of which at most:
  std::size_t streams = 512;         //   answers that are long or endless
  std::size_t strangers = 256;       //   of callers whom this scheduler does not know
  std::size_t of_a_caller = 128;     //   of one user or token; of strangers, of one address
  std::chrono::seconds silence{55};  // of the leader, before a write is taken for lost
  std::string ca_file = {};          // who vouches for an https leader; "" = whom this machine trusts
};

class LeaderProxy final : public Forwarding {
 public:
  struct Leading {
    bool ours = false;        // this scheduler leads
    std::string url = {};     // else where the leader is reached; "" = nobody leads, or it does not say
    std::string holder = {};  // for people
  };
  /// `leading` is asked on the control thread.
  LeaderProxy(std::function<Leading()> leading, ForwardMark mark, LeaderProxySettings settings = {});
  ~LeaderProxy() override;  // cuts off what is under way

  bool standing_by() const override { return !leading_().ours; }
  void forward(http::Request request, http::Responder responder) override;
  /// Every second or so: what is under way to a leader that leads no more is given up, for it may be frozen.
  void look();

 private:
  class Engine;
  std::function<Leading()> leading_;
  ForwardMark mark_;
  std::string sent_to_;  // the leader that was asked last
  std::unique_ptr<Engine> engine_;
};

/// For Hooks::arrive, before anything counts the request: one that another scheduler has handed on comes from
/// the client that it names.
BeforeHook seen_from_client(BeforeHook inner, ForwardMark mark);

}  // namespace tutti
