// GET /v1/jobs/{id}/attempts/{n}/evidence: one archive (.tar.gz) with a summary first and then each node's
// part, as its worker made it: bounded, without secrets, compressed. Parts are asked for one after the other
// and passed on unread, so a download costs the memory of one part and no computing. Control thread.
//
//   1. A node that is gone, or whose part cannot be had, is named in the archive; it does not fail the rest.
//   2. Nothing of a part leaves before all of it is here: a node lost half-way leaves no torn archive.
//   3. Everything has a bound: downloads at one time, bytes of a part, time of the whole.
#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/view.h"
#include "api/wire/job_spec_codec.h"
#include "api/wire/tar_gz.h"
#include "api/wire/text_values.h"
#include "scheduler/model/redact.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::int32_t kPiece = 256 << 10;
constexpr Duration kMakeWait = std::chrono::seconds(10);  // for a node to make its part
constexpr Duration kWhole = std::chrono::minutes(10);
constexpr std::size_t kLargestPart = 40 << 20;
constexpr std::size_t kAskedTogether = 32;
constexpr int kDownloads = 4;
constexpr int kEvents = 500;

struct Found {
  std::optional<JobView> job;
  std::optional<AttemptRow> attempt;  // the one that is wanted
  std::optional<AttemptRow> newest;
  std::vector<CheckpointRow> checkpoints;
  std::vector<EventRow> events;
  std::vector<FaultRow> faults;
};

class Download : public std::enable_shared_from_this<Download> {
 public:
  Download(ApiPtr api, Answer answer, AttemptRow attempt, json::object summary, Redactor redactor)
      : api_(std::move(api)),
        answer_(std::move(answer)),
        attempt_(std::move(attempt)),
        summary_(std::move(summary)),
        redactor_(std::move(redactor)),
        until_(api_->backend.now().mono + kWhole) {
    ++api_->downloads;
    for (const auto& member : attempt_.gang) nodes_.push_back({member.node, member.node_name, {}});
  }
  ~Download() { --api_->downloads; }
  Download(const Download&) = delete;
  Download& operator=(const Download&) = delete;

  // First all nodes are asked for a byte: they make their parts at the same time, and who is gone is known.
  void start() {
    if (nodes_.empty()) return open();
    ask_all();
  }

 private:
  struct Source {
    NodeId node;
    std::string name;
    std::string missing;  // why
  };

  void ask(std::size_t i, std::int64_t offset, std::int32_t bytes, Reply<protocol::LogChunk> reply) {
    protocol::ReadLog read;
    read.key = {attempt_.job, attempt_.epoch};
    read.offset = offset;
    read.max_bytes = bytes;
    read.wait_us = kMakeWait.count();
    read.what = "evidence";
    api_->backend.read_log(nodes_[i].node, std::move(read), std::move(reply));
  }

  void ask_all() {
    if (std::exchange(asking_, true)) return;  // an answer may come at once: the loop below goes on
    while (asked_ < nodes_.size() && asked_ - answered_ < kAskedTogether) {
      const auto i = asked_++;
      if (api_->backend.now().mono >= until_) {
        nodes_[i].missing = "the download took too long";
        ++answered_;
        continue;
      }
      ask(i, 0, 1, [self = shared_from_this(), i](const Result<protocol::LogChunk>& chunk) {
        if (!chunk) self->nodes_[i].missing = chunk.error().message;
        ++self->answered_;
        self->ask_all();
      });
    }
    asking_ = false;
    if (answered_ == nodes_.size() && !stream_) open();
  }

  void open() {
    const auto name =
        "evidence-" + to_string(attempt_.job) + "-" + std::to_string(attempt_.number) + ".tar.gz";
    http::StreamOptions options;
    options.max_buffer = kLargestPart + (4 << 20);
    stream_ = answer_.stream(200,
                             {{"Content-Type", "application/gzip"},
                              {"Content-Disposition", "attachment; filename=\"" + name + "\""},
                              {"Cache-Control", "no-store"}},
                             std::move(options));
    json::array nodes;
    for (const auto& n : nodes_)
      nodes.push_back(json::object{
          {"node", n.name}, {"missing", n.missing.empty() ? json::value(nullptr) : json::value(n.missing)}});
    summary_["nodes"] = std::move(nodes);
    wire::TarGz part;
    part.add("summary.json", redactor_.text(json::serialize(summary_)) + "\n", now_s());
    if (stream_->write(part.finish())) next(0);
  }

  void next(std::size_t i) {
    while (i < nodes_.size() && !nodes_[i].missing.empty()) ++i;
    if (i < nodes_.size() && api_->backend.now().mono >= until_)
      for (auto j = i; j < nodes_.size(); ++j)
        if (nodes_[j].missing.empty()) lose(j, "the download took too long");
    while (i < nodes_.size() && !nodes_[i].missing.empty()) ++i;
    if (i == nodes_.size()) return finish();
    part_.clear();
    stamp_ = 0;
    fetch(i, 0);
  }

  void fetch(std::size_t i, std::int64_t offset) {
    ask(i, offset, kPiece, [self = shared_from_this(), i](Result<protocol::LogChunk> chunk) {
      self->on_chunk(i, std::move(chunk));
    });
  }

