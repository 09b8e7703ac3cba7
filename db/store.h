// The write side of the job store, as the control plane sees it. One implementation talks to PostgreSQL
// (db/pg), one lives in memory (db/memory, for tests and simulation); one suite (tests/store) holds both to
// the same rules.
//
// Called by: the scheduler's database thread, and by nobody else. Every call blocks. Std only.
//
// Invariants
//  1. A batch is applied whole or not at all. When commit() returns, it is durable.
//  2. Nothing is written under a term that is not the newest one.
//  3. An update or a removal of a job row happens only on the version the batch was decided on.
//  4. A GPU never has two allocations that overlap in time. Equal ends may touch: [from, until).
//  5. After StoreError unavailable or in_doubt the session is gone. It comes back through load() or
//     acquire_leadership() and never by itself: until then commit() says unavailable.
//
// A batch names each row at most once per list, with two conveniences: `attempts`, `nodes` and `gpus` keep
// the last of equal keys, and an allocation may be opened and closed in one batch. Lists are applied in this
// order: specs and keys, changed specs, new jobs, job updates, nodes, gpus, attempts, supplemented, revised,
// closed, opened, checkpoints, faults, withdrawn, done, events. Text is UTF-8; what is not is stored with
// U+FFFD in its place.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "scheduler/model/rows.h"

namespace tutti {

class StoreError : public std::runtime_error {
 public:
  enum Kind : std::uint8_t {
    unavailable,  // cannot be reached, or refused for now; nothing of the batch was applied
    in_doubt,     // the connection died during COMMIT: applied whole or not at all, load() tells which
    conflict,     // a row is not what the batch was decided on (version, duplicate, overlap); not applied
    deposed,      // somebody else leads, or has led since; not applied
    outdated,     // the schema is more than one version newer than this program, for good; not applied. Or it
                  // is newer and its rows look wrong to us (db/checked_store.h)
    corrupt       // rows break a rule or the schema is not ours: a bug, not a state of the world; not applied
  };
  StoreError(Kind k, const std::string& message) : std::runtime_error(message), kind(k) {}
  Kind kind;
};

constexpr const char* name(StoreError::Kind k) {
  switch (k) {
    case StoreError::unavailable: return "unavailable";
    case StoreError::in_doubt: return "in_doubt";
    case StoreError::conflict: return "conflict";
    case StoreError::deposed: return "deposed";
    case StoreError::outdated: return "outdated";
    case StoreError::corrupt: return "corrupt";
  }
  return "?";
}

// What a leader tells of itself with its term.
struct LeaderCard {
  std::string url = {};        // where it is reached; "" = it does not say
  std::string instance = {};   // its data directory: a process that starts there knows the one before is dead
  std::string key_print = {};  // of the secrets that replicas share
  Duration renews_for{};       // so long it renews leases without having confirmed that it leads
};

// All pure: a store around another one that forgot to ask it would be silently wrong, not incomplete.
class Store {
 public:
  virtual ~Store() = default;

  // Before acquire_leadership(), which publishes it; earlier terms of the same instance are over from then
  // on.
  virtual void introduce(LeaderCard card) = 0;

  // Becomes the leader: takes the leader lock for this session and raises the term. Connects first if there
  // is no session. Waits a moment (option of the implementation) for the lock; throws deposed if another
  // session still holds it then, so a standby calls this in a loop.
  virtual Term acquire_leadership(const std::string& holder) = 0;

  // After acquire_leadership(): so long from that moment on a leader before us may still renew leases,
  // because nothing says that it is over. Zero: none does. Asked again it is less only because more of them
  // are known to be over, never because time has passed: that is for the caller to count, whose clock nobody
  // sets.
  virtual Duration predecessors_renew() = 0;

  // The last word of a leader that stops: no lease is renewed under its term any more. Gives the lock back.
  virtual void resign() noexcept = 0;

  // After acquire_leadership(): where leaders before us are reached that may still renew leases, at most a
  // few. Likewise as of that moment. What is empty is none.
  virtual std::vector<std::string> predecessor_urls() = 0;

  // Everything unfinished, as of one instant. If this store has led, it first makes sure, as
  // prove_leadership() does, that it still does (deposed otherwise) and that no earlier transaction of its
  // own is still under way: after in_doubt, what load() returns is what was decided. Reconnects if need be.
  virtual Snapshot load() = 0;

  // One transaction. An empty batch is a check of the term and of the session.
  virtual void commit(const Batch& batch) = 0;

  // Writes, under our term, that we lead, as durably as commit() does. A server that was replaced and does
  // not know it may answer reads for ever, but with synchronous replication it finishes no write. Throws what
  // commit() throws, and takes no longer.
  virtual void prove_leadership() = 0;

  // Asks the server (bounded, 2 s at most); false also when the session is lost. Never throws, never
  // reconnects. A leader that has nothing to commit calls this every few seconds: it keeps the session from
  // being taken for a frozen one.
  virtual bool healthy() noexcept = 0;
};

}  // namespace tutti
