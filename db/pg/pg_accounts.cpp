#include "db/pg/pg_accounts.h"

#include "db/pg/params.h"
#include "db/pg/result.h"

namespace tutti::db {
namespace {

constexpr Statement kRevision{"account_revision", "SELECT revision FROM account_revision"};
constexpr Statement kRaise{"account_raise", "SELECT raise_account_revision($1::bigint)"};

constexpr Statement kUpsertUser{"account_upsert", R"(
INSERT INTO account (name, password_hash, disabled, created_at, created_by)
SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::timestamptz[], $5::text[])
ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash, disabled = excluded.disabled)"};
constexpr Statement kClearRoles{"account_clear_roles",
                                "DELETE FROM account_role WHERE account = ANY($1::text[])"};
constexpr Statement kAddRoles{"account_add_roles", R"(
INSERT INTO account_role (account, project, role) SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[]))"};

constexpr Statement kUpsertTokens{"token_upsert", R"(
INSERT INTO api_token (id, account, name, secret_hash, scopes, created_at, expires_at, revoked_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::timestamptz[],
                     $7::timestamptz[], $8::timestamptz[])
ON CONFLICT (id) DO UPDATE SET revoked_at = excluded.revoked_at, name = excluded.name)"};
constexpr Statement kUsedTokens{"token_used", R"(
UPDATE api_token t SET last_used_at = u.at, last_used_from = u.origin
FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS u(id, at, origin)
WHERE t.id = u.id AND (t.last_used_at IS NULL OR t.last_used_at < u.at))"};

constexpr Statement kUpsertSessions{"session_upsert", R"(
INSERT INTO console_session (id, account, secret_hash, created_at, seen_at, expires_at, opened_from)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                     $7::text[])
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, expires_at = excluded.expires_at)"};
constexpr Statement kSeenSessions{"session_seen", R"(
UPDATE console_session s SET seen_at = u.at FROM unnest($1::text[], $2::timestamptz[]) AS u(id, at)
WHERE s.id = u.id AND s.seen_at < u.at)"};

constexpr Statement kUpsertJoins{"join_upsert", R"(
INSERT INTO join_token (id, secret_hash, node, uses_left, created_at, created_by, expires_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::timestamptz[], $6::text[], $7::timestamptz[])
ON CONFLICT (id) DO UPDATE SET uses_left = excluded.uses_left)"};

constexpr Statement kUpsertNodes{"node_credential_upsert", R"(
INSERT INTO node_credential (id, node, secret_hash, created_at, joined_from, revoked_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::timestamptz[])
ON CONFLICT (id) DO UPDATE SET revoked_at = excluded.revoked_at)"};

constexpr Statement kRemoveUsers{"account_remove", "DELETE FROM account WHERE name = ANY($1::text[])"};
constexpr Statement kRemoveSessions{"session_remove",
                                    "DELETE FROM console_session WHERE id = ANY($1::text[])"};
constexpr Statement kRemoveJoins{"join_remove", "DELETE FROM join_token WHERE id = ANY($1::text[])"};

constexpr Statement kAudit{"audit_add", R"(
INSERT INTO audit (at, who, credential, came_from, action, target, status, before_json, after_json)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[],
                     $8::text[], $9::text[]))"};

constexpr Statement kFindAudit{"audit_find", R"(
SELECT id, at, who, credential, came_from, action, target, status, before_json, after_json FROM audit
WHERE ($1::text = '' OR who = $1::text) AND ($2::text = '' OR action = $2::text)
  AND ($3::text = '' OR target = $3::text) AND ($4::timestamptz IS NULL OR at >= $4::timestamptz)
  AND ($5::bigint = 0 OR id < $5::bigint)
ORDER BY id DESC LIMIT $6::bigint)"};

constexpr Statement kForgetAudit{"audit_forget", R"(
DELETE FROM audit WHERE id IN (
  SELECT id FROM audit WHERE at < $1::timestamptz ORDER BY at, id LIMIT $2::integer)
RETURNING id)"};

constexpr Statement kUsers{"accounts_all",
                           "SELECT name, password_hash, disabled, created_at, created_by FROM account "
                           "ORDER BY name"};
