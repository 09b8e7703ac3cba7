#include "scheduler/service/waiting_record.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <chrono>

#include "api/handlers/job_filter.h"
#include "api/handlers/view.h"

namespace tutti {
namespace {

constexpr int kForgetAtOnce = 10'000;

// Reasons are the same as long as their codes are: numbers in them change all the time.
std::string codes_of(const Explanation& why) {
  std::string out = why.never ? "never" : "";
  for (const auto& reason : why.reasons) out += " " + reason.code;
  return out;
}

}  // namespace

WaitingRecord::WaitingRecord(Backend& backend, Aside aside, std::shared_ptr<WaitingReasonStore> store,
                             WaitingRecordSettings settings)
    : backend_(backend), aside_(std::move(aside)), store_(std::move(store)), settings_(settings) {}

void WaitingRecord::begin_round(const ControlPlane& plane) {
  said_ = std::exchange(said_now_, {});
  const auto& queues = plane.shares().queues;
  const auto of_each = std::max<std::size_t>(1, settings_.watched / std::max<std::size_t>(1, queues.size()));
  for (const auto& [name, queue] : queues)
    for (const JobId id : plane.waiting_in_order(name, of_each)) round_.push_back(id);
}

bool WaitingRecord::is_news(JobId id, const Said& now) const {
  const auto before = said_.find(id);
  if (before == said_.end() || before->second.queued_at != now.queued_at) return true;
  const Duration age = now.at - before->second.at;
  return age >= settings_.at_least_every ||
         (before->second.codes != now.codes && age >= settings_.at_most_every);
}

void WaitingRecord::step() {
  const ControlPlane* plane = backend_.plane();
  if (plane == nullptr) {
    round_.clear();
    return;
  }
  if (writing_) return;
  const Now now = backend_.now();
  forget(now);
  if (round_.empty()) begin_round(*plane);
  // Shown to whoever may see the job: of other people's jobs it says only how many stand in the way.
  const std::optional<Visible> nobody{Visible{}};
  auto rows = std::make_shared<std::vector<WaitingReasonRow>>();
  const auto until = std::chrono::steady_clock::now() + settings_.step_time;
  for (std::size_t i = 0; i < settings_.per_step && !round_.empty(); ++i) {
    if (std::chrono::steady_clock::now() >= until) break;
    const JobId id = round_.front();
    round_.pop_front();
    const Job* job = plane->find_job(id);
    if (job == nullptr || job->row.state != JobState::queued) continue;
    const auto why = plane->explain(id, now);
    Said said{job->row.queued_at, codes_of(why), now.mono};
    if (!is_news(id, said)) {
      said_now_[id] = said_.at(id);
      continue;
    }
    said_now_[id] = std::move(said);
    rows->push_back(
        {id, now.wall, boost::json::serialize(api::explanation_view(api::seen_by(nobody, *plane, why)))});
  }
  if (rows->empty()) return;
  writing_ = true;
  aside_([store = store_, rows] { store->add(*rows); },
         [this, rows](std::exception_ptr failure) {
           writing_ = false;
           if (!failure) return;
           spdlog::warn("why jobs wait could not be recorded: {}", text_of(failure));
           for (const auto& row : *rows) {  // in the next round, then
             said_.erase(row.job);
             said_now_.erase(row.job);
           }
         });
}

void WaitingRecord::forget(Now now) {
  constexpr Duration kEvery = std::chrono::minutes(1);
  if (forgotten_ && now.mono - *forgotten_ < kEvery) return;
  forgotten_ = now.mono;
  aside_([store = store_, before = now.wall - settings_.keep] { store->forget(before, kForgetAtOnce); },
         [](std::exception_ptr failure) {
           if (failure)
             spdlog::warn("old reasons of waiting jobs could not be dropped: {}", text_of(failure));
         });
}

void WaitingRecord::find(JobId job, Instant at,
                         std::function<void(Result<std::optional<WaitingReasonRow>>)> done) {
  auto row = std::make_shared<std::optional<WaitingReasonRow>>();
  aside_([store = store_, job, at, row] { *row = store->find(job, at); },
         [row, done = std::move(done)](std::exception_ptr failure) {
           if (failure)
             return done(Error{.code = Errc::unavailable,
                               .message = "what was recorded cannot be read: " + text_of(failure),
                               .hint = "try again in a second",
                               .field = ""});
           done(std::move(*row));
         });
}

}  // namespace tutti
