// Reading the rows, judging who somebody is, and writing changes one after the other. What the changes are:
// account_changes.cpp.
#include "api/accounts/accounts.h"

#include <algorithm>
#include <new>

namespace tutti {
namespace {

constexpr std::size_t kMostChanges = 1'000;    // waiting
constexpr std::size_t kMostRecorded = 20'000;  // waiting
constexpr std::size_t kAuditBatch = 1'000;
constexpr int kForgetAtOnce = 10'000;                    // rows of the audit trail
constexpr Duration kUseGrain = std::chrono::minutes(1);  // uses within it are one

Error unknown(std::string message) {
  return {.code = Errc::unauthenticated,
          .message = std::move(message),
          .hint = "make a new one with tutti login or tutti token create",
          .field = ""};
}

/// Somebody may have less than before.
bool takes_away(const AccountBatch& batch) {
  const auto revoked = [](const auto& row) { return row.revoked_at.has_value(); };
  return !batch.users.empty() || !batch.removed_users.empty() || !batch.removed_sessions.empty() ||
         std::ranges::any_of(batch.tokens, revoked) || std::ranges::any_of(batch.nodes, revoked);
}

}  // namespace

Error Accounts::unavailable() {
  return {.code = Errc::unavailable,
          .message = "the database of accounts is not available",
          .hint = "try again in a second",
          .field = ""};
}

namespace {

Error error_of(std::exception_ptr failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const StoreError& e) {
    if (e.kind == StoreError::conflict)
      return {.code = Errc::conflict,
              .message = "changed by somebody else meanwhile",
              .hint = "try again",
              .field = ""};
    if (e.kind == StoreError::in_doubt)
      return {.code = Errc::in_doubt,
              .message = "the database went away while this was written: it may have happened",
              .hint = "look whether it has, then try again",
              .field = ""};
    return {.code = Errc::unavailable,
            .message = "the database of accounts is not available",
            .hint = "try again in a second",
            .field = ""};
  } catch (const std::bad_alloc&) {
    return {.code = Errc::in_doubt,
            .message = "there was not enough memory for this: it may have happened",
            .hint = "look whether it has, then try again",
            .field = ""};
  } catch (const std::exception& e) {
    return {.code = Errc::internal, .message = e.what(), .hint = "", .field = ""};
  }
}

Result<AccountBatch> decide(const std::function<Result<AccountBatch>()>& change) {
  try {
    return change();
  } catch (...) {
    return error_of(std::current_exception());
  }
}

}  // namespace

Accounts::Accounts(AccountStore& store, Aside aside, Aside hashing, AccountSettings settings, Clock clock)
    : store_(store),
      aside_(std::move(aside)),
      hashing_aside_(std::move(hashing)),
      settings_(std::move(settings)),
      clock_(std::move(clock)),
      oidc_(settings_.oidc) {}

// ---------------------------------------------------------------- rows

void Accounts::start() { load(); }

void Accounts::sweep() {
  open_.sweep([this](const Identity& who) { return renewed(who); });
}

void Accounts::refresh() {
  sweep();
  if (!loaded_) return load();
  pump();  // what there was no memory for
  forget_audit();
  AccountBatch uses;
  for (const auto& id : std::exchange(used_tokens_, {}))
    if (const auto at = tokens_.find(id); at != tokens_.end()) uses.used_tokens.push_back(at->second);
  for (const auto& id : std::exchange(seen_sessions_, {}))
    if (const auto at = sessions_.find(id); at != sessions_.end()) uses.seen_sessions.push_back(at->second);
  auto newest = std::make_shared<std::int64_t>(0);
  aside_(
      [&store = store_, uses, newest] {
        if (!uses.used_tokens.empty() || !uses.seen_sessions.empty()) store.commit(uses, 0);
        *newest = store.revision();
      },
      [this, newest](std::exception_ptr failure) {
        if (!failure && *newest != revision_ && !busy_) load();
      });
}

// A piece at each refresh until nothing old is left, then a look once an hour. What fails is tried again by
// the next refresh.
void Accounts::forget_audit() {
  const Instant now = clock_();
  const bool early = next_forgetting_ && now < *next_forgetting_;
  if (settings_.audit_life <= Duration(0) || forgetting_ || early) return;
  auto more = std::make_shared<bool>(true);
  begin(
      forgetting_,
      [&store = store_, more, before = now - settings_.audit_life] {
        *more = store.forget_audit(before, kForgetAtOnce);
      },
      [this, more, now](std::exception_ptr failure) {
        forgetting_ = false;
        if (!failure && !*more) next_forgetting_ = now + std::chrono::hours(1);
      });
}

