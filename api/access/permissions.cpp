#include "api/access/permissions.h"

#include <algorithm>
#include <array>

namespace tutti {
namespace {

constexpr auto kRoleNames =
    std::to_array<std::string_view>({"none", "viewer", "member", "operator", "admin"});
struct ScopeName {
  Scope scope;
  std::string_view name;
};
constexpr auto kScopeNames = std::to_array<ScopeName>(
    {{Scope::read, "read"}, {Scope::submit, "submit"}, {Scope::operate, "operate"}, {Scope::admin, "admin"}});

Scope scope_of(Need need) {
  switch (need) {
    case Need::nothing:
    case Need::signed_in:
    case Need::job_read: return Scope::read;
    case Need::job_change:
    case Need::submit: return Scope::submit;
    case Need::operate: return Scope::operate;
    case Need::administer:
    case Need::node: return Scope::admin;
  }
  return Scope::admin;
}

Verdict when(bool allowed) { return allowed ? Verdict::allowed : Verdict::forbidden; }

}  // namespace

std::string_view name(Role role) { return kRoleNames[static_cast<std::size_t>(role)]; }
std::optional<Role> parse_role(std::string_view text) {
  const auto* at = std::ranges::find(kRoleNames, text);
  if (at == kRoleNames.end() || at == kRoleNames.begin()) return std::nullopt;
  return static_cast<Role>(at - kRoleNames.begin());
}

std::string_view name(Scope scope) { return std::ranges::find(kScopeNames, scope, &ScopeName::scope)->name; }
std::optional<Scope> parse_scope(std::string_view text) {
  const auto* at = std::ranges::find(kScopeNames, text, &ScopeName::name);
  if (at == kScopeNames.end()) return std::nullopt;
  return at->scope;
}

Role Identity::everywhere() const {
  const auto at = roles.find(kEverywhere);
  return at == roles.end() ? Role::none : at->second;
}

Role Identity::in(std::string_view project) const {
  const auto at = roles.find(project);
  return std::max(everywhere(), at == roles.end() ? Role::none : at->second);
}

Role Identity::anywhere() const {
  Role best = Role::none;
  for (const auto& [project, role] : roles) best = std::max(best, role);
  return best;
}

Verdict judge(const Identity& who, Need need) {
  if (need == Need::nothing) return Verdict::allowed;
  if (who.kind == Identity::Kind::nobody) return Verdict::unknown;
  if (who.kind == Identity::Kind::node) return when(need == Need::node);
  if (!who.has(scope_of(need))) return Verdict::scope;
  switch (need) {
    case Need::nothing:
    case Need::signed_in: return Verdict::allowed;
    case Need::job_read: return who.everywhere() >= Role::viewer ? Verdict::allowed : Verdict::look;
    case Need::job_change: return who.everywhere() >= Role::operator_ ? Verdict::allowed : Verdict::look;
    case Need::submit: return when(who.anywhere() >= Role::member);
    case Need::operate: return when(who.everywhere() >= Role::operator_);
    case Need::administer:
    case Need::node: return when(who.everywhere() >= Role::admin);
  }
  return Verdict::forbidden;
}

bool may_read(const Identity& who, std::string_view project, std::string_view owner) {
  return who.has(Scope::read) && (who.in(project) >= Role::viewer || who.owner == owner);
}

bool may_change(const Identity& who, std::string_view project, std::string_view owner) {
  const Role role = who.in(project);
  return who.has(Scope::submit) && (role >= Role::operator_ || (role == Role::member && who.owner == owner));
}

bool may_submit(const Identity& who, std::string_view project, bool urgent) {
  return who.has(Scope::submit) && who.in(project) >= (urgent ? Role::operator_ : Role::member);
}

bool may_set_secrets(const Identity& who, std::string_view project) {
  return who.has(Scope::operate) && who.in(project) >= Role::operator_;
}

}  // namespace tutti
