// How a machine becomes a node: once, with a join token that an admin made, it gets a credential of its own
// and keeps it in its state directory. Called by worker/main.cpp before anything else; blocks.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace tutti::worker {

struct JoinRequest {
  std::vector<std::string> schedulers;  // URLs, tried in turn
  std::string join_token;
  std::string node;
  std::string state_dir;
  std::string ca_file;                // "" = the system's
  std::chrono::seconds patience{60};  // for schedulers that cannot be reached
};

/// The credential of an earlier start with the same join token or none, or a new one, which is durable before
/// this returns. "" if there is none and no join token. A node that is refused with another join token, as
/// where one for machines to come has been put in the place of its own, keeps the credential that it has.
/// Throws std::runtime_error, naming the way out: refused, or nobody answers.
std::string credential_of(const JoinRequest& request);

/// For --check-config=full: a scheduler answers at this URL within seconds, and is trusted. Throws
/// std::runtime_error.
void ask_whether_alive(const std::string& url, const std::string& ca_file);

}  // namespace tutti::worker
