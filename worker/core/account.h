// Whom the processes of a job run as on this node: the account of its owner, or one that the operator named.
// Pure; what the user database says is asked by worker/service/accounts.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/error.h"

namespace tutti::worker {

struct Account {
  std::string name;
  std::string home = "/";
  std::string shell = "/bin/sh";
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  // all of them, the primary one too
  bool operator==(const Account&) const = default;
};

struct AccountPolicy {
  enum class RunAs : std::uint8_t {
    job_user,  // all jobs as one account: the only way where the worker is not root
    owner      // each as its owner
  } run_as = RunAs::job_user;
  bool unknown_as_job_user = false;  // an owner without an account here; false: such a job is refused
  bool allow_root = false;           // jobs of root run as root
  std::uint32_t min_uid = 1000;      // accounts below it belong to the system
};

/// What the user database says of a name.
struct AccountAnswer {
  std::optional<Account> account;  // none: there is no such account, if `trouble` is empty
  std::string trouble;             // it could not be asked
};

/// The account, or why that owner's job may not run here (Errc::forbidden; unavailable: not now).
Result<Account> choose_account(const AccountPolicy&, const Account& job_user, const std::string& owner,
                               const std::string& node, const AccountAnswer&);

/// Whether a name is worth asking the user database for: a path or an option is no name of an account.
bool may_be_account(const std::string& name);

/// The line in which tutti-node-check tells an account, and back; nothing if it is malformed.
std::string format_account(const Account&);
std::optional<Account> parse_account(const std::string& line);

/// The shell a person gets who asks for none: not one that only says good-bye.
std::string login_shell(const std::string& shell);

}  // namespace tutti::worker
