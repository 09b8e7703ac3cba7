// What can be changed about users, tokens, sessions and nodes' credentials: each as the rows it makes of what
// is in memory, decided when its turn comes.
#include <algorithm>

#include "api/accounts/accounts.h"

namespace tutti {
namespace {

constexpr std::size_t kMostUsers = 100'000;
constexpr std::size_t kMostTokensOfOne = 1'000;
constexpr std::size_t kMostSessionsOfOne = 100;
constexpr int kMostHashing = 8;  // at once: what more guesses than the limit of failed logins could be

Error no_such(std::string_view what, std::string_view name) {
  return {.code = Errc::not_found,
          .message = "no " + std::string(what) + " '" + std::string(name) + "'",
          .hint = "",
          .field = ""};
}

Error in_the_way(std::string message, std::string hint) {
  return {.code = Errc::conflict, .message = std::move(message), .hint = std::move(hint), .field = ""};
}

template <class T>
std::function<void(const Error*)> answer(std::shared_ptr<T> value, Accounts::Done<T> done) {
  return [value, done = std::move(done)](const Error* error) {
    if (error != nullptr) return done(*error);
    done(std::move(*value));
  };
}

std::function<void(const Error*)> answer(Accounts::Done<Accounts::Nothing> done) {
  return answer(std::make_shared<Accounts::Nothing>(), std::move(done));
}

void set_roles(UserRow& user, const std::map<std::string, Role>& roles) {
  for (const auto& [project, role] : roles) {
    if (role == Role::none)
      user.roles.erase(project);
    else
      user.roles[project] = role;
  }
}

}  // namespace

// ---------------------------------------------------------------- passwords

void Accounts::hash_aside(std::string password, std::function<void(Result<std::string>)> done) {
  auto hash = std::make_shared<std::string>();
  hashing_aside_([hash, password = std::move(password)] { *hash = hash_password(password); },
                 [hash, done = std::move(done)](std::exception_ptr failure) {
                   if (failure)
                     return done(Error{.code = Errc::unavailable,
                                       .message = "the password could not be hashed now",
                                       .hint = "try again in a second",
                                       .field = ""});
                   done(std::move(*hash));
                 });
}

// An unknown name takes as long, and says the same.
void Accounts::check_password(const std::string& user, const std::string& password, Done<Nothing> done) {
  const auto at = users_.find(user);
  const bool may = at != users_.end() && !at->second.disabled;
  const std::string hash = may ? at->second.password_hash : "";
  if (hashing_ >= kMostHashing)
    return done(Error{.code = Errc::unavailable,
                      .message = "too many passwords are being checked",
                      .hint = "try again in a second",
                      .field = ""});
  ++hashing_;
  auto right = std::make_shared<bool>(false);
  hashing_aside_([right, password, hash] { *right = password_matches(password, hash); },
                 [this, right, done = std::move(done)](std::exception_ptr failure) {
                   --hashing_;
                   if (failure)
                     return done(Error{.code = Errc::unavailable,
                                       .message = "passwords cannot be checked now",
                                       .hint = "try again in a second",
                                       .field = ""});
                   if (!*right)
                     return done(Error{.code = Errc::unauthenticated,
                                       .message = "the user or the password is wrong",
                                       .hint = "",
                                       .field = ""});
                   done(Nothing{});
                 });
}

void Accounts::log_in(const std::string& user, const std::string& password, const std::string& from,
                      Done<Session> done) {
  if (!loaded_) return done(unavailable());
  const auto at = users_.find(user);
  const std::string hash = at == users_.end() ? "" : at->second.password_hash;
  check_password(user, password, [this, user, hash, from, done](const Result<Nothing>& right) {
    if (!right) return done(right.error());
    auto session = std::make_shared<Session>();
    change([=, this] { return open_session(user, hash, from, *session); }, answer(session, done));
  });
}

Result<AccountBatch> Accounts::open_session(const std::string& user, const std::string& hash,
                                            const std::string& from, Session& opened) const {
  const auto at = users_.find(user);
  if (at == users_.end() || at->second.disabled || at->second.password_hash != hash)
    return in_the_way("the account was changed meanwhile", "sign in again");
  const NewSecret secret = make_secret(kSessionPrefix);
  const Instant now = clock_();
  opened = {secret.text, user, now + settings_.session_life};
  AccountBatch batch;
  std::vector<const SessionRow*> mine;
  for (const auto& [id, row] : sessions_) {
    if (row.expires_at <= now)
      batch.removed_sessions.push_back(id);
    else if (row.user == user)
      mine.push_back(&row);
  }
  std::ranges::sort(mine, {}, &SessionRow::seen_at);
  for (std::size_t i = 0; i + kMostSessionsOfOne <= mine.size(); ++i)
    batch.removed_sessions.push_back(mine[i]->id);
  batch.sessions.push_back({.id = secret.id,
                            .user = user,
                            .secret_hash = secret.hash,
                            .created_at = now,
                            .seen_at = now,
                            .expires_at = opened.expires_at,
                            .opened_from = from});
  return batch;
}

void Accounts::log_out(const std::string& session_id, Done<Nothing> done) {
  change(
      [session_id]() -> Result<AccountBatch> {
        AccountBatch batch;
        batch.removed_sessions.push_back(session_id);
        return batch;
      },
      answer(std::move(done)));
}

// ---------------------------------------------------------------- users

void Accounts::add_user(const std::string& name, const UserChange& wanted, const std::string& by,
                        Done<Nothing> done) {
  const auto add = [this, name, wanted, by, done](const Result<std::string>& hash) {
    if (!hash) return done(hash.error());
    change(
        [this, name, wanted, by, hash = *hash]() -> Result<AccountBatch> {
          if (name == kRootName)
            return in_the_way("'" + name + "' is the holder of the scheduler's own token",
                              "choose another name");
          if (users_.contains(name))
            return in_the_way("there is a user '" + name + "' already", "tutti user set changes one");
          if (users_.size() >= kMostUsers) return in_the_way("there are too many users", "remove some");
          UserRow row{.name = name,
                      .password_hash = hash,
                      .disabled = wanted.disabled.value_or(false),
                      .created_at = clock_(),
                      .created_by = by};
          set_roles(row, wanted.roles);
          AccountBatch batch;
          batch.users.push_back(std::move(row));
          return batch;
        },
        answer(done));
  };
  if (!wanted.password || wanted.password->empty()) return add(std::string());
  hash_aside(*wanted.password, add);
}

void Accounts::change_user(const std::string& name, const UserChange& wanted, Done<Nothing> done) {
  const auto set = [this, name, wanted, done](const Result<std::string>& hash) {
    if (!hash) return done(hash.error());
    change(
        [this, name, wanted, hash = *hash]() -> Result<AccountBatch> {
          const auto at = users_.find(name);
          if (at == users_.end()) return no_such("user", name);
          UserRow row = at->second;
          if (wanted.password) row.password_hash = hash;
          if (wanted.disabled) row.disabled = *wanted.disabled;
          set_roles(row, wanted.roles);
          AccountBatch batch;
          if (wanted.password || row.disabled)
            for (const auto& [id, session] : sessions_)
              if (session.user == name) batch.removed_sessions.push_back(id);
          batch.users.push_back(std::move(row));
          return batch;
        },
        answer(done));
  };
  if (!wanted.password || wanted.password->empty()) return set(std::string());
  hash_aside(*wanted.password, set);
}

void Accounts::remove_user(const std::string& name, Done<Nothing> done) {
  change(
      [this, name]() -> Result<AccountBatch> {
        if (!users_.contains(name)) return no_such("user", name);
        AccountBatch batch;
        batch.removed_users.push_back(name);
        for (const auto& [id, token] : tokens_)
          if (token.user == name && !token.revoked_at) {
            batch.tokens.push_back(token);
            batch.tokens.back().revoked_at = clock_();
          }
        return batch;
      },
      answer(std::move(done)));
}

// ---------------------------------------------------------------- tokens

void Accounts::make_token(const std::string& user, const std::string& name, std::uint8_t scopes,
                          std::optional<Instant> expires, Done<NewSecret> done) {
  auto secret = std::make_shared<NewSecret>();
  change(
      [=, this]() -> Result<AccountBatch> {
        if (!users_.contains(user))
          return in_the_way("'" + user + "' has no account here, so no token can stand for it",
                            "an admin makes one with tutti user add " + user);
        const auto mine = std::ranges::count_if(
            tokens_, [&](const auto& t) { return t.second.user == user && !t.second.revoked_at; });
        if (static_cast<std::size_t>(mine) >= kMostTokensOfOne)
          return in_the_way("'" + user + "' has too many tokens", "revoke some: tutti token list");
        *secret = make_secret(kTokenPrefix);
        AccountBatch batch;
        batch.tokens.push_back({.id = secret->id,
                                .user = user,
                                .name = name,
                                .secret_hash = secret->hash,
                                .scopes = scopes,
                                .created_at = clock_(),
                                .expires_at = expires});
        return batch;
      },
      answer(secret, std::move(done)));
}

void Accounts::revoke_token(const std::string& id, Done<Nothing> done) {
  change(
      [this, id]() -> Result<AccountBatch> {
        const auto at = tokens_.find(id);
        if (at == tokens_.end()) return no_such("token", id);
        AccountBatch batch;
        if (at->second.revoked_at) return batch;  // once is enough
        batch.tokens.push_back(at->second);
        batch.tokens.back().revoked_at = clock_();
        return batch;
      },
      answer(std::move(done)));
}

// ---------------------------------------------------------------- nodes

void Accounts::make_join_token(const std::string& node, int uses, Instant expires, const std::string& by,
                               Done<NewSecret> done) {
  auto secret = std::make_shared<NewSecret>();
  change(
      [=, this]() -> Result<AccountBatch> {
        *secret = make_secret(kJoinPrefix);
        AccountBatch batch;
        for (const auto& [id, row] : joins_)
          if (row.expires_at <= clock_() || row.uses_left == 0) batch.removed_join_tokens.push_back(id);
        batch.join_tokens.push_back({.id = secret->id,
                                     .secret_hash = secret->hash,
                                     .node = node,
                                     .uses_left = uses,
                                     .created_at = clock_(),
                                     .created_by = by,
                                     .expires_at = expires});
        return batch;
      },
      answer(secret, std::move(done)));
}

void Accounts::remove_join_token(const std::string& id, Done<Nothing> done) {
  change(
      [this, id]() -> Result<AccountBatch> {
        if (!joins_.contains(id)) return no_such("join token", id);
        AccountBatch batch;
        batch.removed_join_tokens.push_back(id);
        return batch;
      },
      answer(std::move(done)));
}

void Accounts::join(const std::string& join_token, const std::string& node, const std::string& from,
                    Done<NewSecret> done) {
  auto secret = std::make_shared<NewSecret>();
  change(
      [=, this]() -> Result<AccountBatch> {
        const auto given = split_secret(kJoinPrefix, join_token);
        const auto at = given ? joins_.find(given->id) : joins_.end();
        if (at == joins_.end() || !matches(given->secret, at->second.secret_hash) ||
            at->second.uses_left < 1 || at->second.expires_at <= clock_() ||
            (!at->second.node.empty() && at->second.node != node))
          return Error{.code = Errc::unauthenticated,
                       .message = "this join token is not known, used up, expired, or for another node",
                       .hint = "an admin makes one with tutti join-token create",
                       .field = ""};
        AccountBatch batch;
        for (const auto& [id, row] : nodes_) {
          if (row.node != node || row.revoked_at) continue;
          if (at->second.node.empty())
            return in_the_way("node '" + node + "' has joined already",
                              "to join it again, make a join token for just this name: tutti join-token "
                              "create --node " +
                                  node);
          batch.nodes.push_back(row);
          batch.nodes.back().revoked_at = clock_();
        }
        *secret = make_secret(kNodePrefix);
        batch.nodes.push_back({.id = secret->id,
                               .node = node,
                               .secret_hash = secret->hash,
                               .created_at = clock_(),
                               .joined_from = from});
        batch.join_tokens.push_back(at->second);
        --batch.join_tokens.back().uses_left;
        return batch;
      },
      answer(secret, std::move(done)));
}

void Accounts::revoke_node(const std::string& credential_id, Done<Nothing> done) {
  change(
      [this, credential_id]() -> Result<AccountBatch> {
        const auto at = nodes_.find(credential_id);
        if (at == nodes_.end()) return no_such("node credential", credential_id);
        AccountBatch batch;
        if (at->second.revoked_at) return batch;
        batch.nodes.push_back(at->second);
        batch.nodes.back().revoked_at = clock_();
        return batch;
      },
      answer(std::move(done)));
}

}  // namespace tutti
