// PgStore: who leads. The lock, the term, and what is known of the leaders before us.
#include <thread>

#include "db/pg/connection.h"
#include "db/pg/pg_store.h"
#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto kLockPoll = milliseconds(50);
constexpr auto kShort = std::chrono::seconds(2);
constexpr int kMostPredecessors = 8;

Connection::Deadline in(milliseconds t) { return steady_clock::now() + t; }

}  // namespace

// A session of ours that was cut off may still hold the lock, in the middle of a COMMIT even. It is told to
// end; either way the lock comes free only when its transaction is decided.
void PgStore::take_lock() {
  Connection& c = session();
  if (has_lock_) return;
  if (last_backend_ != 0 && last_backend_ != c.backend_pid()) {
    Params params;
    params.integer(last_backend_);
    c.run(Statement{"",
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND "
                    "database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted "
                    "AND (classid::bigint << 32 | objid::bigint) = 7381204461550002 AND pid = $1::integer"},
          &params, in(kShort));
  }
  // Asked for again and again: a wait inside the server would hold a snapshot, which keeps vacuum from its
  // work, and each end of one is an error in the server's log.
  for (const auto until = in(options_.leadership_wait);;) {
    const Result r =
        c.run(Statement{"try_lead", "SELECT pg_try_advisory_lock(7381204461550002)"}, nullptr, in(kShort));
    if (RowReader(r, 0).boolean()) break;
    if (steady_clock::now() + kLockPoll > until)
      throw StoreError(StoreError::deposed, "another session holds the leadership");
    std::this_thread::sleep_for(kLockPoll);  // the store's own thread; it has nothing else to do
  }
  last_backend_ = c.backend_pid();
  check_schema(c);
  has_lock_ = true;
}

// A newer scheduler may have changed it since we came, or while our session was lost. What one version adds
// does not trouble us; beyond that the rows may mean something else.
bool PgStore::check_schema(Connection& c) {
  if (options_.schema == 0) return false;
  const Result r = c.run(Statement{"", "SELECT coalesce(max(version), 0)::bigint FROM schema_migration"},
                         nullptr, in(kShort));
  const auto found = RowReader(r, 0).bigint();
  if (found <= options_.schema + 1) return found > options_.schema;
  lose_session();  // gives the lock back
  throw StoreError(StoreError::outdated, "the database is at schema version " + std::to_string(found) +
                                             ", this program knows " + std::to_string(options_.schema) +
                                             " and serves " + std::to_string(options_.schema + 1) +
                                             " at most: install the newer one");
}

void PgStore::check_still_leader() {
  Params params;
  params.bigint(term_.value);
  const Result r =
      connection_->run(Statement{"", "SELECT term = $1::bigint, term FROM leader"}, &params, in(kShort));
  if (r.rows() != 1) throw StoreError(StoreError::corrupt, "table leader has not exactly one row");
  RowReader row(r, 0);
  if (row.boolean()) return;
  const std::string newest = std::to_string(row.bigint());
  lose_session();  // gives the lock back
  throw StoreError(StoreError::deposed, "term " + to_string(term_) + " is over, the newest is " + newest);
}

void PgStore::confirm_leadership() {
  session();
  check_still_leader();
  try {
    take_lock();
  } catch (const StoreError& e) {
    if (e.kind != StoreError::deposed) throw;
    // The term is ours and the lock is not: an old session of ours is still on its way out, or somebody is
    // about to raise the term. The next call will tell.
    throw StoreError(StoreError::unavailable, "another session still holds the leadership lock");
  }
  prove_leadership();
}

// Before the lock is waited for: whoever leads now learns of it.
void PgStore::end_former_terms() {
  session();
  if (former_terms_ended_ || card_.instance.empty()) return;
  Params params;
  params.text(card_.instance);
  connection_->run(Statement{"",
                             "UPDATE leader_term SET over_at = clock_timestamp()"
                             " WHERE instance = $1::text AND over_at IS NULL"},
                   &params, in(kShort));
  former_terms_ended_ = true;
}

Term PgStore::acquire_leadership(const std::string& holder) {
  try {
    end_former_terms();
    take_lock();
    former_terms_ended_ = false;  // if this fails after the term has been raised, that term was never led
    Params params;
    params.text(holder).text(card_.url).text(card_.instance).text(card_.key_print);
    params.bigint(card_.renews_for.count());
    // Waits for a commit of the leader before us that is still under way: it holds the row FOR SHARE.
    const Result r = connection_->run(
        Statement{"",
                  "WITH next AS (UPDATE leader SET term = term + 1, holder = $1::text,"
                  " since = clock_timestamp() RETURNING term, since)"
                  " INSERT INTO leader_term (term, holder, url, instance, key_print, renews_us, began_at)"
                  " SELECT term, $1::text, $2::text, $3::text, $4::text, $5::bigint, since FROM next"
                  " RETURNING term"},
        &params, in(options_.commit_timeout));
    if (r.rows() != 1) throw StoreError(StoreError::corrupt, "table leader has not exactly one row");
    RowReader row(r, 0);
    term_ = Term(row.bigint());
    forget_former_terms();
    folded_.forget();
    StoredArrays::load(*connection_, in(options_.commit_timeout)).put_into(folded_);
    partitions_end_ = partitions_again_at_ = Instant{};
    make_partitions(std::chrono::floor<Duration>(std::chrono::system_clock::now()));
    return term_;
  } catch (const SqlError& e) {
    fail(e);
  } catch (const ConnectionLost& e) {
    has_lock_ = false;
    throw StoreError(StoreError::unavailable, e.what());
  } catch (const StoreError&) {
    throw;
  } catch (...) {  // no memory: perhaps in the middle of an answer
    lose_session();
    throw;
  }
}