// `done` sets it back; so does this if it comes to nothing.
void Accounts::begin(bool& under_way, std::function<void()> work,
                     std::function<void(std::exception_ptr)> done) {
  under_way = true;
  try {
    aside_(std::move(work), std::move(done));
  } catch (...) {
    under_way = false;
    throw;
  }
}

void Accounts::load() {
  if (loading_) return;
  auto rows = std::make_shared<AccountSnapshot>();
  begin(
      loading_, [&store = store_, rows] { *rows = store.load(); },
      [this, rows](std::exception_ptr failure) {
        loading_ = false;
        if (failure || rows->revision < revision_) return;  // the next refresh tries again
        take(*rows);
      });
}

void Accounts::take(const AccountSnapshot& rows) {
  const auto by = [](auto& map, const auto& list, auto key) {
    map.clear();
    for (const auto& row : list) map.emplace(row.*key, row);
  };
  by(users_, rows.users, &UserRow::name);
  // Uses that are not written down yet must not be forgotten.
  auto old = std::move(tokens_);
  by(tokens_, rows.tokens, &TokenRow::id);
  for (auto& [id, row] : tokens_)
    if (const auto at = old.find(id); at != old.end() && at->second.last_used_at > row.last_used_at) {
      row.last_used_at = at->second.last_used_at;
      row.last_used_from = at->second.last_used_from;
    }
  by(sessions_, rows.sessions, &SessionRow::id);
  by(joins_, rows.join_tokens, &JoinTokenRow::id);
  by(nodes_, rows.nodes, &NodeCredentialRow::id);
  revision_ = rows.revision;
  loaded_ = true;
  sweep();
}

void Accounts::apply(const AccountBatch& batch) {
  for (const auto& row : batch.users) users_[row.name] = row;
  for (const auto& row : batch.tokens) tokens_[row.id] = row;
  for (const auto& row : batch.sessions) sessions_[row.id] = row;
  for (const auto& row : batch.join_tokens) joins_[row.id] = row;
  for (const auto& row : batch.nodes) nodes_[row.id] = row;
  for (const auto& name : batch.removed_users) {
    users_.erase(name);
    std::erase_if(sessions_, [&](const auto& s) { return s.second.user == name; });
  }
  for (const auto& id : batch.removed_sessions) sessions_.erase(id);
  for (const auto& id : batch.removed_join_tokens) joins_.erase(id);
}

void Accounts::change(std::function<Result<AccountBatch>()> decide, std::function<void(const Error*)> done) {
  if (!loaded_ || changes_.size() >= kMostChanges) {
    const Error error = unavailable();
    return done(&error);
  }
  changes_.push_back({std::move(decide), std::move(done)});
  pump();
}

void Accounts::record(AuditRow row, std::function<void(bool)> done) {
  if (recorded_.size() >= kMostRecorded) return done(false);
  recorded_.push_back({std::move(row), std::move(done)});
  pump();
}

// One transaction at a time: the oldest change, and all that is to be recorded. If there is no memory for it,
// everything goes back to its place.
void Accounts::pump() {
  if (busy_ || (changes_.empty() && recorded_.empty())) return;
  auto round = std::make_shared<Round>();
  while (!changes_.empty() && round->changed.empty()) {
    std::list<Change> next;
    next.splice(next.begin(), changes_, changes_.begin());
    auto decided = decide(next.front().decide);
    if (!decided) {
      const Error& error = decided.error();
      next.front().done(&error);
      if (busy_) return;  // it asked for something, which pumped
      continue;
    }
    round->batch = *std::move(decided);
    round->changed.swap(next);
  }
  try {
    while (!recorded_.empty() && round->stored.size() < kAuditBatch) {
      round->batch.audit.push_back(recorded_.front().row);
      round->stored.splice(round->stored.end(), recorded_, recorded_.begin());
    }
    if (round->changed.empty() && round->stored.empty()) return;
    begin(
        busy_, [&store = store_, round, expected = revision_] { store.commit(round->batch, expected); },
        [this, round](std::exception_ptr failure) { on_committed(std::move(*round), failure); });
  } catch (...) {
    changes_.splice(changes_.begin(), round->changed);
    recorded_.splice(recorded_.begin(), round->stored);
    throw;
  }
}

