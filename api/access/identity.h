// Who asks: what authentication has found out about the sender of a request. Plain values.
// Filled by api/handlers/authenticate, kept in http::Request::identity, read by permissions.h and handlers.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "scheduler/model/time.h"

namespace tutti {

/// Per project, or everywhere (project "*"). Each may do what those before it may.
enum class Role : std::uint8_t {
  none,
  viewer,     // sees the jobs of the project, their logs and evidence
  member,     // submits, and changes its own jobs
  operator_,  // changes everybody's jobs; everywhere: nodes, queues, projects, reservations
  admin       // everywhere: users, tokens, roles, audit
};
std::string_view name(Role);
std::optional<Role> parse_role(std::string_view);

/// What a token may be used for, at most; its holder's roles hold besides. Bits.
enum class Scope : std::uint8_t {
  read = 1,
  submit = 2,   // submit jobs and change jobs
  operate = 4,  // nodes, queues, projects, reservations
  admin = 8,
};
inline constexpr std::array kScopes{Scope::read, Scope::submit, Scope::operate, Scope::admin};
inline constexpr std::uint8_t kAllScopes = 15;
std::string_view name(Scope);
std::optional<Scope> parse_scope(std::string_view);

inline constexpr std::string_view kEverywhere = "*";

struct Identity {
  enum class Kind : std::uint8_t {
    nobody,
    user,  // by token, session or OpenID Connect
    node   // a worker: may connect as the node of its name, and nothing else
  };
  Kind kind = Kind::nobody;
  std::string name;   // of the user or node
  std::string owner;  // who owns what is submitted: the user, or whom an admin names in the header Tutti-User
  std::map<std::string, Role, std::less<>> roles;  // by project
  std::uint8_t scopes = 0;
  std::string credential;                  // "token 7", "session", "oidc": for the audit
  std::string token;                       // id of the token, if one was used
  std::string session = {};                // id of the session, likewise
  std::string node_credential = {};        // id of the node's credential, likewise
  std::optional<Instant> expires_at = {};  // of a signed token or certificate: then nobody is known by it
  std::map<std::string, Role, std::less<>> signed_roles = {};  // what such a token grants by itself

  bool has(Scope s) const { return (scopes & static_cast<std::uint8_t>(s)) != 0; }
  Role everywhere() const;
  /// In that project; what holds everywhere counts.
  Role in(std::string_view project) const;
  /// The best of all projects.
  Role anywhere() const;
};

}  // namespace tutti