// Those that are over are kept for people to look at, the newest of them for longer. One that is not known to
// be over renews nothing after its time, which began at the latest with the next term: a week later nobody
// asks for it either.
void PgStore::forget_former_terms() {
  Params params;
  params.bigint(term_.value);
  connection_->run(Statement{"",
                             "DELETE FROM leader_term WHERE term IN (SELECT t.term FROM leader_term t"
                             " CROSS JOIN LATERAL (SELECT began_at FROM leader_term"
                             " WHERE term > t.term ORDER BY term LIMIT 1) n WHERE t.term < $1::bigint"
                             " AND CASE WHEN t.over_at IS NULL THEN n.began_at"
                             " + t.renews_us * interval '1 microsecond' + interval '7 days'"
                             " ELSE t.over_at + CASE WHEN t.term < $1::bigint - 1000"
                             " THEN interval '7 days' ELSE interval '400 days' END END < clock_timestamp()"
                             " ORDER BY t.term LIMIT 10000)"},
                   &params, in(options_.commit_timeout));
}

template <class Ask>
auto PgStore::asked(Ask ask) {
  try {
    if (!connection_ || connection_->closed_by_server())
      throw StoreError(StoreError::unavailable, "the session with PostgreSQL is lost");
    return ask();
  } catch (const SqlError& e) {
    fail(e);
  } catch (const ConnectionLost& e) {
    lose_session();
    throw StoreError(StoreError::unavailable, e.what());
  } catch (const StoreError&) {
    throw;
  } catch (...) {
    lose_session();
    throw;
  }
}

// A term ended before the next one began, and its leader renews for so long after that at most. As of the
// begin of our own term, by the instants that were written down: a step of the server's clock since then, on
// which this is asked each second, ends nobody's belief. Only over_at does.
Duration PgStore::predecessors_renew() {
  return asked([&] {
    Params params;
    params.bigint(term_.value);
    const Result r =
        connection_->run(Statement{"",
                                   "SELECT greatest(0, max(t.renews_us -"
                                   " (extract(epoch FROM own.began_at - n.began_at) * 1000000)::bigint))"
                                   " FROM leader_term own CROSS JOIN leader_term t"
                                   " CROSS JOIN LATERAL (SELECT began_at FROM leader_term"
                                   " WHERE term > t.term ORDER BY term LIMIT 1) n"
                                   " WHERE own.term = $1::bigint AND t.term < $1::bigint"
                                   " AND t.over_at IS NULL"},
                         &params, in(kShort));
    RowReader row(r, 0);
    return Duration(row.bigint());
  });
}

std::vector<std::string> PgStore::predecessor_urls() {
  return asked([&] {
    Params params;
    params.bigint(term_.value).bigint(kMostPredecessors);
    const Result r =
        connection_->run(Statement{"",
                                   "SELECT t.url FROM leader_term own CROSS JOIN leader_term t"
                                   " CROSS JOIN LATERAL (SELECT began_at"
                                   " FROM leader_term WHERE term > t.term ORDER BY term LIMIT 1) n"
                                   " WHERE own.term = $1::bigint AND t.term < $1::bigint"
                                   " AND t.over_at IS NULL AND t.url <> ''"
                                   " AND n.began_at + t.renews_us * interval '1 microsecond' >"
                                   " own.began_at GROUP BY t.url ORDER BY max(t.term) DESC"
                                   " LIMIT $2::bigint"},
                         &params, in(kShort));
    std::vector<std::string> urls;
    for (int i = 0; i < r.rows(); ++i) {
      RowReader row(r, i);
      urls.push_back(row.text());
    }
    return urls;
  });
}

void PgStore::resign() noexcept {
  try {
    if (connection_ && !connection_->closed_by_server() && term_) {
      Params params;
      params.bigint(term_.value);
      connection_->run(Statement{"",
                                 "UPDATE leader_term SET over_at = clock_timestamp()"
                                 " WHERE term = $1::bigint AND over_at IS NULL"},
                       &params, in(kShort));
    }
  } catch (const std::exception&) {  // the next leader waits, or our successor here says it
  }
  lose_session();
}

}  // namespace tutti::db
