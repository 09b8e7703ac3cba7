// logs and --follow: the output of one rank, and its next attempts.
//
// The server ends a followed stream when the attempt has ended, but also when the server itself stops: only
// the attempt's own record says which it was. After a lost connection the log is asked for again, and what
// has been printed is skipped.
#include <ostream>

#include "cli/documents.h"
#include "cli/job_watch.h"
#include "cli/pages.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kAskAgain(30);  // without a byte: is the attempt still there?
constexpr milliseconds kBetweenTries(1000);
constexpr std::chrono::seconds kEndAfterRanks(30);
constexpr std::int64_t kTailAgain = 4096;  // bytes, after an interrupted tail

struct LogPlace {
  std::string job;
  std::int64_t attempt = 1;
  std::string rank;  // a number, or "all": every line with its rank before it
};

std::string log_path(const LogPlace& place, bool follow, std::int64_t offset, std::int64_t tail) {
  return "/v1/jobs/" + place.job + "/attempts/" + std::to_string(place.attempt) + "/logs?rank=" + place.rank +
         (follow ? "&follow=1" : "") + (offset > 0 ? "&offset=" + std::to_string(offset) : "") +
         (tail > 0 ? "&tail=" + std::to_string(tail) : "");
}

// The server's own last line when a node stops answering in the middle of a log: not a byte of the log.
std::size_t notice_length(std::string_view end_of_text) {
  const auto at = end_of_text.rfind("[tutti] the log of rank ");
  const bool last = at != std::string_view::npos && end_of_text.find('\n', at) == end_of_text.size() - 1;
  return last ? end_of_text.size() - at : 0;
}

bool attempt_ended(Client& client, const std::string& job, std::int64_t number) {
  const Document document = get_pages(client, "/v1/jobs/" + job + "/attempts", "attempts");
  for (const auto& item : array_of(as_object(document.tree), "attempts"))
    if (integer_of(as_object(item), "number") == number) return text_of(as_object(item), "state") == "ended";
  return false;
}

// One attempt's log, from its beginning (or its tail) to its end, whatever happens to connections.
class AttemptLog {
 public:
  AttemptLog(Session& session, JobWatch& watch, LogPlace place, std::int64_t tail)
      : session_(session), watch_(watch), place_(std::move(place)), tail_(tail) {}

  void follow() {
    auto give_up_at = Clock::time_point::max();
    while (session_.out) {
      const std::int64_t before = printed_;
      const bool ended_before = attempt_ended(session_.client, place_.job, place_.attempt);
      const bool in_order = stream_once() && !lost_;
      if (in_order && !counted() && wait_for_end()) return;
      if (in_order && (ended_before || attempt_ended(session_.client, place_.job, place_.attempt))) return;
      // The attempt is over and its log stays out of reach: its node may be gone for good.
      if (!ended_before || printed_ > before)
        give_up_at = Clock::time_point::max();
      else
        give_up_at = std::min(give_up_at, Clock::now() + session_.client.patience().retry_for);
      if (Clock::now() >= give_up_at || (ended_before && refused_)) {
        session_.err << "tutti: the log of attempt " << place_.attempt << " cannot be read: " << clean(why_)
                     << "\n";
        return;
      }
      watch_.wait(kBetweenTries);
    }
  }

 private:
  // Of a tail, and of several ranks together, we do not know which byte was the last.
  bool counted() const { return tail_ <= 0 && place_.rank != "all"; }

  // Ranks end a moment before their attempt does. Only where asking again would repeat lines do we wait for
  // it.
  bool wait_for_end() {
    const auto until = Clock::now() + kEndAfterRanks;
    while (!attempt_ended(session_.client, place_.job, place_.attempt)) {
      if (Clock::now() >= until) return false;
      watch_.wait(kBetweenTries);
    }
    return true;
  }

  // True when the server ended the log in order.
  bool stream_once() {
    const bool again = printed_ > 0;
    if (again && !counted())
      session_.err << "tutti: the log was interrupted; lines may be missing or repeated here\n";
    const std::int64_t offset = again && counted() ? printed_ : 0;
    const std::int64_t tail = again && !counted() ? kTailAgain : tail_;
    const auto stream = session_.client.try_stream(log_path(place_, true, offset, tail), {});
    const Outcome& opened = stream->opened();
    refused_ = false;
    lost_ = true;
    if (opened.trouble != Trouble::none) {
      why_ = opened.why;
      if (opened.trouble == Trouble::hopeless) throw Failure(Exit::unreachable, opened.why);
      return false;
    }
    if (opened.reply.status >= 300) {
      const Failure failure = failure_of(opened.reply);
      why_ = failure.what();
      refused_ = opened.reply.status < 500;
      // Not written yet, while the attempt is being prepared: 404 or 503. Anything else will not pass.
      if (refused_ && opened.reply.status != 404) throw failure;
      return false;
    }
    return copy(*stream);
  }

