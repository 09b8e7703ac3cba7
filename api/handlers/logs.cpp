// GET /v1/jobs/{id}/attempts/{n}/logs: what the ranks wrote, streamed from the nodes that keep it.
//
// A LogStream asks the node's worker for one piece after the other: the next piece only when the reader has
// taken the last one, so a slow reader slows us down and costs no memory. When the reader is gone it asks no
// more. Following is a long poll at the worker; the stream ends when every rank has ended. Control thread.
#include <algorithm>
#include <boost/json/parse.hpp>
#include <charconv>

#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"

namespace tutti::api {
namespace {

constexpr std::int32_t kPiece = 256 << 10;
constexpr Duration kLongPoll = std::chrono::seconds(2);
constexpr std::int64_t kAllRanks = -1;
constexpr std::size_t kMaxRanksTogether = 64;
constexpr std::size_t kMaxLine = 64 << 10;  // of several ranks together: a longer line is cut in pieces

struct LogRequest {
  std::string attempt;  // number, or "latest"
  std::int64_t rank = 0;
  bool follow = false;
  std::int64_t offset = 0;     // < 0: from that many bytes before the end
  bool first_failure = false;  // the last lines of the rank that failed first
};

Result<LogRequest> parse_log_request(const http::Request& request) {
  LogRequest out;
  out.attempt = request.param("n");
  if (out.attempt != "latest" && !parse_id(out.attempt))
    return bad_field("n", "an attempt is a number from 1, or 'latest'");
  const auto first = request.query_param("first_failure");
  out.first_failure = first && *first != "0" && *first != "false";
  for (const auto other : {"rank", "follow", "tail", "offset"})
    if (out.first_failure && request.query_param(other))
      return bad_field(other, "does not go with first_failure", "leave it out: the rank is found for you");
  if (request.query_param("rank") == "all") {
    out.rank = kAllRanks;
  } else {
    const auto rank = int_param(request, "rank", 0, 0, 1'000'000);
    if (!rank) return rank.error();
    out.rank = *rank;
  }
  const auto follow = request.query_param("follow");
  out.follow = follow && *follow != "0" && *follow != "false";
  const auto tail = int_param(request, "tail", 0, 0, 1LL << 40);
  if (!tail) return tail.error();
  const auto offset = int_param(request, "offset", 0, 0, 1LL << 50);
  if (!offset) return offset.error();
  out.offset = *tail > 0 ? -*tail : *offset;
  return out;
}

class LogStream : public std::enable_shared_from_this<LogStream> {
 public:
  struct Source {  // one rank
    NodeId node;
    std::int32_t rank = 0;
    std::int64_t offset = 0;
    std::string partial;  // of several ranks: a line that is not complete yet
    bool done = false;
  };

  LogStream(ApiPtr api, Answer answer, AttemptKey key, bool follow, std::vector<Source> sources)
      : api_(std::move(api)),
        answer_(std::move(answer)),
        key_(key),
        follow_(follow),
        sources_(std::move(sources)) {}

  void start() {
    for (std::size_t i = 0; i < sources_.size(); ++i) ask(i);
  }

 private:
  void ask(std::size_t i) {
    protocol::ReadLog read;
    read.key = key_;
    read.rank = sources_[i].rank;
    read.offset = sources_[i].offset;
    read.max_bytes = kPiece;
    read.wait_us = follow_ ? kLongPoll.count() : 0;
    api_->backend.read_log(sources_[i].node, std::move(read),
                           [self = shared_from_this(), i](Result<protocol::LogChunk> chunk) {
                             self->on_chunk(i, std::move(chunk));
                           });
  }

  void on_chunk(std::size_t i, Result<protocol::LogChunk> chunk) {
    if (failed_ || (stream_ && stream_->closed())) return;  // nobody reads any more
    Source& source = sources_[i];
    if (!chunk) {
      if (!stream_ && sources_.size() == 1) {
        failed_ = true;
        return answer_.fail(chunk.error());
      }
      return end(i, "[tutti] the log of rank " + std::to_string(source.rank) +
                        " ends here: " + chunk.error().message + "\n");
    }
    open();
    source.offset = chunk->next_offset;
    const bool nothing_more = !follow_ && chunk->data.empty();
    if (!write(source, std::move(chunk->data))) return;
    if (chunk->end || nothing_more) return end(i, {});
    stream_->when_drained([self = shared_from_this(), i] { self->ask(i); });
  }

  /// The head of the answer leaves with the first piece, so that a log that cannot be read is a proper
  /// problem.
  void open() {
    if (stream_) return;
    http::StreamOptions options;
    options.max_buffer = std::max<std::size_t>(sources_.size() * 4 * kPiece, 4 << 20);
    stream_ = answer_.stream(200,
                             {{"Content-Type", "text/plain; charset=utf-8"},
                              {"Cache-Control", "no-store"},
                              {"X-Accel-Buffering", "no"}},
                             std::move(options));
  }