constexpr Statement kRoles{"account_roles_all", "SELECT account, project, role FROM account_role"};
constexpr Statement kTokens{
    "tokens_all",
    "SELECT id, account, name, secret_hash, scopes, created_at, expires_at, "
    "last_used_at, last_used_from, revoked_at FROM api_token ORDER BY created_at, id"};
constexpr Statement kSessions{"sessions_all",
                              "SELECT id, account, secret_hash, created_at, seen_at, expires_at, opened_from "
                              "FROM console_session WHERE expires_at > now()"};
constexpr Statement kJoins{"joins_all",
                           "SELECT id, secret_hash, node, uses_left, created_at, created_by, expires_at "
                           "FROM join_token ORDER BY created_at, id"};
constexpr Statement kNodes{"node_credentials_all",
                           "SELECT id, node, secret_hash, created_at, joined_from, revoked_at "
                           "FROM node_credential ORDER BY created_at, id"};

using View = std::string_view;

void add_users(Pipeline& p, const std::vector<UserRow>& users) {
  if (users.empty()) return;
  Params rows;
  rows.column(users, [](const UserRow& u) -> View { return u.name; })
      .column(users, [](const UserRow& u) -> View { return u.password_hash; })
      .column(users, [](const UserRow& u) { return u.disabled; })
      .column(users, [](const UserRow& u) { return u.created_at; })
      .column(users, [](const UserRow& u) -> View { return u.created_by; });
  p.add(kUpsertUser, std::move(rows));
  Params names;
  names.column(users, [](const UserRow& u) -> View { return u.name; });
  p.add(kClearRoles, std::move(names));
  struct Held {
    View user, project;
    std::int16_t role;
  };
  std::vector<Held> held;
  for (const auto& user : users)
    for (const auto& [project, role] : user.roles)
      held.push_back({user.name, project, static_cast<std::int16_t>(role)});
  Params roles;
  roles.column(held, [](const Held& h) { return h.user; })
      .column(held, [](const Held& h) { return h.project; })
      .column(held, [](const Held& h) { return h.role; });
  p.add(kAddRoles, std::move(roles));
}

void add_tokens(Pipeline& p, const std::vector<TokenRow>& tokens) {
  if (tokens.empty()) return;
  Params rows;
  rows.column(tokens, [](const TokenRow& t) -> View { return t.id; })
      .column(tokens, [](const TokenRow& t) -> View { return t.user; })
      .column(tokens, [](const TokenRow& t) -> View { return t.name; })
      .column(tokens, [](const TokenRow& t) -> View { return t.secret_hash; })
      .column(tokens, [](const TokenRow& t) { return static_cast<std::int16_t>(t.scopes); })
      .column(tokens, [](const TokenRow& t) { return t.created_at; })
      .column(tokens, [](const TokenRow& t) { return t.expires_at; })
      .column(tokens, [](const TokenRow& t) { return t.revoked_at; });
  p.add(kUpsertTokens, std::move(rows));
}

void add_sessions(Pipeline& p, const std::vector<SessionRow>& sessions) {
  if (sessions.empty()) return;
  Params rows;
  rows.column(sessions, [](const SessionRow& s) -> View { return s.id; })
      .column(sessions, [](const SessionRow& s) -> View { return s.user; })
      .column(sessions, [](const SessionRow& s) -> View { return s.secret_hash; })
      .column(sessions, [](const SessionRow& s) { return s.created_at; })
      .column(sessions, [](const SessionRow& s) { return s.seen_at; })
      .column(sessions, [](const SessionRow& s) { return s.expires_at; })
      .column(sessions, [](const SessionRow& s) -> View { return s.opened_from; });
  p.add(kUpsertSessions, std::move(rows));
}