  void on_chunk(std::size_t i, Result<protocol::LogChunk> chunk) {
    if (stream_->closed()) return;
    if (!chunk) {
      lose(i, chunk.error().message);
      return next(i);
    }
    if (!part_.empty() && chunk->stamp != stamp_) {  // made anew meanwhile: from the beginning, once
      part_.clear();
      stamp_ = 0;
      if (std::exchange(again_, true)) {
        lose(i, "it changed while it was read");
        return next(i);
      }
      return fetch(i, 0);
    }
    stamp_ = chunk->stamp;
    const auto bytes = wire::from_base64(chunk->data);
    const bool stuck = bytes && bytes->empty() && !chunk->end;
    if (!bytes || stuck || part_.size() + bytes->size() > kLargestPart) {
      lose(i, !bytes || stuck ? "what it sent cannot be read" : "its part is too large");
      return next(i);
    }
    part_ += *bytes;
    if (!chunk->end) return fetch(i, static_cast<std::int64_t>(part_.size()));
    again_ = false;
    if (!stream_->write(std::exchange(part_, {}))) return;
    stream_->when_drained([self = shared_from_this(), i] { self->next(i + 1); });
  }

  void lose(std::size_t i, const std::string& why) {
    nodes_[i].missing = why;
    lost_.push_back(json::object{{"node", nodes_[i].name}, {"missing", why}});
  }

  void finish() {
    wire::TarGz end;
    if (!lost_.empty()) end.add("incomplete.json", json::serialize(lost_) + "\n", now_s());
    end.add_end();
    if (stream_->write(end.finish())) stream_->close();
  }

  std::int64_t now_s() const {
    return std::chrono::duration_cast<std::chrono::seconds>(api_->backend.now().wall.time_since_epoch())
        .count();
  }

  ApiPtr api_;
  Answer answer_;
  const AttemptRow attempt_;
  json::object summary_;
  const Redactor redactor_;
  const Mono until_;
  std::vector<Source> nodes_;
  std::size_t asked_ = 0, answered_ = 0;
  bool asking_ = false;
  std::shared_ptr<http::Stream> stream_;
  std::string part_;  // of the node that is being read
  std::int64_t stamp_ = 0;
  bool again_ = false;
  json::array lost_;  // since the summary was written
};

json::value spec_view(const std::string& spec_json, const JobSpec& spec) {
  json::error_code ec;
  auto view = json::parse(spec_json, ec);
  if (ec || !view.is_object()) return nullptr;
  if (auto* env = view.get_object().if_contains("env"); env != nullptr && env->is_object())
    for (const auto& [name, value] : spec.env)
      if (is_secret_name(name)) (*env).get_object()[name] = "[redacted]";
  return view;
}

void begin(const ApiPtr& api, const Answer& answer, const Found& found, const AttemptRow& chosen) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  if (api->downloads >= kDownloads)
    return answer.fail(Error{.code = Errc::unavailable,
                             .message = "too many evidence bundles are being downloaded",
                             .hint = "at most " + std::to_string(kDownloads) + " at one time; try again",
                             .field = ""});
  const Attempt* live = plane->find_attempt({chosen.job, chosen.epoch});
  const AttemptRow row = live == nullptr ? chosen : live->row;
  const auto parsed = wire::parse_spec_json(found.job->spec_json, api->backend.now());
  json::array events, faults;
  for (const auto& e : found.events) events.push_back(event_view(e, &plane->cluster()));
  for (const auto& f : found.faults)
    if (f.epoch == row.epoch) faults.push_back(fault_view(f, plane->cluster()));
  json::object summary{
      {"made_at", wire::format_instant(api->backend.now().wall)},
      {"scheduler_version", api->settings.version},
      {"job", row.job.value},
      {"attempt", attempt_view(row, plane->cluster(), live, found.checkpoints)},
      {"attempts_so_far", found.newest->number},
      {"spec", parsed.ok() ? spec_view(found.job->spec_json, parsed.spec) : json::value(nullptr)},
      {"faults", std::move(faults)},
      {"events", std::move(events)}};
  std::make_shared<Download>(api, answer, row, std::move(summary), Redactor(parsed.spec.env, {}))->start();
}

void get_evidence(const ApiPtr& api, const http::Request& request, Answer answer) {
  const std::string wanted(request.param("n"));
  if (wanted != "latest" && !parse_id(wanted))
    return answer.fail(bad_field("n", "an attempt is a number from 1, or 'latest'"));
  const JobId id = job_of(request);
  read_rows(
      api, answer,
      [id, wanted](Reader& reader) {
        Found found;
        found.job = reader.find_job(id);
        found.newest = reader.find_attempt(id, 0);
        found.attempt =
            wanted == "latest"
                ? found.newest
                : reader.find_attempt(
                      id, static_cast<std::int32_t>(std::min<std::int64_t>(*parse_id(wanted), INT32_MAX)));
        if (!found.attempt) return found;
        found.checkpoints = reader.checkpoints(id);
        found.events = reader.attempt_events({id, found.attempt->epoch}, kEvents);
        FaultFilter of_job;
        of_job.job = id;
        found.faults = reader.faults(of_job, kEvents, FaultId());
        return found;
      },
      [api, answer, id, wanted](const Found& found) {
        if (!found.job) return answer.fail(no_such_job(id));
        if (!found.attempt)
          return answer.fail(not_found("job " + to_string(id) + " has no attempt " + wanted,
                                       !found.newest ? "it has not been started yet"
                                                     : "it has " + std::to_string(found.newest->number)));
        begin(api, answer, found, *found.attempt);
      });
}

}  // namespace

void add_evidence_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/attempts/{n}/evidence", "attempts.evidence", Need::job_read, get_evidence);
}

}  // namespace tutti::api