  bool copy(HttpStream& stream) {
    std::string bytes, end_of_text;
    while (session_.out) {
      bytes.clear();
      switch (stream.read(bytes, kAskAgain)) {
        case HttpStream::Read::data:
          session_.out << bytes << std::flush;
          printed_ += static_cast<std::int64_t>(bytes.size());
          end_of_text += bytes;
          if (end_of_text.size() > 4096) end_of_text.erase(0, end_of_text.size() - 2048);
          break;
        case HttpStream::Read::quiet:
          if (attempt_ended(session_.client, place_.job, place_.attempt)) {
            why_ = "nothing more comes";
            return false;
          }
          break;
        case HttpStream::Read::end:
          lost_ = notice_length(end_of_text) > 0;
          printed_ -= static_cast<std::int64_t>(notice_length(end_of_text));
          return true;
        case HttpStream::Read::broken: why_ = "the connection was lost"; return false;
      }
    }
    return true;
  }

  Session& session_;
  JobWatch& watch_;
  const LogPlace place_;
  const std::int64_t tail_;
  std::int64_t printed_ = 0;  // bytes of the log
  bool refused_ = false;
  bool lost_ = false;  // the last stream did not end in order
  std::string why_;
};

std::int64_t last_attempt(Client& client, const std::string& id) {
  const auto count = integer_of(as_object(client.get("/v1/jobs/" + id).tree), "attempt").value_or(0);
  if (count == 0)
    throw Failure(Exit::failed, "job " + id + " has not started yet, so it has no log",
                  "tutti explain " + id + " says why; tutti logs -f " + id + " waits for it");
  return count;
}

// What was seen is kept oldest first: the first rank in it that did not end well.
std::string first_failing_rank(Client& client, const std::string& id, std::int64_t attempt) {
  const Document document = get_pages(client, "/v1/jobs/" + id + "/attempts", "attempts");
  for (const auto& item : array_of(as_object(document.tree), "attempts")) {
    if (integer_of(as_object(item), "number") != attempt) continue;
    for (const auto& seen : array_of(as_object(item), "evidence")) {
      const json::object& e = as_object(seen);
      const bool failed =
          integer_of(e, "exit_code").value_or(0) != 0 || integer_of(e, "signal").value_or(0) != 0;
      if (const auto rank = integer_of(e, "rank"); rank && *rank >= 0 && failed) return std::to_string(*rank);
    }
  }
  throw Failure(Exit::not_found,
                "no rank of attempt " + std::to_string(attempt) + " of job " + id + " has failed",
                "tutti logs " + id + " --rank all shows all of them");
}

void print_log(Session& session, const LogOptions& options, const std::string& id, std::int64_t attempt) {
  const auto stream =
      session.client.stream(log_path({id, attempt, options.rank}, false, 0, options.tail), {});
  std::string bytes;
  while (session.out) {
    bytes.clear();
    switch (stream->read(bytes, session.client.patience().timeout)) {
      case HttpStream::Read::data: session.out << bytes; break;
      case HttpStream::Read::end: session.out.flush(); return;
      case HttpStream::Read::quiet:
      case HttpStream::Read::broken:
        session.out.flush();
        throw Failure(Exit::unreachable, "the log broke off; what is shown is not all of it");
    }
  }
}

}  // namespace

Document follow_job(Session& session, const std::string& id, const std::string& rank,
                    std::int64_t first_attempt, std::int64_t tail) {
  JobWatch watch(session.client, id);
  for (std::int64_t attempt = first_attempt; session.out; ++attempt) {
    while (watch.attempts() < attempt && !watch.terminal() && session.out) watch.wait(kAskAgain);
    if (watch.attempts() < attempt) break;
    if (attempt > 1) session.err << "--- job " << id << ", attempt " << attempt << " ---\n" << std::flush;
    AttemptLog(session, watch, {id, attempt, rank}, attempt == first_attempt ? tail : 0).follow();
    watch.look();
  }
  return watch.document();
}

int run_logs(Session& session, const LogOptions& options) {
  const std::string id = resolve_job(session, options.id);
  if (options.first_failure && options.follow)
    throw Failure(Exit::usage, "logs: --first-failure is of an attempt that is over; it does not go with -f");
  if (!options.follow) {
    LogOptions asked = options;
    const std::int64_t attempt = options.attempt > 0 ? options.attempt : last_attempt(session.client, id);
    if (options.first_failure) {
      asked.rank = first_failing_rank(session.client, id, attempt);
      session.err << "rank " << asked.rank << " of attempt " << attempt << " failed first\n" << std::flush;
    }
    print_log(session, asked, id, attempt);
    return 0;
  }
  if (options.attempt > 0) {
    JobWatch watch(session.client, id);
    if (watch.attempts() < options.attempt && watch.terminal())
      throw Failure(Exit::not_found, "job " + id + " has no attempt " + std::to_string(options.attempt));
    while (watch.attempts() < options.attempt && !watch.terminal()) watch.wait(kAskAgain);
    AttemptLog(session, watch, {id, options.attempt, options.rank}, options.tail).follow();
    return 0;
  }
  const auto begun = integer_of(as_object(session.client.get("/v1/jobs/" + id).tree), "attempt").value_or(0);
  follow_job(session, id, options.rank, std::max<std::int64_t>(begun, 1), options.tail);
  return 0;
}

}  // namespace tutti::cli