void add_joins(Pipeline& p, const std::vector<JoinTokenRow>& joins) {
  if (joins.empty()) return;
  Params rows;
  rows.column(joins, [](const JoinTokenRow& j) -> View { return j.id; })
      .column(joins, [](const JoinTokenRow& j) -> View { return j.secret_hash; })
      .column(joins, [](const JoinTokenRow& j) -> View { return j.node; })
      .column(joins, [](const JoinTokenRow& j) { return j.uses_left; })
      .column(joins, [](const JoinTokenRow& j) { return j.created_at; })
      .column(joins, [](const JoinTokenRow& j) -> View { return j.created_by; })
      .column(joins, [](const JoinTokenRow& j) { return j.expires_at; });
  p.add(kUpsertJoins, std::move(rows));
}

void add_nodes(Pipeline& p, const std::vector<NodeCredentialRow>& nodes) {
  if (nodes.empty()) return;
  Params rows;
  rows.column(nodes, [](const NodeCredentialRow& n) -> View { return n.id; })
      .column(nodes, [](const NodeCredentialRow& n) -> View { return n.node; })
      .column(nodes, [](const NodeCredentialRow& n) -> View { return n.secret_hash; })
      .column(nodes, [](const NodeCredentialRow& n) { return n.created_at; })
      .column(nodes, [](const NodeCredentialRow& n) -> View { return n.joined_from; })
      .column(nodes, [](const NodeCredentialRow& n) { return n.revoked_at; });
  p.add(kUpsertNodes, std::move(rows));
}

void add_audit(Pipeline& p, const std::vector<AuditRow>& audit) {
  if (audit.empty()) return;
  Params rows;
  rows.column(audit, [](const AuditRow& a) { return a.at; })
      .column(audit, [](const AuditRow& a) -> View { return a.who; })
      .column(audit, [](const AuditRow& a) -> View { return a.credential; })
      .column(audit, [](const AuditRow& a) -> View { return a.from; })
      .column(audit, [](const AuditRow& a) -> View { return a.action; })
      .column(audit, [](const AuditRow& a) -> View { return a.target; })
      .column(audit, [](const AuditRow& a) { return static_cast<std::int16_t>(a.status); })
      .column(audit, [](const AuditRow& a) -> View { return a.before; })
      .column(audit, [](const AuditRow& a) -> View { return a.after; });
  p.add(kAudit, std::move(rows));
}

void add_uses(Pipeline& p, const AccountBatch& batch) {
  if (!batch.used_tokens.empty()) {
    Params rows;
    rows.column(batch.used_tokens, [](const TokenRow& t) -> View { return t.id; })
        .column(batch.used_tokens, [](const TokenRow& t) { return t.last_used_at; })
        .column(batch.used_tokens, [](const TokenRow& t) -> View { return t.last_used_from; });
    p.add(kUsedTokens, std::move(rows));
  }
  if (!batch.seen_sessions.empty()) {
    Params rows;
    rows.column(batch.seen_sessions, [](const SessionRow& s) -> View { return s.id; })
        .column(batch.seen_sessions, [](const SessionRow& s) { return s.seen_at; });
    p.add(kSeenSessions, std::move(rows));
  }
}

void remove(Pipeline& p, const Statement& statement, const std::vector<std::string>& names) {
  if (names.empty()) return;
  Params rows;
  rows.column(names, [](const std::string& n) -> View { return n; });
  p.add(statement, std::move(rows));
}

template <class Row, class Read>
std::vector<Row> rows_of(const Result& result, Read read) {
  std::vector<Row> out;
  out.reserve(static_cast<std::size_t>(result.rows()));
  for (int i = 0; i < result.rows(); ++i) {
    RowReader r(result, i);
    out.push_back(read(r));
  }
  return out;
}

// Fields of a braced list are read in the order in which they stand.
TokenRow read_token(RowReader& r) {
  TokenRow t;
  t.id = r.text();
  t.user = r.text();
  t.name = r.text();
  t.secret_hash = r.text();
  t.scopes = static_cast<std::uint8_t>(r.smallint());
  t.created_at = r.timestamptz();
  t.expires_at = r.timestamptz_or_null();
  t.last_used_at = r.timestamptz_or_null();
  t.last_used_from = r.text();
  t.revoked_at = r.timestamptz_or_null();
  return t;
}

