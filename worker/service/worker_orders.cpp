// Part of worker.h: what the scheduler says, under which term it is obeyed, and whose accounts it speaks of.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <utility>
#include <variant>

#include "api/wire/messages.h"
#include "scheduler/model/condition_table.h"
#include "scheduler/model/lead_rules.h"
#include "worker/service/machine.h"
#include "worker/service/worker.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kMostMasks = 64;
// A directory service that is away is asked again, almost as long as the scheduler waits for a node to be
// ready.
constexpr Duration kAccountPatience = std::chrono::minutes(14);
constexpr std::chrono::seconds kAskAccountAgain{3};

// `done` gets the answer, or the last refusal; `wanted` no more: it is not called.
void look_up(Accounts& accounts, asio::io_context& io, const std::string& owner, Mono until,
             std::function<bool()> wanted, std::function<void(Result<Account>)> done) {
  accounts.find(owner, [&accounts, &io, owner, until, wanted, done](const Result<Account>& user) {
    const bool again = !user && user.error().code == Errc::unavailable && read_clocks().mono < until;
    if (!again) return done(user);
    spdlog::warn("{}; asking again", user.error().message);
    auto later = std::make_shared<asio::steady_timer>(io, kAskAccountAgain);
    later->async_wait([&accounts, &io, owner, until, wanted, done, later](boost::system::error_code ec) {
      if (!ec && wanted()) look_up(accounts, io, owner, until, wanted, done);
    });
  });
}

}  // namespace

void Worker::handle(const std::string& text) {
  const auto message = wire::decode_to_worker(text);
  if (!message) {  // perhaps a newer scheduler
    spdlog::warn("message not understood: {}", message.error().message);
    return;
  }
  const auto now = read_clocks();
  struct Dispatch {
    Worker& w;
    Now now;
    void operator()(const protocol::Welcome& m) {
      if (!w.obey(m)) return;
      spdlog::info("registered as node {}, lease {} ms", m.node_id, m.lease_us / 1000);
      w.client_->on_welcome();
      w.counted_.connected = true;
      w.use_peer_secret(m.peer_secret);
      protocol::Welcome welcome = m;
      if (w.term_ == 0) welcome.term.reset();
      w.core_.on_welcome(now, welcome);
      w.core_.on_condition_over(now, std::string(kJoinedCordoned), "");
      w.say_ranks_again();
    }
    void operator()(const protocol::Refused& m) {
      if (m.leader)
        w.client_->redirected(m.why, *m.leader);
      else
        w.client_->refused(m.why);
    }
    void operator()(const protocol::HeartbeatAck& m) {
      ++w.counted_.acks;
      w.core_.on_heartbeat_ack(now, m);
    }
    void operator()(const protocol::Prepare& m) { w.prepare(m); }
    void operator()(const protocol::Launch& m) { w.core_.on_launch(now, m); }
    void operator()(const protocol::Stop& m) { w.core_.on_stop(now, m); }
    void operator()(const protocol::SignalRanks& m) { w.core_.on_signal_ranks(m); }
    void operator()(const protocol::Forget& m) { w.core_.on_forget(now, m); }
    void operator()(const protocol::DeleteCheckpoint& m) { w.core_.on_delete_checkpoint(m); }
    void operator()(const protocol::ReadLog& m) { w.read(m); }
    void operator()(const protocol::Inspect& m) { w.core_.on_inspect(now, m); }
    void operator()(const protocol::AskSilence& m) { w.core_.on_ask_silence(now, m); }
    void operator()(const protocol::OpenShell& m) { w.open_shell(m); }
    void operator()(const protocol::ShellInput& m) { w.shells_.input(m); }
    void operator()(const protocol::ShellResize& m) { w.shells_.resize(m); }
    void operator()(const protocol::CloseShell& m) { w.shells_.close(m.shell); }
  };
  std::visit(Dispatch{*this, now}, *message);
  settle();
}

// Nothing is about to begin, and of what was here the end is proven; that may wait to be told.
bool Worker::nothing_lives() const {
  return being_looked_up_.empty() && being_killed_.empty() &&
         std::ranges::all_of(core_.attempts(), [this](AttemptKey key) {
           const auto status = core_.status_of(key);
           return core_.find(key)->ended && status.end && status.end->proven;
         });
}

// Terms do not fall while anything lives here: the new leader counts on it that the one before renews no
// lease any more. So the term stands on the disk before anything is said under it. With nothing alive a lower
// one is obeyed (a database that was set up anew, or restored without its term being raised): there is no
// lease to protect, and a leader of before begins nothing here, for that takes a commit under its own term.
bool Worker::obey(const protocol::Welcome& welcome) {
  if (!welcome.term) {  // an older scheduler
    term_ = 0;
    return true;
  }
  if (!lead::obeys(*welcome.term, term_, !nothing_lives())) {
    client_->refused("its term " + std::to_string(*welcome.term) + " is over, term " + std::to_string(term_) +
                     " has been obeyed here");
    return false;
  }
  if (*welcome.term < term_) {
    spdlog::warn("term {} is obeyed, though {} was: nothing lives here; has the database been restored?",
                 *welcome.term, term_);
  }
  if (*welcome.term == term_) return true;
  try {
    supervisor::replace_file(settings_.state_dir + "/term", std::to_string(*welcome.term), true);
    term_ = *welcome.term;
  } catch (const std::exception& e) {
    spdlog::error("the leader's term cannot be kept: {}", e.what());
    term_ = 0;  // nothing is claimed
  }
  return true;
}

// Its owner's account first, which may take a while. A Stop that comes meanwhile finds no attempt, and then
// none begins.
void Worker::prepare(const protocol::Prepare& m) {
  if (core_.find(m.key)) return core_.on_prepare(read_clocks(), m, {});  // said again
  if (!being_looked_up_.insert(m.key).second) return;
  look_up(
      accounts_, io_, m.owner, read_clocks().mono + kAccountPatience,
      [this, key = m.key] { return being_looked_up_.contains(key); },
      [this, m](Result<Account> user) {
        if (being_looked_up_.erase(m.key) == 0) return;  // the connection is another one
        auto parsed = parse(m.spec_json);
        if (user)
          users_[m.key] = *std::move(user);
        else
          parsed.refusal = user.error().message;
        core_.on_prepare(read_clocks(), m, parsed);
        settle();
      });
}

void Worker::open_shell(const protocol::OpenShell& m) {
  const auto view = core_.find(m.key);
  const auto* user = user_of(m.key);
  if (!view || user == nullptr || !links_.contains(m.key) || view->phase != protocol::Phase::running)
    return shells_.refuse(m.shell, "the attempt does not run on node " + settings_.node);
  shells_.open(m, dirs_.path(m.key), login_shell(user->shell));
}

const Account* Worker::user_of(AttemptKey key) {
  if (const auto known = users_.find(key); known != users_.end()) return &known->second;
  auto read = dirs_.read_account(key);
  if (!read) return nullptr;
  if (!core_.find(key)) {  // retired: once in a while somebody reads its logs
    retired_user_ = *std::move(read);
    return &retired_user_;
  }
  return &(users_[key] = *std::move(read));
}

const SecretMask& Worker::mask_of(AttemptKey key) {
  static const SecretMask kNone;
  if (!dirs_.exists(key)) return kNone;  // no log either, and its secrets are still to come
  if (const auto known = masks_.find(key); known != masks_.end()) return known->second;
  if (masks_.size() >= kMostMasks) masks_.clear();
  return masks_[key] = dirs_.read_mask(key);
}

}  // namespace tutti::worker
