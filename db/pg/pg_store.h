// Store over PostgreSQL. One session, which holds the leader's advisory lock: when the session dies the lock
// is free, and a new session has the lock only when the old one, with whatever it was committing, is gone.
//
// Owned by: the scheduler's database thread; every call blocks, no call longer than its option says.
//
// How a commit travels: BEGIN, check of the term, rows, COMMIT in one pipeline flush and one round trip.
// Every check that could stop it is made by the server (tutti_check_term, tutti_expect, constraints), because
// COMMIT is already on its way when the first answer comes.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "db/pg/array_rows.h"
#include "db/pg/spec_texts.h"
#include "db/store.h"

namespace tutti::db {

class Connection;
class Pipeline;
class SqlError;

struct PgStoreOptions {
  std::string connection_string;  // goes to libpq unchanged: host lists, target_session_attrs, TLS
  std::string application_name = "tutti-scheduler";
  std::chrono::milliseconds leadership_wait{1000};  // for the lock, at acquire_leadership() and load()
  std::chrono::milliseconds commit_timeout{10000};  // then the session is closed and the commit in doubt
  std::chrono::milliseconds load_timeout{120000};
  // The server ends the session of a leader that says nothing for so long (it may be frozen): a standby can
  // then take over. 0 = never. Use it only with a healthy() every few seconds. After a load() it waits for
  // load_timeout, until the next call.
  std::chrono::milliseconds leader_idle_timeout{0};
  // Newest version of the schema that this program knows. Others see it while the session lives, and one that
  // is more than one version newer is not led. 0: nobody asks.
  int schema = 0;
};

class PgStore final : public Store {
 public:
  explicit PgStore(PgStoreOptions options);
  explicit PgStore(std::string connection_string);
  ~PgStore() override;

  void introduce(LeaderCard card) override { card_ = std::move(card); }
  Term acquire_leadership(const std::string& holder) override;
  Duration predecessors_renew() override;
  std::vector<std::string> predecessor_urls() override;
  void resign() noexcept override;
  Snapshot load() override;
  void commit(const Batch& batch) override;
  void prove_leadership() override;
  bool healthy() noexcept override;

  int backend_pid() const;  // of the session, 0 = none (tests, logs)

 private:
  Connection& session();                            // connects if there is none
  void end_former_terms();                          // of our own instance
  void take_lock();                                 // throws deposed if another session keeps it
  bool check_schema(Connection& c);                 // is it newer than ours? Throws outdated
  static bool all_know(Connection& c, int schema);  // every scheduler that is connected
  Folding folding_of(const Batch& batch);           // what of it may be folded now
  void check_still_leader();                        // throws deposed
  void confirm_leadership();                        // both, after a session was lost, and proves it
  void forget_former_terms();
  // What `fill` puts in, after `first`, as one transaction; `fill` returns where its COMMIT is.
  void transact(const std::function<void()>& first, const std::function<std::size_t(Pipeline&)>& fill);
  template <class Ask>
  auto asked(Ask ask);               // a question of the session that is there
  void make_partitions(Instant at);  // before `at` comes near the end of those that exist
  void plan_anew_if_grown(const Batch& batch, std::size_t unfolded);
  void may_be_idle_for(std::chrono::milliseconds time);
  void lose_session();
  [[noreturn]] void fail(const SqlError& error);

  PgStoreOptions options_;
  std::unique_ptr<Connection> connection_;
  LeaderCard card_;
  bool former_terms_ended_ = false;
  Term term_;              // 0 = has never led
  bool has_lock_ = false;  // this session has it
  int last_backend_ = 0;   // of the session before, which may linger
  bool just_loaded_ = false;
  // Rows of the hot tables since the session's statements were planned, and how many it takes for new plans.
  std::size_t grown_ = 0, plan_anew_at_ = 0;
  KnownTexts texts_;             // of this session
  FoldedTasks folded_;           // at least those without rows of their own
  Instant partitions_end_;       // events from here on would go to the default partition
  Instant partitions_again_at_;  // not looked at before
};

}  // namespace tutti::db
