#include "worker/service/accounts.h"

#include <utility>

#include "worker/service/machine.h"

namespace tutti::worker {
namespace {

constexpr Duration kFound = std::chrono::minutes(5);
constexpr Duration kMissing = std::chrono::seconds(5);  // somebody is just making it, perhaps
constexpr std::size_t kMostKnown = 10'000;

}  // namespace

Accounts::Accounts(boost::asio::io_context& io, const Settings& settings)
    : settings_(settings), helpers_(io, settings.node_check) {}

Result<Account> Accounts::choose(const std::string& owner, const AccountAnswer& answer) const {
  return choose_account(settings_.accounts, settings_.job_user, owner, settings_.node, answer);
}

void Accounts::find(const std::string& owner, std::function<void(Result<Account>)> done) {
  const bool ask = settings_.accounts.run_as == AccountPolicy::RunAs::owner && may_be_account(owner);
  if (!ask) return done(choose(owner, {}));
  if (const auto known = known_.find(owner);
      known != known_.end() && read_clocks().mono < known->second.until)
    return done(choose(owner, known->second.answer));
  helpers_.run({"account", owner}, settings_.account_deadline,
               [this, owner, done = std::move(done)](const PathChecks::Answer& said) {
                 AccountAnswer answer;
                 if (said.ok) answer.account = parse_account(said.text);
                 if (!answer.account && said.text != "none")
                   answer.trouble = said.ok ? "the helper said nonsense: " + said.text : said.text;
                 remember(owner, answer);
                 done(choose(owner, answer));
               });
}

void Accounts::remember(const std::string& owner, const AccountAnswer& answer) {
  if (!answer.trouble.empty()) return;
  if (known_.size() >= kMostKnown) known_.clear();
  known_[owner] = {answer, read_clocks().mono + (answer.account ? kFound : kMissing)};
}

}  // namespace tutti::worker
