// The words by which people ask to be told of what happens: `notify.on` of a job, `events` of a webhook, and
// what each means in terms of history rows. Pure, std only.
#pragma once

#include <string_view>
#include <vector>

#include "scheduler/model/rows.h"

namespace tutti {

/// All words; `of_jobs`: only those that are about a job ("node_dead" is not).
std::vector<std::string_view> notice_words(bool of_jobs);
bool is_notice(std::string_view word);
bool is_notice_of_jobs(std::string_view word);
/// What the word stands for has happened with this event.
bool tells(std::string_view word, const EventRow& event);
/// The word that says most about an event: what a message is headed with. "" = nothing that is told.
std::string_view notice_of(const EventRow& event);

/// 1 to 64 letters, digits, '-', '_', '.'.
bool is_webhook_name(std::string_view name);

}  // namespace tutti