void Accounts::on_committed(Round round, const std::exception_ptr& failure) {
  busy_ = false;
  if (!failure) {
    apply(round.batch);
    if (round.batch.changes()) {
      ++revision_;
      if (takes_away(round.batch)) sweep();
    }
  } else {
    load();  // perhaps it was decided on what is no more
  }
  const Error error = failure ? error_of(failure) : Error{};
  for (const auto& change : round.changed) change.done(failure ? &error : nullptr);
  for (const auto& row : round.stored) row.done(!failure);
  pump();
}

void Accounts::find_audit(const AuditFilter& filter, int limit, std::int64_t before,
                          Done<std::vector<AuditRow>> done) {
  auto rows = std::make_shared<std::vector<AuditRow>>();
  aside_([&store = store_, rows, filter, limit, before] { *rows = store.audit(filter, limit, before); },
         [rows, done = std::move(done)](std::exception_ptr failure) {
           if (failure) return done(error_of(failure));
           done(std::move(*rows));
         });
}

// ---------------------------------------------------------------- who is this?

Result<Identity> Accounts::user_identity(std::string_view user) const {
  const auto at = users_.find(user);
  if (at == users_.end()) return unknown("the user of this token or session is gone");
  if (at->second.disabled)
    return Error{.code = Errc::forbidden,
                 .message = "the account " + at->first + " is disabled",
                 .hint = "an admin can enable it again",
                 .field = ""};
  Identity who;
  who.kind = Identity::Kind::user;
  who.name = who.owner = at->first;
  who.roles = at->second.roles;
  who.scopes = kAllScopes;
  return who;
}

Result<Identity> Accounts::by_bearer(std::string_view text, std::string_view from) {
  const Instant now = clock_();
  if (!settings_.root_token.empty() && equal_in_constant_time(text, settings_.root_token)) {
    Identity root;
    root.kind = Identity::Kind::user;
    root.name = root.owner = kRootName;
    root.roles = {{std::string(kEverywhere), Role::admin}};
    root.scopes = kAllScopes;
    root.credential = "the scheduler's own token";
    return root;
  }
  if (!loaded_) return unavailable();
  if (const auto given = split_secret(kTokenPrefix, text)) {
    const auto at = tokens_.find(given->id);
    if (at == tokens_.end() || !matches(given->secret, at->second.secret_hash))
      return unknown("this token is not known");
    TokenRow& token = at->second;
    if (token.revoked_at) return unknown("this token has been revoked");
    if (token.expires_at && now >= *token.expires_at) return unknown("this token has expired");
    auto who = user_identity(token.user);
    if (!who) return who;
    who->scopes = token.scopes;
    who->credential = "token " + token.id;
    who->token = token.id;
    if (!token.last_used_at || now - *token.last_used_at >= kUseGrain || token.last_used_from != from) {
      token.last_used_at = now;
      token.last_used_from = from;
      used_tokens_.insert(token.id);
    }
    return who;
  }
  if (const auto given = split_secret(kNodePrefix, text)) {
    const auto at = nodes_.find(given->id);
    if (at == nodes_.end() || !matches(given->secret, at->second.secret_hash) || at->second.revoked_at)
      return unknown("this node's credential is not known, or has been revoked");
    Identity node = node_identity(at->second.node);
    node.node_credential = at->first;
    return node;
  }
  if (settings_.oidc.on() && looks_like_jwt(text)) {
    auto verdict = oidc_.verify(text, now);
    if (!verdict.identity) {
      if (verdict.refusal.unknown_key && fetch_keys_) fetch_keys_();
      return verdict.refusal.error;
    }
    Identity who = *std::move(verdict.identity);
    if (who.name == kRootName)
      return Error{.code = Errc::forbidden,
                   .message = "the name " + who.name + " is that of the scheduler's own token",
                   .hint = "--oidc-user-claim can name another claim",
                   .field = ""};
    return with_local_roles(std::move(who));
  }
  return unknown("this token is not known");
}

Result<Identity> Accounts::with_local_roles(Identity signed_in) const {
  const auto at = users_.find(signed_in.name);
  if (at == users_.end()) return signed_in;
  // Somebody with a password of ours is not taken for somebody of that name elsewhere.
  if (!at->second.password_hash.empty())
    return Error{.code = Errc::forbidden,
                 .message = "the name " + signed_in.name + " is that of a local account with a password",
                 .hint = "an admin can remove its password",
                 .field = ""};
  if (at->second.disabled) return user_identity(signed_in.name);
  for (const auto& [project, role] : at->second.roles) {
    auto& mine = signed_in.roles[project];
    mine = std::max(mine, role);
  }
  return signed_in;
}

