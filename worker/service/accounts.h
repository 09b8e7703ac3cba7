// Accounts of job owners, as the user database of this node has them. It may be a directory service that
// hangs: it is asked by a helper process with a deadline (path_check.h), and answers are kept for a while.
// Lives on the worker's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <string>

#include "scheduler/model/time.h"
#include "worker/core/account.h"
#include "worker/service/path_check.h"
#include "worker/service/settings.h"

namespace tutti::worker {

class Accounts {
 public:
  Accounts(boost::asio::io_context& io, const Settings& settings);

  /// The account that a job of this owner runs as here, or why none. Calls back at once where it need not
  /// ask.
  void find(const std::string& owner, std::function<void(Result<Account>)> done);

 private:
  Result<Account> choose(const std::string& owner, const AccountAnswer& answer) const;
  void remember(const std::string& owner, const AccountAnswer& answer);

  const Settings& settings_;
  PathChecks helpers_;
  struct Known {
    AccountAnswer answer;
    Mono until{};
  };
  std::map<std::string, Known> known_;  // bounded
};

}  // namespace tutti::worker
