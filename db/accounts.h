// Users, roles, tokens, sessions, nodes' credentials and the audit trail as rows. Implemented by PostgreSQL
// (db/pg/pg_accounts) and in memory (db/memory/memory_accounts); one suite holds both to the same rules.
//
// Called on one thread (scheduler/service/side_thread). Every call blocks for a bounded time and throws
// StoreError. Std only. Secrets appear as SHA-256 hashes in hex, passwords as argon2id strings.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/access/identity.h"
#include "db/store.h"

namespace tutti {

struct UserRow {
  std::string name;
  std::string password_hash{};
  bool disabled = false;
  Instant created_at{};
  std::string created_by{};
  std::map<std::string, Role, std::less<>> roles{};
};

struct TokenRow {
  std::string id;
  std::string user;
  std::string name{};  // what it is for, as its holder says
  std::string secret_hash{};
  std::uint8_t scopes = 0;
  Instant created_at{};
  std::optional<Instant> expires_at{}, last_used_at{}, revoked_at{};
  std::string last_used_from{};
};

struct SessionRow {
  std::string id;
  std::string user;
  std::string secret_hash{};
  Instant created_at{}, seen_at{}, expires_at{};
  std::string opened_from{};
};

struct JoinTokenRow {
  std::string id;
  std::string secret_hash{};
  std::string node{};  // "" = any
  std::int32_t uses_left = 1;
  Instant created_at{};
  std::string created_by{};
  Instant expires_at{};
};

struct NodeCredentialRow {
  std::string id;
  std::string node;
  std::string secret_hash{};
  Instant created_at{};
  std::string joined_from{};
  std::optional<Instant> revoked_at{};
};

struct AuditRow {
  std::int64_t id = 0;  // given by the store
  Instant at{};
  std::string who{}, credential{}, from{}, action{}, target{};
  int status = 0;
  std::string before{}, after{};  // JSON; "" = nothing
};

/// One transaction: rows replace those of the same key, removals last.
struct AccountBatch {
  std::vector<UserRow> users{};
  std::vector<TokenRow> tokens{};
  std::vector<SessionRow> sessions{};
  std::vector<JoinTokenRow> join_tokens{};
  std::vector<NodeCredentialRow> nodes{};
  std::vector<std::string> removed_users{}, removed_sessions{}, removed_join_tokens{};
  std::vector<AuditRow> audit{};
  /// Uses of tokens and sessions noticed since the last time; not a change, does not raise the revision.
  std::vector<TokenRow> used_tokens{};
  std::vector<SessionRow> seen_sessions{};
  bool changes() const {
    return !(users.empty() && tokens.empty() && sessions.empty() && join_tokens.empty() && nodes.empty() &&
             removed_users.empty() && removed_sessions.empty() && removed_join_tokens.empty());
  }
};

struct AccountSnapshot {
  std::int64_t revision = 0;
  std::vector<UserRow> users;
  std::vector<TokenRow> tokens;  // revoked and expired ones too, for lists
  std::vector<SessionRow> sessions;
  std::vector<JoinTokenRow> join_tokens;
  std::vector<NodeCredentialRow> nodes;
};

struct AuditFilter {  // all given parts must hold; empty = any
  std::string who{}, action{}, target{};
  std::optional<Instant> since{};
};

class AccountStore {
 public:
  virtual ~AccountStore() = default;
  virtual std::int64_t revision() = 0;
  virtual AccountSnapshot load() = 0;
  /// A batch that changes something raises the revision from `expected`; conflict if it is another by now:
  /// somebody else has changed something that this was not decided on.
  virtual void commit(const AccountBatch& batch, std::int64_t expected) = 0;
  /// Newest first, ids below `before` (0 = from the newest).
  virtual std::vector<AuditRow> audit(const AuditFilter& filter, int limit, std::int64_t before) = 0;
  /// Drops audit rows that are older, at most so many, the oldest first; true: there may be more.
  virtual bool forget_audit(Instant before, int most) = 0;
};

}  // namespace tutti
