// Who may come in, and who has done what: users, tokens, sessions and nodes' credentials, kept in memory so
// that a request is judged without a wait, changed only together with their rows, and the audit trail.
//
// Called by: authentication (api/handlers/authenticate) and the handlers of accounts. Control thread only.
// Rows are read and written aside. Invariants: (1) a change is answered, and counts, after its commit;
// changes are committed one after the other; (2) what another scheduler has changed counts after one
// refresh(); (3) an audit row is told to be stored only when it is; (4) while the rows cannot be read, what
// is in memory goes on counting.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "api/access/credentials.h"
#include "api/access/identity.h"
#include "api/access/oidc.h"
#include "api/accounts/open_connections.h"
#include "db/accounts.h"
#include "db/aside.h"
#include "scheduler/model/error.h"

namespace tutti {

/// Name of the root token's holder; nobody else may have it.
inline constexpr std::string_view kRootName = "admin";

struct AccountSettings {
  std::string root_token;  // the scheduler's own, of its data directory: an admin that needs no rows
  Duration session_idle = std::chrono::hours(12);
  Duration session_life = std::chrono::hours(24 * 7);
  Duration audit_life = std::chrono::hours(24 * 365);  // rows of the audit trail; 0 = for ever
  OidcSettings oidc;
};

class Accounts {
 public:
  template <class T>
  using Done = std::function<void(Result<T>)>;
  struct Nothing {};
  using Clock = std::function<Instant()>;

  /// `hashing`: where passwords are hashed, apart from the rows: that takes 0.1 s each.
  Accounts(AccountStore& store, Aside aside, Aside hashing, AccountSettings settings, Clock clock);

  /// Reads the rows; until that has succeeded once, only the root token is known.
  void start();
  /// Every few seconds: writes down uses of tokens and sessions, reads the rows if they have changed, and
  /// drops old rows of the audit trail.
  void refresh();
  bool loaded() const { return loaded_; }

  // ---- who is this? `from` is the peer's address.
  Result<Identity> by_bearer(std::string_view text, std::string_view from);
  Result<Identity> by_session(std::string_view cookie, std::string_view from);
  /// A node by the name in its verified certificate, which holds until then.
  Result<Identity> by_certificate(std::string_view node, Instant until) const;
  /// Who has been known before, as they are now; nothing once they would not be let in any more.
  std::optional<Identity> renewed(const Identity& who) const;
  /// What was let in and is still open.
  OpenConnections& open() { return open_; }
  OidcVerifier& oidc() { return oidc_; }
  /// Called when a token was signed with a key that we have not: fetch them again.
  void on_unknown_key(std::function<void()> fetch) { fetch_keys_ = std::move(fetch); }

  // ---- sessions
  struct Session {
    std::string cookie;
    std::string user;
    Instant expires_at;
  };
  void log_in(const std::string& user, const std::string& password, const std::string& from,
              Done<Session> done);
  /// The session is the token itself: its holder, its scopes, its end.
  Result<Session> log_in_by_token(const std::string& token, const std::string& from);
  void check_password(const std::string& user, const std::string& password, Done<Nothing> done);
  void log_out(const std::string& session_id, Done<Nothing> done);

  // ---- users
  const std::map<std::string, UserRow, std::less<>>& users() const { return users_; }
  struct UserChange {
    std::optional<std::string> password;  // already judged by password_problem
    std::optional<bool> disabled;
    std::map<std::string, Role> roles;  // none = taken away
  };
  void add_user(const std::string& name, const UserChange& change, const std::string& by, Done<Nothing> done);
  /// A new password or being disabled ends all sessions of the user.
  void change_user(const std::string& name, const UserChange& change, Done<Nothing> done);
  void remove_user(const std::string& name, Done<Nothing> done);  // and revokes their tokens

  // ---- tokens
  const std::map<std::string, TokenRow, std::less<>>& tokens() const { return tokens_; }
  void make_token(const std::string& user, const std::string& name, std::uint8_t scopes,
                  std::optional<Instant> expires, Done<NewSecret> done);
  void revoke_token(const std::string& id, Done<Nothing> done);

  // ---- nodes
  const std::map<std::string, JoinTokenRow, std::less<>>& join_tokens() const { return joins_; }
  const std::map<std::string, NodeCredentialRow, std::less<>>& node_credentials() const { return nodes_; }
  void make_join_token(const std::string& node, int uses, Instant expires, const std::string& by,
                       Done<NewSecret> done);
  void remove_join_token(const std::string& id, Done<Nothing> done);
  /// A credential for the node. A name that has one already needs a join token for just that name.
  void join(const std::string& join_token, const std::string& node, const std::string& from,
            Done<NewSecret> done);
  void revoke_node(const std::string& credential_id, Done<Nothing> done);

  // ---- audit
  /// False: could not be stored, and is in the log only.
  void record(AuditRow row, std::function<void(bool stored)> done);
  void find_audit(const AuditFilter& filter, int limit, std::int64_t before,
                  Done<std::vector<AuditRow>> done);

 private:
  struct Change {
    std::function<Result<AccountBatch>()> decide;
    std::function<void(const Error*)> done;  // null = committed
  };
  struct Recorded {
    AuditRow row;
    std::function<void(bool)> done;
  };
  struct Round {  // what one transaction commits, and whom it tells
    AccountBatch batch;
    std::list<Change> changed;  // one at most
    std::list<Recorded> stored;
  };

  static Identity node_identity(std::string_view node);
  Result<Identity> user_identity(std::string_view user) const;
  /// Of somebody known by a signed token: what they may do here besides.
  Result<Identity> with_local_roles(Identity signed_in) const;
  void change(std::function<Result<AccountBatch>()> decide, std::function<void(const Error*)> done);
  Result<AccountBatch> open_session(const std::string& user, const std::string& hash, const std::string& from,
                                    Session& opened) const;
  static Error unavailable();
  void hash_aside(std::string password, std::function<void(Result<std::string>)> done);
  void begin(bool& under_way, std::function<void()> work, std::function<void(std::exception_ptr)> done);
  void pump();
  void on_committed(Round round, const std::exception_ptr& failure);
  void load();
  void take(const AccountSnapshot& rows);
  void apply(const AccountBatch& batch);
  void sweep();
  void forget_audit();

  AccountStore& store_;
  Aside aside_, hashing_aside_;
  AccountSettings settings_;
  Clock clock_;
  OidcVerifier oidc_;
  OpenConnections open_;
  std::function<void()> fetch_keys_;
  bool loaded_ = false;
  bool loading_ = false;
  bool busy_ = false;        // a commit is under way
  int hashing_ = 0;          // passwords under way
  bool forgetting_ = false;  // old rows of the audit trail
  std::optional<Instant> next_forgetting_;
  std::int64_t revision_ = 0;
  std::list<Change> changes_;  // lists: back to their place without memory
  std::list<Recorded> recorded_;
  std::map<std::string, UserRow, std::less<>> users_;
  std::map<std::string, TokenRow, std::less<>> tokens_;
  std::map<std::string, SessionRow, std::less<>> sessions_;
  std::map<std::string, JoinTokenRow, std::less<>> joins_;
  std::map<std::string, NodeCredentialRow, std::less<>> nodes_;
  std::set<std::string> used_tokens_, seen_sessions_;  // since the last refresh
};

}  // namespace tutti
