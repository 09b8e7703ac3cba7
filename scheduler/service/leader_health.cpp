// How the leader knows that the store takes its writes, that it is not taken for dead, and what it says when
// something of that is not so (docs/design/0016-replicas.md).
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "db/aside.h"
#include "scheduler/service/clocks.h"
#include "scheduler/service/leader.h"

namespace tutti {

namespace {
constexpr Duration kHealthEvery = std::chrono::seconds(1);
constexpr Duration kProveEvery = std::chrono::seconds(30);
constexpr Duration kSlowRemembered = std::chrono::seconds(10);
}  // namespace

void Leader::check_health() {
  health_timer_.expires_after(kHealthEvery);
  health_timer_.async_wait([this](boost::system::error_code ec) {
    if (ec) return;
    notice_pause();
    count_outage();
    ask_predecessors();
    ask_store();
    check_health();
  });
}

// Who was paused, or on a machine that was, may have been followed by another long ago: what it knew before
// says nothing, whatever R is.
void Leader::notice_pause() {
  const Mono now = boot_now();
  const Duration stood = now - std::exchange(pulse_at_, now);
  if (stood <= settings_.stood_still) return;
  doubted_at_ = now;
  if (leads())
    spdlog::warn("this process stood still for {:.1f} s: it asks whether it leads", to_seconds(stood));
}

// Notices a lost store while nothing is being written, and keeps the session from being taken for a frozen
// one. A question is answered also by a server that was replaced and goes on alone; so from time to time it
// is a write.
void Leader::ask_store() {
  if (!plane_ || committing_) return;
  const Mono now = boot_now();
  const Duration prove_every = std::min(settings_.card.renews_for / 4, kProveEvery);
  const bool prove = confirmed_at_ < doubted_at_ || now - confirmed_at_ >= prove_every;
  if (!prove && now - last_store_contact_ < kHealthEvery) return;
  committing_ = true;
  if (prove) commit_began_ = now;
  store_.write(
      [prove](Store& store) {
        if (prove)
          store.prove_leadership();
        else if (!store.healthy())
          throw StoreError(StoreError::unavailable, "the session is lost");
      },
      [this, prove, asked_at = now](std::exception_ptr failure) {
        committing_ = false;
        commit_began_.reset();
        if (stopping_) return finish_stop();
        if (failure) {
          if (!is_deposed(failure)) recover(Why::store_lost, text_of(failure));
          return;
        }
        if (prove) confirmed_at_ = asked_at;
        last_store_contact_ = boot_now();
        kick();
      });
}

bool Leader::told_of_term(Term term, const std::string& holder) {
  if (!leads() || stopping_ || term <= term_) return false;
  depose("term " + to_string(term_) + " is over: " + holder + " leads with term " + to_string(term));
  return true;
}

// ---------------------------------------------------------------- the store is away

// One line when it is lost, and one when it answers again, however often it is asked meanwhile. Of what keeps
// it away in between: what ended the session may be over, and another thing in the way.
void Leader::store_lost(const std::string& why) {
  if (deposed_already_) return;
  if (store_lost_at_) return say_why_away(why);
  store_lost_at_ = outage_counted_to_ = said_why_away_at_ = boot_now();
  why_away_ = why;
  metrics_.store_lost();
  spdlog::error("the store is lost: {}; what runs goes on, nothing is decided until it answers", why);
}

void Leader::say_why_away(const std::string& why) {
  const Mono now = boot_now();
  if (why == why_away_ || now - said_why_away_at_ < settings_.say_why_away) return;
  why_away_ = why;
  said_why_away_at_ = now;
  spdlog::error("the store is away for {:.1f} s, now: {}", to_seconds(now - *store_lost_at_), why);
}

void Leader::store_answers() {
  if (!store_lost_at_) return;
  count_outage();
  outage_counted_to_.reset();
  spdlog::warn("the store answers again, after {:.1f} s",
               to_seconds(boot_now() - *std::exchange(store_lost_at_, std::nullopt)));
}

void Leader::count_outage() {
  if (!outage_counted_to_) return;
  const Mono now = boot_now();
  metrics_.store_away(to_seconds(now - *std::exchange(outage_counted_to_, now)));
}

// ---------------------------------------------------------------- what is told of it

bool Leader::commits_are_slow() const {
  const Mono now = boot_now();
  if (commit_began_ && now - *commit_began_ >= settings_.slow_commit) return true;
  return commit_ms_ >= to_seconds(settings_.slow_commit) * 1e3 && now - committed_at_ < kSlowRemembered;
}

std::vector<std::string> Leader::reasons() const {
  std::vector<std::string> all;
  if (store_lost_at_)
    all.emplace_back("store_unavailable");
  else if (!plane_ && !is_standby())
    all.emplace_back("starting");
  if (commits_are_slow()) all.emplace_back("slow_commits");
  if (inbox_weight_ >= settings_.max_inbox) all.emplace_back("inbox_full");
  return all;
}

}  // namespace tutti
