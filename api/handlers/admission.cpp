// The door of every endpoint: what a route needs against what its caller may do. A job that the caller may
// not see is answered as one that does not exist; one that they see and may not change, with 403.
#include "api/accounts/accounts.h"
#include "api/handlers/answer.h"
#include "api/handlers/audit.h"
#include "api/handlers/forwarding.h"
#include "api/handlers/job_lookup.h"

namespace tutti::api {
namespace {

constexpr int kMaxNamesakes = 100;

struct Found {
  JobId id;
  std::string project, owner;
};

Error forbidden(std::string message, std::string hint) {
  return {.code = Errc::forbidden, .message = std::move(message), .hint = std::move(hint), .field = ""};
}

Error refusal(const Identity& who, Need need, Verdict verdict) {
  if (verdict == Verdict::unknown)
    return {.code = Errc::unauthenticated,
            .message = "a bearer token is needed",
            .hint = "send the header \"Authorization: Bearer TOKEN\", or sign in with tutti login",
            .field = ""};
  if (verdict == Verdict::scope)
    return forbidden("this token was not made for that", "make one with a wider scope: tutti token create");
  const std::string name(who.name);
  switch (need) {
    case Need::submit:
      return forbidden(name + " is not a member of any project", "an admin can add you to one");
    case Need::operate:
      return forbidden("this needs an operator of the cluster, and " + name + " is none",
                       "an admin can give the role for project \"*\"");
    case Need::administer:
    case Need::node: return forbidden("this needs an admin, and " + name + " is none", "");
    case Need::nothing:
    case Need::signed_in:
    case Need::job_read:
    case Need::job_change: break;
  }
  return forbidden(name + " may not do this", "");
}

bool may(const Identity& who, Need need, const Found& job) {
  return need == Need::job_read ? may_read(who, job.project, job.owner)
                                : may_change(who, job.project, job.owner);
}

std::optional<Found> find(Reader& reader, JobId id) {
  const auto view = reader.find_job(id);
  if (!view) return std::nullopt;
  return Found{id, view->row.project, view->row.owner};
}

/// Of what is open since its caller was let in. A list was cut to what its reader might see: it begins anew
/// when that changes.
bool may_stay(Need need, const std::optional<Found>& job, const Identity& was, const Identity& now) {
  const auto verdict = judge(now, need);
  if (verdict == Verdict::look) return job && may(now, need, *job);
  if (verdict != Verdict::allowed) return false;
  if (need == Need::job_read || need == Need::job_change) return true;
  return was.roles == now.roles && was.scopes == now.scopes;
}

/// Those that the path may mean, newest first. A live job is found in memory before this is asked.
std::vector<Found> candidates(Reader& reader, const std::string& id_or_name) {
  std::vector<Found> out;
  std::vector<JobId> ids;
  if (const auto id = parse_id(id_or_name))
    ids.push_back(JobId(*id));
  else
    ids = reader.resolve_name(id_or_name, kMaxNamesakes);
  for (const JobId id : ids)
    if (auto found = find(reader, id)) out.push_back(std::move(*found));
  return out;
}

class Admission {
 public:
  Admission(ApiPtr api, Need need, std::string action, Endpoint endpoint, http::Request request,
            Answer answer)
      : api_(std::move(api)),
        need_(need),
        action_(std::move(action)),
        endpoint_(endpoint),
        request_(std::make_shared<http::Request>(std::move(request))),
        answer_(std::move(answer)) {}

  void run() const {
    record_change(api_, *request_, action_, answer_);
    const auto verdict = judge(who(), need_);
    if (verdict != Verdict::allowed && verdict != Verdict::look)
      return answer_.fail(refusal(who(), need_, verdict));
    if (need_ != Need::job_read && need_ != Need::job_change) return let_in({});
    const auto id = parse_id(request_->param("id"));
    const ControlPlane* plane = api_->backend.plane();
    if (const Job* live = id && plane != nullptr ? plane->find_job(JobId(*id)) : nullptr)
      return settle({{live->row.id, live->row.project, live->row.owner}});
    if (id && verdict == Verdict::allowed) return let_in({});
    read_rows(
        api_, answer_,
        [named = request_->param("id").substr(0, 512)](Reader& reader) { return candidates(reader, named); },
        [self = *this](const std::vector<Found>& jobs) { self.settle(jobs); });
  }

 private:
  const Identity& who() const { return identity_of(*request_); }

  void settle(const std::vector<Found>& jobs) const {
    const Found* readable = nullptr;
    std::size_t count = 0;
    for (const auto& job : jobs) {
      if (!may(who(), Need::job_read, job)) continue;
      if (readable == nullptr) readable = &job;
      ++count;
    }
    if (readable == nullptr) return answer_.fail(no_such(request_->param("id")));
    if (need_ == Need::job_change && !may(who(), need_, *readable))
      return answer_.fail(forbidden("job " + to_string(readable->id) + " belongs to " + readable->owner +
                                        " in project " + readable->project + "; " + who().name +
                                        " may not change it",
                                    "its owner or an operator of the project can"));
    if (count > 1) answer_.header("Tutti-Ambiguous", std::to_string(count));
    for (auto& param : request_->params)
      if (param.name == "id") param.value = to_string(readable->id);
    let_in(*readable);
  }

  void let_in(std::optional<Found> job) const {
    if (api_->services.accounts != nullptr)
      answer_.guard([api = api_, who = who(), need = need_, job = std::move(job)](
                        std::weak_ptr<void> what, std::function<void()> close) {
        api->services.accounts->open().add(
            who,
            [need, job](const Identity& was, const Identity& now) { return may_stay(need, job, was, now); },
            std::move(what), std::move(close));
      });
    endpoint_(api_, *request_, answer_);
  }

  static Error no_such(const std::string& named) {
    if (const auto id = parse_id(named)) return no_such_job(JobId(*id));
    return not_found("no job is named '" + named.substr(0, 512) + "'", "names are exact; ids are numbers");
  }

  ApiPtr api_;
  Need need_;
  std::string action_;
  Endpoint endpoint_;
  std::shared_ptr<http::Request> request_;
  Answer answer_;
};

}  // namespace

http::Handler admit(const ApiPtr& api, Need need, std::string name, Endpoint endpoint) {
  api->needs.emplace_back(name, need);
  return [api, need, name = std::move(name), endpoint](http::Request request, http::Responder responder) {
    if (Forwarding* leader = api->services.forwarding;
        leader != nullptr && leader->standing_by() && goes_to_leader(request, name, need != Need::nothing))
      return leader->forward(std::move(request), std::move(responder));
    Admission(api, need, name, endpoint, std::move(request), Answer(std::move(responder))).run();
  };
}

}  // namespace tutti::api
