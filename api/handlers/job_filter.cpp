#include "api/handlers/job_filter.h"

#include <algorithm>
#include <map>

#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

Error forbidden(std::string field, std::string message, std::string hint) {
  return {.code = Errc::forbidden,
          .message = std::move(message),
          .hint = std::move(hint),
          .field = std::move(field)};
}

std::string projects_of(const Identity& who) {
  std::string names;
  for (const auto& [project, role] : who.roles)
    if (role >= Role::member && project != kEverywhere) names += (names.empty() ? "" : ", ") + project;
  return names;
}

}  // namespace

std::optional<Visible> visible_to(const Identity& who) {
  if (who.has(Scope::read) && who.everywhere() >= Role::viewer) return std::nullopt;
  Visible visible;
  if (!who.has(Scope::read)) return visible;  // nobody's jobs: no owner has an empty name
  visible.owner = who.owner;
  for (const auto& [project, role] : who.roles)
    if (role >= Role::viewer) visible.projects.push_back(project);
  return visible;
}

bool is_visible(const std::optional<Visible>& visible, std::string_view project, std::string_view owner) {
  return !visible || (!owner.empty() && visible->owner == owner) ||
         std::ranges::find(visible->projects, project) != visible->projects.end();
}

bool is_visible(const std::optional<Visible>& visible, const ControlPlane& plane, JobId live) {
  if (!visible) return true;
  const Job* job = plane.find_job(live);
  return job != nullptr && is_visible(visible, job->row.project, job->row.owner);
}

Explanation seen_by(const std::optional<Visible>& visible, const ControlPlane& plane, Explanation why,
                    std::size_t* hidden) {
  if (!visible) return why;
  std::map<std::string, std::size_t> others;  // by code
  std::erase_if(why.blockers, [&](const Explanation::Blocker& b) {
    if (!b.job || is_visible(visible, plane, b.job)) return false;
    ++others[b.code];
    return true;
  });
  for (const auto& [code, count] : others) {
    const std::string who = count == 1 ? "a job" : std::to_string(count) + " jobs";
    const bool one = count == 1;
    why.blockers.push_back(
        {code,
         who + " of others " +
             (code == "running" ? one ? "runs on nodes it would use" : "run on nodes it would use"
              : one             ? "comes before it"
                                : "come before it"),
         JobId()});
    if (hidden != nullptr) *hidden += count;
  }
  // "job 12 comes before it and was promised …"
  constexpr std::string_view kJob = "job ";
  for (auto& reason : why.reasons) {
    if (reason.code != "backfill" || !reason.text.starts_with(kJob)) continue;
    const auto end = reason.text.find(' ', kJob.size());
    const auto id = parse_id(std::string_view(reason.text).substr(kJob.size(), end - kJob.size()));
    if (id && !is_visible(visible, plane, JobId(*id))) reason.text.replace(0, end, "a job of others");
  }
  return why;
}

std::optional<Error> refuses_submission(const Identity& who, const JobSpec& spec) {
  if (!may_submit(who, spec.project, false)) {
    const std::string mine = projects_of(who);
    return forbidden("project", who.name + " is not a member of project '" + spec.project + "'",
                     mine.empty() ? "an admin can add you to it"
                                  : "an admin can add you to it; you may submit to: " + mine);
  }
  return refuses_priority(who, spec.project, spec.priority);
}

std::optional<Error> refuses_priority(const Identity& who, std::string_view project, int priority) {
  if (priority < kUrgentPriority || may_submit(who, project, true)) return std::nullopt;
  return forbidden(
      "priority",
      "priority " + std::to_string(priority) + " is for operators of project '" + std::string(project) +
          "', and " + who.name + " is none",
      "use a priority below " + std::to_string(kUrgentPriority) + ", or ask an operator to raise it");
}

Result<std::vector<JobState>> parse_states(std::string_view text, std::string_view field) {
  std::vector<JobState> states;
  while (!text.empty()) {
    const auto word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (const auto state = parse_job_state(word)) {
      states.push_back(*state);
      continue;
    }
    bool (*group)(JobState) = nullptr;
    if (word == "pending") group = is_pending;
    if (word == "active") group = is_active;
    if (word == "terminal") group = [](JobState s) { return is_terminal(s); };
    if (group == nullptr)
      return bad_field(std::string(field), "unknown state '" + std::string(word) + "'",
                       "a job state, or pending, active, terminal");
    std::ranges::copy_if(kJobStates, std::back_inserter(states), group);
  }
  return states;
}

std::optional<Instant> parse_since(std::string_view text, Now now) {
  if (const auto ago = wire::parse_duration(text)) return now.wall - *ago;
  return wire::parse_instant(text);
}

}  // namespace tutti::api