SessionRow read_session(RowReader& r) {
  SessionRow s;
  s.id = r.text();
  s.user = r.text();
  s.secret_hash = r.text();
  s.created_at = r.timestamptz();
  s.seen_at = r.timestamptz();
  s.expires_at = r.timestamptz();
  s.opened_from = r.text();
  return s;
}

JoinTokenRow read_join(RowReader& r) {
  JoinTokenRow j;
  j.id = r.text();
  j.secret_hash = r.text();
  j.node = r.text();
  j.uses_left = r.integer();
  j.created_at = r.timestamptz();
  j.created_by = r.text();
  j.expires_at = r.timestamptz();
  return j;
}

NodeCredentialRow read_node_credential(RowReader& r) {
  NodeCredentialRow n;
  n.id = r.text();
  n.node = r.text();
  n.secret_hash = r.text();
  n.created_at = r.timestamptz();
  n.joined_from = r.text();
  n.revoked_at = r.timestamptz_or_null();
  return n;
}

AuditRow read_audit(RowReader& r) {
  AuditRow a;
  a.id = r.bigint();
  a.at = r.timestamptz();
  a.who = r.text();
  a.credential = r.text();
  a.from = r.text();
  a.action = r.text();
  a.target = r.text();
  a.status = r.smallint();
  a.before = r.text();
  a.after = r.text();
  return a;
}

}  // namespace

std::int64_t PgAccounts::revision() {
  const Result result = session_.run(kRevision);
  RowReader r(result, 0);
  return r.bigint();
}

AccountSnapshot PgAccounts::load() {
  AccountSnapshot out;
  out.revision = revision();  // first: what changes while the rest is read is read again
  out.users = rows_of<UserRow>(session_.run(kUsers), [](RowReader& r) {
    UserRow u;
    u.name = r.text();
    u.password_hash = r.text();
    u.disabled = r.boolean();
    u.created_at = r.timestamptz();
    u.created_by = r.text();
    return u;
  });
  std::map<std::string, UserRow*> by_name;
  for (auto& user : out.users) by_name.emplace(user.name, &user);
  const Result roles = session_.run(kRoles);
  for (int i = 0; i < roles.rows(); ++i) {
    RowReader r(roles, i);
    const auto user = by_name.find(r.text());
    const std::string project = r.text();
    if (user != by_name.end()) user->second->roles[project] = static_cast<Role>(r.smallint());
  }
  out.tokens = rows_of<TokenRow>(session_.run(kTokens), read_token);
  out.sessions = rows_of<SessionRow>(session_.run(kSessions), read_session);
  out.join_tokens = rows_of<JoinTokenRow>(session_.run(kJoins), read_join);
  out.nodes = rows_of<NodeCredentialRow>(session_.run(kNodes), read_node_credential);
  return out;
}

void PgAccounts::commit(const AccountBatch& batch, std::int64_t expected) {
  session_.transact([&batch, expected](Pipeline& p) {
    if (batch.changes()) {
      Params from;
      from.bigint(expected);
      p.add(kRaise, std::move(from));
    }
    add_users(p, batch.users);
    add_tokens(p, batch.tokens);
    add_sessions(p, batch.sessions);
    add_joins(p, batch.join_tokens);
    add_nodes(p, batch.nodes);
    remove(p, kRemoveUsers, batch.removed_users);
    remove(p, kRemoveSessions, batch.removed_sessions);
    remove(p, kRemoveJoins, batch.removed_join_tokens);
    add_uses(p, batch);
    add_audit(p, batch.audit);
  });
}

std::vector<AuditRow> PgAccounts::audit(const AuditFilter& filter, int limit, std::int64_t before) {
  Params params;
  params.text(filter.who).text(filter.action).text(filter.target).timestamptz(filter.since);
  params.bigint(before).bigint(limit);
  return rows_of<AuditRow>(session_.run(kFindAudit, std::move(params)), read_audit);
}

bool PgAccounts::forget_audit(Instant before, int most) {
  Params params;
  params.timestamptz(before).integer(most);
  return session_.run(kForgetAudit, std::move(params)).rows() == most;
}

}  // namespace tutti::db