  bool write(Source& source, std::string data) {
    if (data.empty()) return true;
    if (sources_.size() == 1) return stream_->write(std::move(data));
    const std::string prefix = "[" + std::to_string(source.rank) + "] ";
    std::string out;
    source.partial += data;
    std::string_view rest = source.partial;
    for (auto eol = rest.find('\n'); eol != rest.npos || rest.size() > kMaxLine; eol = rest.find('\n')) {
      const auto length = std::min(eol, kMaxLine);
      out.append(prefix).append(rest.substr(0, length)).push_back('\n');
      rest.remove_prefix(length == eol ? length + 1 : length);
    }
    source.partial = std::string(rest);
    return stream_->write(std::move(out));
  }

  void end(std::size_t i, std::string notice) {
    open();
    Source& source = sources_[i];
    source.done = true;
    if (!source.partial.empty() && !write(source, "\n")) return;
    if (!notice.empty() && !stream_->write(std::move(notice))) return;
    if (std::ranges::all_of(sources_, &Source::done)) stream_->close();
  }

  ApiPtr api_;
  Answer answer_;
  AttemptKey key_;
  bool follow_;
  bool failed_ = false;
  std::vector<Source> sources_;
  std::shared_ptr<http::Stream> stream_;
};

/// The attempt of that number (memory's view of it if it lives), or nothing.
const AttemptRow* choose_attempt(const std::vector<AttemptRow>& rows, const std::string& which) {
  if (rows.empty()) return nullptr;
  if (which == "latest") return &rows.back();
  const auto number = parse_id(which);
  const auto it = std::ranges::find_if(rows, [&](const auto& r) { return r.number == *number; });
  return it == rows.end() ? nullptr : &*it;
}

std::vector<LogStream::Source> choose_sources(const AttemptRow& attempt, const LogRequest& wanted) {
  std::vector<LogStream::Source> sources;
  for (const auto& member : attempt.gang)
    for (std::int32_t r = member.first_rank; r < member.first_rank + member.ranks; ++r) {
      if (wanted.rank != kAllRanks && wanted.rank != r) continue;
      if (sources.size() <= kMaxRanksTogether)
        sources.push_back({.node = member.node, .rank = r, .offset = wanted.offset, .partial = {}});
    }
  return sources;
}

/// What the scheduler has kept of the failure, so that it can be read when the node is gone.
void answer_first_failure(const Answer& answer, const AttemptRow& attempt) {
  const std::string which = "attempt " + std::to_string(attempt.number) + " of job " + to_string(attempt.job);
  boost::json::error_code error;
  const auto evidence = boost::json::parse(attempt.evidence_json, error);
  const auto* all = error ? nullptr : evidence.if_array();
  const boost::json::object* failure = nullptr;
  for (std::size_t i = 0; all != nullptr && failure == nullptr && i < all->size(); ++i)
    if (const auto* one = (*all)[i].if_object(); one != nullptr && one->contains("last_lines")) failure = one;
  const auto* lines = failure == nullptr ? nullptr : failure->at("last_lines").if_string();
  const auto* rank = failure == nullptr ? nullptr : failure->if_contains("rank");
  if (lines == nullptr || rank == nullptr || !rank->is_int64() || rank->get_int64() < 0)
    return answer.fail(not_found("no rank of " + which + " has failed",
                                 attempt.detail.empty() ? "its ranks' logs are at ?rank=N"
                                                        : "what is known of its end: " + attempt.detail));
  std::string text(*lines);
  if (!text.empty() && text.back() != '\n') text += '\n';
  answer.header("Tutti-Rank", std::to_string(rank->get_int64()));
  answer.header("Cache-Control", "no-store");
  answer.send(http::text(200, std::move(text), "text/plain; charset=utf-8"));
}

void get_log(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto wanted = parse_log_request(request);
  if (!wanted) return answer.fail(wanted.error());
  const JobId id = job_of(request);
  read_rows(
      api, answer, [id](Reader& reader) { return reader.attempts(id); },
      [api, answer, id, wanted = *std::move(wanted)](const std::vector<AttemptRow>& rows) {
        const AttemptRow* attempt = choose_attempt(rows, wanted.attempt);
        if (attempt == nullptr)
          return answer.fail(not_found("job " + to_string(id) + " has no attempt " + wanted.attempt,
                                       rows.empty() ? "it has not been started yet, or there is no such job"
                                                    : "it has " + std::to_string(rows.size())));
        if (wanted.first_failure) return answer_first_failure(answer, *attempt);
        auto sources = choose_sources(*attempt, wanted);
        if (sources.empty())
          return answer.fail(not_found("attempt " + std::to_string(attempt->number) + " of job " +
                                       to_string(id) + " has no rank " + std::to_string(wanted.rank)));
        if (sources.size() > kMaxRanksTogether)
          return answer.fail(
              bad_field("rank", "too many ranks to read together",
                        "at most " + std::to_string(kMaxRanksTogether) + "; ask for one rank"));
        std::make_shared<LogStream>(api, answer, AttemptKey{attempt->job, attempt->epoch}, wanted.follow,
                                    std::move(sources))
            ->start();
      });
}

}  // namespace

void add_log_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/attempts/{n}/logs", "attempts.logs", Need::job_read, get_log);
}

}  // namespace tutti::api
