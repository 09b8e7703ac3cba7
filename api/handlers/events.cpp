// GET /v1/events and GET /v1/jobs/{id}/events: the history, as a page of JSON or as a live stream (SSE).
//
// A stream that resumes must have no gap and no duplicate. It subscribes first, then reads rows page by page
// from the last id the client has, and keeps what comes in meanwhile (bounded); then it goes on from memory
// with what is newer than the last row. Ids of events are consecutive over the whole cluster, so a hole in
// what the subscription tells (rows that were committed although the leader could not know it) is noticed,
// and the rows are read again. Control thread.
#include <boost/json/serialize.hpp>
#include <charconv>
#include <deque>
#include <map>

#include "api/handlers/answer.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/view.h"
#include "api/http/sse.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr int kRowsPerRead = 500;
constexpr std::size_t kMaxWaiting = 20'000;     // events that come in while rows are read
constexpr std::size_t kStreamBuffer = 4 << 20;  // unsent bytes; a slower reader has to resume

// job 0: of all that is visible.
EventWindow read_events(Reader& reader, JobId job, const std::optional<Visible>& visible, EventId after,
                        int limit) {
  if (!job && visible) return reader.events_for(*visible, after, limit);
  EventWindow out;
  out.rows = job ? reader.job_events(job, after, limit) : reader.all_events(after, limit);
  out.seen = out.rows.empty() ? after : out.rows.back().id;
  out.end = out.rows.size() < static_cast<std::size_t>(limit);
  return out;
}

/// One of the open streams of a caller; nullptr: there are enough. Control thread.
std::shared_ptr<void> begin_stream(const ApiPtr& api, const std::string& principal) {
  constexpr int kMost = 64;
  static std::map<std::pair<const Api*, std::string>, int> open;
  const std::pair<const Api*, std::string> key(api.get(), principal);
  if (open[key] >= kMost) return nullptr;
  ++open[key];
  return {&open, [key](void*) {
            if (--open[key] == 0) open.erase(key);
          }};
}

class EventStream : public std::enable_shared_from_this<EventStream> {
 public:
  /// job 0: everything. `after` is the last event the client has; nothing: only what comes from now on.
  EventStream(ApiPtr api, JobId job, std::optional<Visible> visible, std::optional<EventId> after,
              std::shared_ptr<void> place, std::shared_ptr<http::Stream> stream)
      : api_(std::move(api)),
        place_(std::move(place)),
        job_(job),
        visible_(std::move(visible)),
        stream_(std::move(stream)),
        reading_(after.has_value()) {
    if (after) sent_ = read_to_ = *after;
  }

  void start() {
    stream_->write(http::sse_retry(1000));
    subscription_ = api_->backend.subscribe([weak = weak_from_this()](const EventRow& event) {
      if (const auto self = weak.lock()) self->on_event(event);
    });
    // The stream's end is the end of the subscription; until then the stream keeps this object.
    stream_->set_on_close([self = shared_from_this()] {
      self->api_->backend.unsubscribe(self->subscription_);
      self->place_.reset();
    });
    if (reading_) read_more();
  }

 private:
  bool concerns_us(const EventRow& event) const {
    if (job_) return event.job == job_;
    return !event.job || is_visible(visible_, event.project, event.owner);
  }

  void on_event(const EventRow& event) {
    const EventId before = std::exchange(told_, event.id);
    const bool hole = before && event.id.value != before.value + 1;
    if (reading_) {
      if (!concerns_us(event)) return;
      if (waiting_.size() >= kMaxWaiting) return stream_->close();  // the client resumes from its last id
      waiting_.push_back(event);
      return;
    }
    if (!hole) {
      send(event);
      return;
    }
    reading_ = true;
    read_to_ = before;  // all up to there was told
    if (concerns_us(event)) waiting_.push_back(event);
    read_more();
  }

  void send(const EventRow& event) {
    if (!concerns_us(event) || event.id <= sent_) return;
    sent_ = event.id;
    const ControlPlane* plane = api_->backend.plane();
    stream_->write(
        http::sse_event(to_string(event.id), {},
                        json::serialize(event_view(event, plane == nullptr ? nullptr : &plane->cluster()))));
  }

  void read_more() {
    api_->backend.read(
        [self = shared_from_this(), job = job_, visible = visible_,
         after = read_to_](Reader& reader) -> std::function<void()> {
          auto rows = std::make_shared<EventWindow>(read_events(reader, job, visible, after, kRowsPerRead));
          return [self, rows] { self->on_rows(*rows); };
        },
        [self = shared_from_this()](const Error&) { self->stream_->close(); });  // the client comes back
  }

  void on_rows(const EventWindow& window) {
    if (stream_->closed()) return;
    if (!job_ && api_->backend.plane() == nullptr)
      return stream_->close();  // no names: the client comes back
    for (const auto& row : window.rows) send(row);
    read_to_ = window.seen;
    if (!window.end) return stream_->when_drained([self = shared_from_this()] { self->read_more(); });
    reading_ = false;
    for (const auto& event : std::exchange(waiting_, {})) send(event);
  }

