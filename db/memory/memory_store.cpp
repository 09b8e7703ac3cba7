#include "db/memory/memory_store.h"

#include <utility>

#include "db/rules.h"

namespace tutti::db {

MemoryStore::MemoryStore(std::shared_ptr<MemoryDatabase> database) : database_(std::move(database)) {}
MemoryStore::~MemoryStore() { drop_session(); }

void MemoryStore::drop_session() {
  if (session_ != 0) database_->close_session(session_);
  session_ = 0;
}

void MemoryStore::set_reachable(bool reachable) {
  reachable_ = reachable;
  if (!reachable) drop_session();
}

void MemoryStore::connect() {
  if (!reachable_) throw StoreError(StoreError::unavailable, "the database cannot be reached");
  if (session_ == 0) session_ = database_->open_session();
}

Term MemoryStore::acquire_leadership(const std::string& holder) {
  connect();
  if (!card_.instance.empty()) database_->end_terms_of(card_.instance);
  term_ = database_->acquire(session_, holder, now_ ? now_() : Instant{}, card_);
  return term_;
}

Duration MemoryStore::predecessors_renew() {
  if (session_ == 0) throw StoreError(StoreError::unavailable, "the session with the database is lost");
  return database_->predecessors_renew(term_);
}

std::vector<std::string> MemoryStore::predecessor_urls() {
  if (session_ == 0) throw StoreError(StoreError::unavailable, "the session with the database is lost");
  return database_->predecessor_urls(term_);
}

void MemoryStore::resign() noexcept {
  if (session_ != 0 && term_) database_->end_term(term_);
  drop_session();
}

Snapshot MemoryStore::load() {
  connect();
  if (term_) {
    if (const Term newest = database_->leader().term; newest != term_) {
      drop_session();
      throw StoreError(StoreError::deposed,
                       "term " + to_string(term_) + " is over, the newest is " + to_string(newest));
    }
    try {
      database_->take_lock(session_);
    } catch (const StoreError& e) {
      throw StoreError(StoreError::unavailable, e.what());  // the term is ours still: the next call will tell
    }
  }
  return database_->load();
}

void MemoryStore::commit(const Batch& batch) {
  require_well_formed(batch);
  if (!term_) throw StoreError(StoreError::deposed, "this store has never led");
  if (session_ == 0) throw StoreError(StoreError::unavailable, "the session with the database is lost");
  switch (std::exchange(fault_, Fault::none)) {
    case Fault::none: database_->commit(batch, term_); return;
    case Fault::unavailable:
      drop_session();
      throw StoreError(StoreError::unavailable, "simulated: connection lost before COMMIT");
    case Fault::in_doubt_applied:
      database_->commit(batch, term_);
      drop_session();
      throw StoreError(StoreError::in_doubt, "simulated: connection lost during COMMIT");
    case Fault::in_doubt_not_applied:
      drop_session();
      throw StoreError(StoreError::in_doubt, "simulated: connection lost during COMMIT");
  }
}

bool MemoryStore::healthy() noexcept { return session_ != 0 && reachable_; }

}  // namespace tutti::db
