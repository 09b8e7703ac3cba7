// The audit trail's writer, called at the door of every endpoint (admission.cpp). Control thread.
#pragma once

#include <string>

#include "api/handlers/answer.h"

namespace tutti::api {

/// If the request asks for a change: the answer is held back until what happened is stored. Nothing of what
/// is secret is recorded.
void record_change(const ApiPtr& api, const http::Request& request, const std::string& action,
                   const Answer& answer);

/// Settings of the queue, project or reservation that the path names, as JSON; "" if it names none.
std::string share_before(const ControlPlane& plane, const http::Request& request);

}  // namespace tutti::api
