// The leader while another one leads, and what it has to know of those before it.
#include <spdlog/spdlog.h>

#include <utility>

#include "scheduler/model/lead_rules.h"
#include "scheduler/service/clocks.h"
#include "scheduler/service/leader.h"

namespace tutti {

namespace {
constexpr Duration kWatchEvery = std::chrono::seconds(1);
constexpr Duration kLockPause = std::chrono::milliseconds(10);
}  // namespace

// Another session holds the leader lock.
bool Leader::is_taken(std::exception_ptr why) {
  try {
    std::rethrow_exception(why);
  } catch (const StoreError& error) {
    return error.kind == StoreError::deposed;
  } catch (...) {
    return false;
  }
}

// The store has waited for it in vain, as long as it waits.
void Leader::ask_again_for_the_lock() {
  retry_timer_.expires_after(kLockPause);
  retry_timer_.async_wait([this](boost::system::error_code ec) {
    if (!ec) take_lead();
  });
}

// Not while it stops: its last word is that it renews nothing any more, and a connection that has been opened
// a moment ago may still be on its way to us.
bool Leader::may_renew() const {
  const Mono now = boot_now();
  return leads() && !stopping_ && now - pulse_at_ <= settings_.stood_still && confirmed_at_ >= doubted_at_ &&
         lead::may_renew(now, confirmed_at_, settings_.card.renews_for);
}

void Leader::watch_leader() {
  const auto again = [this] {
    if (stopping_) return;
    watch_timer_.expires_after(kWatchEvery);
    watch_timer_.async_wait([this](boost::system::error_code ec) {
      if (!ec) watch_leader();
    });
  };
  store_.watch(
      [this, again](Reader& reader) -> std::function<void()> {
        return [this, again, leader = reader.leader()] {
          look_at_leader(leader);
          again();
        };
      },
      [again](std::exception_ptr) { again(); });  // whoever led may lead still
}

void Leader::look_at_leader(const LeaderView& leader) {
  if (stopping_) return;
  seen_ = leader;
  if (leads() || deposed_already_ || !leader.term) return;
  if (!lock_is_taken_) return;  // the lock will tell in a moment
  if (leader.over) return;      // its session is about to end: perhaps our own former self's
  if (!leader.key_print.empty() && !settings_.card.key_print.empty() &&
      leader.key_print != settings_.card.key_print) {
    deposed_already_ = true;
    return deposed_("the files `token` and `secret` in --data are not those of " + leader.holder +
                    ", which leads: replicas share them; copy both from there");
  }
  detail_ = "standby; " + leader.holder + " leads, term " + to_string(leader.term);
  if (std::exchange(told_of_, leader.term) == leader.term) return;
  spdlog::info("standby: {} leads, term {}, {}", leader.holder, leader.term.value,
               leader.url.empty() ? "which does not say where it is reached" : leader.url);
  metrics_.leader_changed(false);
}

// A former leader that is over, by its own word or because it has been started again, renews nothing.
void Leader::ask_predecessors() {
  if (!leads() || asking_predecessors_ || others_renew_until_ <= boot_now()) return;
  asking_predecessors_ = true;
  auto renew = std::make_shared<Duration>();
  auto urls = std::make_shared<std::vector<std::string>>();
  store_.write(
      [renew, urls](Store& store) {
        *renew = store.predecessors_renew();
        if (*renew > Duration::zero()) *urls = store.predecessor_urls();
      },
      [this, renew, urls](std::exception_ptr failure) {
        asking_predecessors_ = false;
        if (failure || stopping_ || deposed_already_) return;
        if (*renew > Duration::zero()) {
          if (tell_predecessors_ && !urls->empty()) tell_predecessors_(std::move(*urls), term_);
          return;
        }
        others_renew_until_ = {};
        leases_.nobody_else_renews(boot_now());
        spdlog::info("every leader before this one is over");
        tick_due_ = true;
        kick();
      });
}

// Ready to take over, and able to say who leads meanwhile. Not so when the row is our own former self's: its
// session is about to end.
bool Leader::is_standby() const {
  return !leads() && !deposed_already_ && lock_is_taken_ && seen_ && seen_->term && !seen_->over &&
         (settings_.card.url.empty() || seen_->url != settings_.card.url);
}

ServiceStatus Leader::status() const {
  return ServiceStatus{.ready = plane_ != nullptr,
                       .detail = detail_ + (commits_are_slow() ? "; commits are slow" : ""),
                       .leader = leads() || !seen_ ? settings_.holder : seen_->holder,
                       .term = leads() || !seen_ ? term_.value : seen_->term.value,
                       .commit_ms = commit_ms_,
                       .inbox = inbox_.size(),
                       .inbox_limit = settings_.max_inbox,
                       .standby = is_standby(),
                       .leader_url = leads() ? settings_.card.url
                                     : seen_ ? seen_->url
                                             : "",
                       .reasons = reasons()};
}

}  // namespace tutti
