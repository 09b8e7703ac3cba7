// Who may do what: the whole of it, as pure functions of an identity and of what it asks for.
//
// Every route says what it needs (api/handlers/answer.h, Routes); one function there asks here before the
// endpoint runs. docs/security.md shows the table, tests/api/access_matrix_test.cpp tries every combination.
#pragma once

#include <cstdint>
#include <string_view>

#include "api/access/identity.h"

namespace tutti {

enum class Need : std::uint8_t {
  nothing,     // open to all: health, the API's description, login
  signed_in,   // anybody we know; the endpoint shows what they may see
  job_read,    // the job of the path: its owner, or a viewer of its project
  job_change,  // the job of the path: its owner as a member of its project, or an operator of it
  submit,      // a member of some project; the endpoint asks may_submit for the job's
  operate,     // an operator everywhere
  administer,  // an admin everywhere
  node         // a worker's credential, or an admin
};

enum class Verdict : std::uint8_t {
  allowed,
  look,      // depends on the job: ask may_read or may_change
  unknown,   // nobody we know: 401
  scope,     // the token was not made for this: 403
  forbidden  // 403
};

/// Before anything is looked up.
Verdict judge(const Identity& who, Need need);

bool may_read(const Identity& who, std::string_view project, std::string_view owner);
bool may_change(const Identity& who, std::string_view project, std::string_view owner);
/// `urgent`: a priority of 90 and above needs an operator of the project.
bool may_submit(const Identity& who, std::string_view project, bool urgent);
inline constexpr int kUrgentPriority = 90;
/// An operator of the project; its members use them, and nobody reads them.
bool may_set_secrets(const Identity& who, std::string_view project);

}  // namespace tutti
