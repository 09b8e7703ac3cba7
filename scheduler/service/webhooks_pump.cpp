// Part of webhooks.h: from committed events to the outbox.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "api/wire/job_spec_codec.h"
#include "scheduler/model/notice.h"
#include "scheduler/service/webhooks.h"
#include "scheduler/service/webhooks_ask.h"

namespace tutti {
namespace {

constexpr int kEventsAtOnce = 500;

JobFacts facts_of(const Job& job) { return {job.row, job.spec->name, job.spec->labels, job.spec->notify}; }

JobFacts facts_of(const JobView& view, Now now) {
  auto parsed = wire::parse_spec_json(view.spec_json, now);
  return {view.row, view.name, std::move(parsed.spec.labels), std::move(parsed.spec.notify)};
}

}  // namespace

void Webhooks::pump() {
  if (pumping_ || !look_again_) return;
  const Mono now = backend_.now().mono;
  if (looked_at_ != Mono{} && now - looked_at_ < settings_.gap) return;
  if (!anybody_listens()) {
    // Nobody is to be told of these; the cursor moves now and then, so that there is little to read later.
    if (now - looked_at_ < settings_.poll && looked_at_ != Mono{}) return;
    looked_at_ = now;
    look_again_ = false;
    if (told_ > cursor_) enqueue({}, told_, false);
    return;
  }
  looked_at_ = now;
  look_again_ = false;
  pumping_ = true;
  backend_.read(
      [this, alive = std::weak_ptr(alive_), after = cursor_](Reader& reader) -> std::function<void()> {
        auto rows = std::make_shared<std::vector<EventRow>>(reader.all_events(after, kEventsAtOnce));
        return [this, alive, rows] {
          if (alive.lock()) on_events(std::move(*rows));
        };
      },
      guarded([this](const Error& error) {
        pumping_ = false;
        look_again_ = true;
        spdlog::warn("webhooks cannot read events: {}", error.message);
      }));
}

// A webhook hears of an event by its own list, or because the job asks for it.
bool Webhooks::wants(const WebhookRow& hook, const Candidate& c) const {
  if (!hook.enabled || c.event.id <= hook.after) return false;
  const auto& projects = hook.projects;
  if (!projects.empty() && (!c.event.job || std::ranges::find(projects, c.event.project) == projects.end()))
    return false;
  const auto tells_one = [&](const std::vector<std::string>& words) {
    return std::ranges::any_of(words, [&](const auto& word) { return tells(word, c.event); });
  };
  if (tells_one(hook.events)) return true;
  return c.job && std::ranges::any_of(c.job->notify, [&](const Notify& n) {
           return n.webhook == hook.name && tells_one(n.on);
         });
}

std::string Webhooks::node_name(NodeId id) const {
  const ControlPlane* plane = backend_.plane();
  const Node* node = plane == nullptr || !id ? nullptr : plane->cluster().find(id);
  return node == nullptr ? (id ? to_string(id) : "") : node->row.name;
}

void Webhooks::on_events(std::vector<EventRow> rows) {
  if (rows.empty()) {
    pumping_ = false;
    if (look_again_) kick();
    return;
  }
  const EventId seen = rows.back().id;
  const bool more = rows.size() == static_cast<std::size_t>(kEventsAtOnce);
  const ControlPlane* plane = backend_.plane();
  std::vector<Candidate> candidates;
  std::set<JobId> unknown;
  for (auto& row : rows) {
    const auto notice = notice_of(row);
    if (notice.empty()) continue;
    Candidate c{.event = std::move(row), .notice = notice, .job = {}};
    if (!c.event.job) {
      c.job = JobFacts{};
    } else if (const Job* live = plane == nullptr ? nullptr : plane->find_job(c.event.job)) {
      c.job = facts_of(*live);
    } else {
      unknown.insert(c.event.job);
    }
    candidates.push_back(std::move(c));
  }
  if (unknown.empty()) return on_facts(std::move(candidates), seen, more);
  auto shared = std::make_shared<std::vector<Candidate>>(std::move(candidates));
  backend_.read(
      [this, alive = std::weak_ptr(alive_), shared, unknown, seen, more,
       now = backend_.now()](Reader& reader) -> std::function<void()> {
        std::map<JobId, JobFacts> facts;
        for (const JobId id : unknown)
          if (const auto view = reader.find_job(id)) facts.emplace(id, facts_of(*view, now));
        for (auto& c : *shared)
          if (!c.job) {
            const auto known = facts.find(c.event.job);
            c.job = known == facts.end() ? JobFacts{} : known->second;
          }
        return [this, alive, shared, seen, more] {
          if (alive.lock()) on_facts(std::move(*shared), seen, more);
        };
      },
      guarded([this](const Error& error) {
        pumping_ = false;
        look_again_ = true;
        spdlog::warn("webhooks cannot read jobs: {}", error.message);
      }));
}

void Webhooks::on_facts(std::vector<Candidate> candidates, EventId seen, bool more) {
  std::vector<DeliveryRow> rows;
  const Instant now = backend_.now().wall;
  for (const auto& c : candidates)
    for (const auto& [name, hook] : webhooks_) {
      if (!wants(hook, c)) continue;
      DeliveryRow row;
      row.event = c.event.id;
      row.webhook = name;
      row.notice = c.notice;
      row.job = c.event.job;
      row.body = render(hook, c.notice, c.event, *c.job, node_name(c.event.node));
      row.created_at = row.next_at = now;
      rows.push_back(std::move(row));
    }
  enqueue(std::move(rows), seen, more);
}

void Webhooks::enqueue(std::vector<DeliveryRow> rows, EventId seen, bool more) {
  pumping_ = true;
  const bool some = !rows.empty();
  const auto moved = [this, seen, more, some] {
    pumping_ = false;
    cursor_ = std::max(cursor_, seen);
    if (more) look_again_ = true;
    if (some) next_due_ = Instant{};
    if (some || look_again_) kick();
  };
  const Mono now = backend_.now().mono;
  if (!some && cursor_stored_at_ != Mono{} && now - cursor_stored_at_ < settings_.poll) return moved();
  ask<int>(
      [rows = std::move(rows), seen, most = settings_.most_waiting,
       at = backend_.now().wall](WebhookStore& s) {
        s.enqueue(rows, seen, most, at);
        return 0;
      },
      [this, moved, now](const Result<int>& done) {
        if (done) {
          cursor_stored_at_ = now;
          return moved();
        }
        pumping_ = false;
        look_again_ = true;
        spdlog::warn("{}", done.error().message);
      });
}

}  // namespace tutti
