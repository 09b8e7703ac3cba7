#include "worker/core/account.h"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace tutti::worker {
namespace {

constexpr std::size_t kLongestName = 256;
constexpr char kMark = '\t';

Error refusal(Errc code, std::string message, std::string hint) {
  return {.code = code, .message = std::move(message), .hint = std::move(hint), .field = ""};
}

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t n = 0;
  const auto* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, n);
  if (error != std::errc() || end != last) return std::nullopt;
  return n;
}

}  // namespace

Result<Account> choose_account(const AccountPolicy& policy, const Account& job_user, const std::string& owner,
                               const std::string& node, const AccountAnswer& answer) {
  if (policy.run_as == AccountPolicy::RunAs::job_user) return job_user;
  const std::string whose = "the account of " + owner + " on node " + node;
  if (!answer.trouble.empty())
    return refusal(Errc::unavailable, whose + " cannot be looked up: " + answer.trouble, "");
  if (!answer.account) {
    if (policy.unknown_as_job_user) return job_user;
    return refusal(Errc::forbidden,
                   "user " + owner + " has no account on node " + node +
                       "; make one, or start its worker with --unknown-user job-user",
                   "");
  }
  const Account& found = *answer.account;
  // A directory that knows names in any case, or short for long, would give one person the rights of another.
  if (found.name != owner)
    return refusal(Errc::forbidden,
                   "user " + owner + " is known on node " + node + " under another name: " + found.name, "");
  constexpr auto kNone = static_cast<std::uint32_t>(-1);  // to setresuid it means "leave it as it is"
  if (found.uid == kNone || found.gid == kNone || std::ranges::count(found.groups, kNone) > 0)
    return refusal(Errc::forbidden, whose + " has no usable user or group id", "");
  if (found.uid == 0) {
    if (policy.allow_root) return found;
    return refusal(Errc::forbidden,
                   "jobs of " + owner + " would run as root on node " + node +
                       "; only with --allow-root-jobs does its worker do that",
                   "");
  }
  if (found.uid < policy.min_uid)
    return refusal(Errc::forbidden,
                   whose + " has the user id " + std::to_string(found.uid) + ", below its --min-uid " +
                       std::to_string(policy.min_uid) + ": it belongs to the system",
                   "");
  return found;
}

bool may_be_account(const std::string& name) {
  return !name.empty() && name.size() <= kLongestName && name.front() != '-' && name != "." && name != ".." &&
         std::ranges::none_of(name, [](char c) {
           return static_cast<unsigned char>(c) <= ' ' || c == '/' || c == ':' || c == ',' || c == 0x7F;
         });
}

std::string format_account(const Account& a) {
  std::string groups;
  for (const auto g : a.groups) groups += (groups.empty() ? "" : ",") + std::to_string(g);
  return std::to_string(a.uid) + kMark + std::to_string(a.gid) + kMark + groups + kMark + a.name + kMark +
         a.home + kMark + a.shell;
}

std::optional<Account> parse_account(const std::string& line) {
  std::vector<std::string_view> parts;
  for (std::string_view rest = line;;) {
    const auto end = rest.find(kMark);
    parts.push_back(rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  if (parts.size() != 6) return std::nullopt;
  const auto uid = number(parts[0]), gid = number(parts[1]);
  if (!uid || !gid || parts[3].empty()) return std::nullopt;
  Account a{.name = std::string(parts[3]),
            .home = std::string(parts[4]),
            .shell = std::string(parts[5]),
            .uid = *uid,
            .gid = *gid,
            .groups = {}};
  if (a.home.empty()) a.home = "/";
  if (a.shell.empty()) a.shell = "/bin/sh";
  for (std::string_view list = parts[2]; !list.empty();) {
    const auto end = std::min(list.find(','), list.size());
    const auto group = number(list.substr(0, end));
    if (!group) return std::nullopt;
    a.groups.push_back(*group);
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return a;
}

std::string login_shell(const std::string& shell) {
  const auto name = std::string_view(shell).substr(shell.rfind('/') + 1);
  return name.empty() || name == "nologin" || name == "false" || name == "true" ? "/bin/sh" : shell;
}

}  // namespace tutti::worker
