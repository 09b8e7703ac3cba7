// Which jobs somebody means, and which they may see. Shared by lists, the queue, events, bulk actions, usage.
// Pure but for the identity of a request.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/handlers/answer.h"

namespace tutti::api {

/// What a list may show: nullopt (all) to who has a role everywhere, else projects with a role, and own jobs.
/// The same as may_read, in a form that the store understands.
std::optional<Visible> visible_to(const Identity& who);
bool is_visible(const std::optional<Visible>& visible, std::string_view project, std::string_view owner);

/// The explanation as `visible` may have it: of jobs that are hidden only how many stand in the way, and how.
/// `hidden`: how many those are.
Explanation seen_by(const std::optional<Visible>& visible, const ControlPlane& plane, Explanation why,
                    std::size_t* hidden = nullptr);
bool is_visible(const std::optional<Visible>& visible, const ControlPlane& plane, JobId live);

/// 403 where `who` may not submit this: not a member of its project, or its priority is for operators.
std::optional<Error> refuses_submission(const Identity& who, const JobSpec& spec);
std::optional<Error> refuses_priority(const Identity& who, std::string_view project, int priority);

/// "running,queued", "pending": names of states and of their groups. A problem names `field`.
Result<std::vector<JobState>> parse_states(std::string_view text, std::string_view field = "state");
/// An instant, or a duration: so long ago.
std::optional<Instant> parse_since(std::string_view text, Now now);

}  // namespace tutti::api