std::optional<Identity> Accounts::renewed(const Identity& who) const {
  const Instant now = clock_();
  const auto user = [&](const std::string& name, std::uint8_t scopes) -> std::optional<Identity> {
    auto found = user_identity(name);
    if (!found) return std::nullopt;
    found->scopes = scopes;
    return *std::move(found);
  };
  if (!who.token.empty()) {
    const auto at = tokens_.find(who.token);
    if (at == tokens_.end() || at->second.revoked_at) return std::nullopt;
    if (at->second.expires_at && now >= *at->second.expires_at) return std::nullopt;
    return user(at->second.user, at->second.scopes);
  }
  if (!who.session.empty()) {  // an open stream is no use of it: nobody may be there
    const auto at = sessions_.find(who.session);
    if (at == sessions_.end() || now >= at->second.expires_at ||
        now >= at->second.seen_at + settings_.session_idle)
      return std::nullopt;
    return user(at->second.user, kAllScopes);
  }
  if (!who.node_credential.empty()) {
    const auto at = nodes_.find(who.node_credential);
    if (at == nodes_.end() || at->second.revoked_at) return std::nullopt;
    return who;
  }
  if (!who.expires_at) return who;  // the scheduler's own token
  if (now >= *who.expires_at) return std::nullopt;
  if (who.kind == Identity::Kind::node) return who;  // by its certificate
  Identity signed_in = who;
  signed_in.roles = who.signed_roles;
  signed_in.owner = who.name;  // in whose name it was opened is asked no more
  auto found = with_local_roles(std::move(signed_in));
  if (!found) return std::nullopt;
  return *std::move(found);
}

Result<Accounts::Session> Accounts::log_in_by_token(const std::string& token, const std::string& from) {
  constexpr std::string_view kNotInCookies = " \t\r\n;,\"\\";
  const auto who = by_bearer(token, from);
  if (!who) return who.error();
  if (who->kind != Identity::Kind::user || token.starts_with(kSessionPrefix) ||
      token.find_first_of(kNotInCookies) != std::string::npos)
    return unknown("this token is not for people");
  Session session{.cookie = token, .user = who->name, .expires_at = clock_() + settings_.session_life};
  if (who->expires_at) session.expires_at = std::min(session.expires_at, *who->expires_at);
  if (const auto row = tokens_.find(who->token); row != tokens_.end() && row->second.expires_at)
    session.expires_at = std::min(session.expires_at, *row->second.expires_at);
  return session;
}

Result<Identity> Accounts::by_session(std::string_view cookie, std::string_view from) {
  if (!cookie.starts_with(std::string(kSessionPrefix) + "_")) {  // a token, see log_in_by_token
    auto who = by_bearer(cookie, from);
    return who && who->kind != Identity::Kind::user ? unknown("this session is over") : std::move(who);
  }
  if (!loaded_) return unavailable();
  const auto given = split_secret(kSessionPrefix, cookie);
  const auto at = given ? sessions_.find(given->id) : sessions_.end();
  if (at == sessions_.end() || !matches(given->secret, at->second.secret_hash))
    return unknown("this session is over");
  const Instant now = clock_();
  SessionRow& session = at->second;
  if (now >= session.expires_at || now >= session.seen_at + settings_.session_idle)
    return unknown("this session is over");
  auto who = user_identity(session.user);
  if (!who) return who;
  who->credential = "session " + session.id;
  who->session = session.id;
  if (now - session.seen_at >= kUseGrain) {
    session.seen_at = now;
    seen_sessions_.insert(session.id);
  }
  return who;
}

Result<Identity> Accounts::by_certificate(std::string_view node, Instant until) const {
  if (clock_() >= until)  // since the handshake
    return Error{.code = Errc::unauthenticated,
                 .message = "the certificate of node " + std::string(node) + " has expired",
                 .hint = "connect with a new one",
                 .field = ""};
  Identity who = node_identity(node);
  who.expires_at = until;
  return who;
}

Identity Accounts::node_identity(std::string_view node) {
  Identity who;
  who.kind = Identity::Kind::node;
  who.name = who.owner = node;
  who.credential = "node " + std::string(node);
  return who;
}

}  // namespace tutti
