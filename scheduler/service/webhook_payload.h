// What a webhook is sent: one event, and the job it is about as it is when the message is made. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "db/webhooks.h"
#include "scheduler/model/job_spec.h"
#include "scheduler/model/rows.h"

namespace tutti {

/// Of a job as far as messages need it.
struct JobFacts {
  JobRow row;  // id 0: the event is about no job
  std::string name;
  std::map<std::string, std::string> labels;
  std::vector<Notify> notify;
};

/// Stable: the same event and webhook have the same one whenever it is sent.
std::string delivery_id(EventId event, std::string_view webhook);

/// `node`: the name of the event's node, "" if it has none.
std::string render_json(const WebhookRow& hook, std::string_view notice, const EventRow& event,
                        const JobFacts& job, std::string_view node);
/// An incoming webhook of Slack (also Mattermost, Rocket.Chat): {"text": …, "blocks": […]}.
std::string render_slack(const WebhookRow& hook, std::string_view notice, const EventRow& event,
                         const JobFacts& job, std::string_view node);
std::string render(const WebhookRow& hook, std::string_view notice, const EventRow& event,
                   const JobFacts& job, std::string_view node);
/// Says that it is a test.
std::string render_test(const WebhookRow& hook, Instant at);

/// "t=1790000000,v1=…": HMAC-SHA256 of "t.body" with the secret, in hexadecimal.
std::string signature(std::string_view secret, Instant at, std::string_view body);

}  // namespace tutti
