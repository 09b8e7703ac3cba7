#include "scheduler/model/notice.h"

#include <algorithm>
#include <array>

namespace tutti {
namespace {

using Means = bool (*)(const EventRow&);

bool becomes(const EventRow& e, std::string_view state) {
  return e.job && e.kind == "state" && e.to == state;
}

template <JobState State>
bool is_now(const EventRow& e) {
  return becomes(e, name(State));
}

struct Word {
  std::string_view word;
  bool of_jobs;
  Means means;
};

// The first that fits heads a message: what is more special stands before what is more general.
constexpr auto kWords = std::to_array<Word>({
    {"hung", true, [](const EventRow& e) { return e.job && e.kind == "hang" && e.to == "silent"; }},
    {"straggler", true, [](const EventRow& e) { return e.job && e.kind == "straggler" && e.to == "slow"; }},
    {"preempted", true, [](const EventRow& e) { return e.job && e.kind == "preempt"; }},
    {"gpu_fault", true, [](const EventRow& e) { return e.job && e.kind == "fault" && e.to == "fatal"; }},
    {"updated", true, [](const EventRow& e) { return e.job && e.kind == "update"; }},
    {"restarts", true,
     [](const EventRow& e) {
       return e.job && e.kind == "state" && e.from == "stopping" && (e.to == "queued" || e.to == "delayed");
     }},
    {"queued", true, is_now<JobState::queued>},
    {"delayed", true, is_now<JobState::delayed>},
    {"blocked", true, is_now<JobState::blocked>},
    {"held", true, is_now<JobState::held>},
    {"starting", true, is_now<JobState::starting>},
    {"started", true, is_now<JobState::running>},
    {"running", true, is_now<JobState::running>},
    {"stopping", true, is_now<JobState::stopping>},
    {"succeeded", true, is_now<JobState::succeeded>},
    {"failed", true, is_now<JobState::failed>},
    {"cancelled", true, is_now<JobState::cancelled>},
    {"ended", true,
     [](const EventRow& e) {
       return is_now<JobState::succeeded>(e) || is_now<JobState::failed>(e) || is_now<JobState::cancelled>(e);
     }},
    {"node_dead", false,
     [](const EventRow& e) { return !e.job && e.kind == "node" && e.to == "dead" && e.from != "dead"; }},
    {"node_back", false,
     [](const EventRow& e) { return !e.job && e.kind == "node" && e.from == "dead" && e.to == "reachable"; }},
    {"node_quarantined", false,
     [](const EventRow& e) { return !e.job && e.kind == "service" && e.to == "quarantined"; }},
});

const Word* find(std::string_view word) {
  const auto* at = std::ranges::find(kWords, word, &Word::word);
  return at == kWords.end() ? nullptr : at;
}

}  // namespace

std::vector<std::string_view> notice_words(bool of_jobs) {
  std::vector<std::string_view> out;
  for (const auto& w : kWords)
    if (w.of_jobs || !of_jobs) out.push_back(w.word);
  return out;
}

bool is_notice(std::string_view word) { return find(word) != nullptr; }

bool is_notice_of_jobs(std::string_view word) {
  const Word* found = find(word);
  return found != nullptr && found->of_jobs;
}

bool tells(std::string_view word, const EventRow& event) {
  const Word* found = find(word);
  return found != nullptr && found->means(event);
}

std::string_view notice_of(const EventRow& event) {
  for (const auto& w : kWords)
    if (w.means(event)) return w.word;
  return {};
}

bool is_webhook_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

}  // namespace tutti
