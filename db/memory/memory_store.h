// Store in memory, for tests and the simulation of the whole control plane: the rules of PostgreSQL without
// the server, and faults on request. Std only, fast.
//
// Two stores on one MemoryDatabase are two schedulers on one PostgreSQL. A store behaves as a session does:
// after a lost connection commit() says unavailable until load() or acquire_leadership().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "db/memory/memory_database.h"

namespace tutti::db {

class MemoryStore final : public Store {
 public:
  enum class Fault {
    none,
    unavailable,           // the connection is lost before COMMIT
    in_doubt_applied,      // lost during COMMIT: it happened
    in_doubt_not_applied,  // lost during COMMIT: it did not
  };

  explicit MemoryStore(std::shared_ptr<MemoryDatabase> database = std::make_shared<MemoryDatabase>());
  ~MemoryStore() override;

  void introduce(LeaderCard card) override { card_ = std::move(card); }
  Term acquire_leadership(const std::string& holder) override;
  Duration predecessors_renew() override;
  std::vector<std::string> predecessor_urls() override;
  void resign() noexcept override;
  Snapshot load() override;
  void commit(const Batch& batch) override;
  void prove_leadership() override { commit({}); }  // whoever leads here is the one that writes
  bool healthy() noexcept override;

  const std::shared_ptr<MemoryDatabase>& database() const { return database_; }

  // For tests. One fault for the next commit; a server that is down until it is up again; a session cut now.
  void fail_next_commit(Fault fault) { fault_ = fault; }
  void set_reachable(bool reachable);
  void drop_session();
  void set_time(std::function<Instant()> now) { now_ = std::move(now); }  // for `leader.since`

 private:
  void connect();

  std::shared_ptr<MemoryDatabase> database_;
  std::function<Instant()> now_;
  LeaderCard card_;
  Term term_;
  std::int64_t session_ = 0;  // 0 = none
  bool reachable_ = true;
  Fault fault_ = Fault::none;
};

}  // namespace tutti::db