  ApiPtr api_;
  std::shared_ptr<void> place_;  // among the caller's streams
  JobId job_;
  std::optional<Visible> visible_;  // to the reader; of one job admission has asked
  std::shared_ptr<http::Stream> stream_;
  std::uint64_t subscription_ = 0;
  bool reading_;     // rows are being read: what is told meanwhile waits
  EventId sent_;     // newest sent
  EventId read_to_;  // rows up to here are read
  EventId told_;     // newest that the subscription told, of any job
  std::deque<EventRow> waiting_;
};

bool wants_stream(const http::Request& request) {
  const auto accept = request.header("Accept");
  return accept && accept->find("text/event-stream") != std::string_view::npos;
}

/// Where to go on: Last-Event-ID (set by browsers on reconnect) before ?after=.
Result<std::optional<EventId>> resume_point(const http::Request& request) {
  const auto last = request.header("Last-Event-ID");
  const auto after = request.query_param("after");
  if ((!last || last->empty()) && !after) return std::optional<EventId>();
  const std::string_view text = last && !last->empty() ? *last : std::string_view(*after);
  if (text == "0") return std::optional(EventId(0));
  const auto id = parse_id(text);
  if (!id) return bad_field("after", "not the id of an event");
  return std::optional(EventId(*id));
}

/// As many visible events as fit a page, though others may lie between them: bounded in how far it looks.
EventWindow read_page(Reader& reader, JobId job, const std::optional<Visible>& visible, EventId after,
                      int limit) {
  constexpr int kMostWindows = 10;
  EventWindow page;
  page.seen = after;
  for (int i = 0; i < kMostWindows && !page.end && page.rows.size() < static_cast<std::size_t>(limit); ++i) {
    auto more = read_events(reader, job, visible, page.seen, limit - static_cast<int>(page.rows.size()));
    page.rows.insert(page.rows.end(), more.rows.begin(), more.rows.end());
    page.seen = more.seen;
    page.end = more.end;
  }
  return page;
}

void answer_page(const ApiPtr& api, const Answer& answer, JobId job, std::optional<Visible> visible,
                 EventId after, int limit) {
  read_rows(
      api, answer,
      [job, visible = std::move(visible), after, limit](Reader& reader) -> std::optional<EventWindow> {
        auto page = read_page(reader, job, visible, after, limit);
        if (page.rows.empty() && job && !reader.find_job(job)) return std::nullopt;
        return page;
      },
      [api, answer, job](const std::optional<EventWindow>& page) {
        if (!page) return answer.fail(no_such_job(job));
        const ControlPlane* plane = api->backend.plane();
        if (!job && plane == nullptr) return answer.fail(not_ready(api->backend));  // no names of nodes
        json::array events;
        for (const auto& row : page->rows)
          events.push_back(event_view(row, plane == nullptr ? nullptr : &plane->cluster()));
        answer.json(200, json::object{{"events", std::move(events)}, {"next_after", page->seen.value}});
      });
}

void answer_events(const ApiPtr& api, const http::Request& request, const Answer& answer, JobId job) {
  const auto after = resume_point(request);
  if (!after) return answer.fail(after.error());
  if (!wants_stream(request)) {
    const auto limit = int_param(request, "limit", kMaxPage, 1, kMaxPage);
    if (!limit) return answer.fail(limit.error());
    return answer_page(api, answer, job, visible_to(identity_of(request)), after->value_or(EventId(0)),
                       static_cast<int>(*limit));
  }
  // The history of one job is short: a stream of it begins at its beginning.
  auto from = *after;
  if (job && !from) from = EventId(0);
  const Identity& who = identity_of(request);
  auto place = begin_stream(api, who.name);
  if (place == nullptr) {
    auto refusal = http::problem(429, "too_many_streams", who.name + " has 64 streams of events open already",
                                 "close one, or read pages: GET without Accept: text/event-stream");
    return answer.send(std::move(refusal.set("Retry-After", "5")));
  }
  std::make_shared<EventStream>(api, job, visible_to(who), from, std::move(place), answer.sse(kStreamBuffer))
      ->start();
}

void get_events(const ApiPtr& api, const http::Request& request, Answer answer) {
  answer_events(api, request, answer, JobId(0));
}

void get_job_events(const ApiPtr& api, const http::Request& request, Answer answer) {
  const JobId id = job_of(request);
  const ControlPlane* plane = api->backend.plane();
  if (!wants_stream(request) || (plane != nullptr && plane->find_job(id) != nullptr))
    return answer_events(api, request, answer, id);
  // A stream cannot become a 404 later: look first.
  read_rows(
      api, answer, [id](Reader& reader) { return reader.find_job(id).has_value(); },
      [api, answer, request, id](bool found) {
        if (!found) return answer.fail(no_such_job(id));
        answer_events(api, request, answer, id);
      });
}

}  // namespace

void add_event_routes(const Routes& routes) {
  routes.get("/v1/events", "events.list", Need::signed_in, get_events);
  routes.get("/v1/jobs/{id}/events", "jobs.events", Need::job_read, get_job_events);
}

}  // namespace tutti::api
