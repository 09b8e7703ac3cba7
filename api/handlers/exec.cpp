// GET /v1/jobs/{id}/attempts/{n}/exec: a person's command inside a running attempt, over a WebSocket.
//
// Everything that can be refused is refused before the upgrade, as any other request; what was done is
// written to the job's history first (docs/exec.md). Then bytes are passed on, no faster than the slower side
// takes them: output is asked for as the client's connection takes it, and the client is not read while the
// command does not take what was typed. Control thread.
//
// Frames are binary messages, their first byte is the kind:
//   client → server   0 what is typed, 1 {"rows":R,"cols":C}, 2 nothing more will be typed
//   server → client   0 what was written, 3 {"exit_code":N} or {"signal":N}, 4 a problem document
#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <optional>
#include <utility>

#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/shells.h"
#include "api/http/link.h"
#include "api/wire/utf8.h"
#include "scheduler/model/redact.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr char kData = 0, kResize = 1, kEnd = 2, kExit = 3, kProblem = 4;
constexpr std::size_t kMostWords = 256;
constexpr std::size_t kMostCommand = 64 << 10;  // bytes
constexpr std::size_t kShownCommand = 500;
constexpr std::int32_t kMostRows = 10'000;

struct Wanted {
  std::string attempt;  // number, or "latest"
  std::string node;     // "" = not said
  std::int32_t rank = -1;
  protocol::OpenShell shell;
};

Result<Wanted> parse(const http::Request& request) {
  Wanted out;
  out.attempt = request.param("n");
  if (out.attempt != "latest" && !parse_id(out.attempt))
    return bad_field("n", "an attempt is a number from 1, or 'latest'");
  out.node = request.query_param("node").value_or("");
  const auto rank = int_param(request, "rank", -1, 0, 1'000'000);
  if (!rank) return rank.error();
  out.rank = static_cast<std::int32_t>(*rank);
  if (!out.node.empty() && out.rank >= 0) return bad_field("rank", "give a node or a rank, not both");
  const auto tty = int_param(request, "tty", 0, 0, 1);
  const auto rows = int_param(request, "rows", 24, 1, kMostRows),
             columns = int_param(request, "cols", 80, 1, kMostRows);
  for (const auto* n : {&tty, &rows, &columns})
    if (!*n) return n->error();
  out.shell.tty = *tty == 1;
  out.shell.rows = static_cast<std::int32_t>(*rows);
  out.shell.columns = static_cast<std::int32_t>(*columns);
  out.shell.term = request.query_param("term").value_or("");
  if (out.shell.term.size() > 64) return bad_field("term", "must have at most 64 bytes");
  std::size_t bytes = 0;
  for (const auto& [name, value] : request.query_params()) {
    if (name != "command") continue;
    if (value.find('\0') != std::string::npos || !wire::is_utf8(value))
      return bad_field("command", "a word must be UTF-8 without NUL");
    bytes += value.size();
    out.shell.argv.push_back(value);
  }
  if (out.shell.argv.size() > kMostWords || bytes > kMostCommand)
    return bad_field("command", "must have at most " + std::to_string(kMostWords) + " words and " +
                                    std::to_string(kMostCommand) + " bytes");
  if (!out.shell.argv.empty() && out.shell.argv.front().empty())
    return bad_field("command", "the program is empty");
  return out;
}

const GangMember* choose_member(const AttemptRow& row, const Wanted& wanted) {
  for (const auto& m : row.gang) {
    if (!wanted.node.empty() ? m.node_name == wanted.node
        : wanted.rank >= 0   ? wanted.rank >= m.first_rank && wanted.rank < m.first_rank + m.ranks
                             : m.state != MemberState::ended)
      return &m;
  }
  return nullptr;
}

/// As it may stand in the history, which others read: one line, not too long, without what looks like a
/// secret.
std::string shown(const std::string& text) {
  std::string out = Redactor({}, {}).text(text);
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  if (out.size() <= kShownCommand) return out;
  return std::string(wire::utf8_prefix(out, kShownCommand)) + "…";
}

std::string command_text(const std::vector<std::string>& argv) {
  if (argv.empty()) return "the login shell";
  std::string out;
  for (const auto& word : argv) out += (out.empty() ? "" : " ") + word;
  return shown(out);
}

class ExecSession : public std::enable_shared_from_this<ExecSession> {
 public:
  ExecSession(ApiPtr api, AttemptKey key, NodeId node, std::string who, std::string where,
              protocol::OpenShell what)
      : api_(std::move(api)),
        key_(key),
        node_(node),
        who_(std::move(who)),
        where_(std::move(where)),
        what_(std::move(what)),
        began_(api_->backend.now().mono) {}
  ExecSession(const ExecSession&) = delete;
  ExecSession& operator=(const ExecSession&) = delete;

  void start(std::shared_ptr<http::Link> link) {
    link_ = std::move(link);
    const auto self = shared_from_this();
    link_->start([self](const std::string& message) { self->on_message(message); },
                 [self](const std::string&) { self->on_link_closed(); });
    const std::string detail = who_ + " " + where_ + ": " + command_text(what_.argv);
    api_->backend.change_jobs(
        [key = key_, detail](ControlPlane& plane, Now now) {
          return plane.on_exec(now, key, "begun", detail);
        },
        [self](const Result<JobId>& done) {
          if (!done) return self->fail(done.error());
          self->begun_ = true;
          self->open();
        });
  }

 private:
  // ---- from the client
  void on_message(const std::string& message) {
    if (over_) return;
    if (message.empty()) return fail(bad("a message without a kind"));
    switch (message.front()) {
      case kData: typed_.append(message, 1); return pass_on();
      case kResize: return on_resize(std::string_view(message).substr(1));
      case kEnd: end_typed_ = true; return pass_on();
      default:
        return fail(
            bad("a message of an unknown kind: " + std::to_string(static_cast<int>(message.front()))));
    }
  }

  void on_resize(std::string_view text) {
    json::error_code ec;
    const auto size = json::parse(text, ec);
    const auto number = [&](std::string_view name) -> std::int32_t {
      const auto* o = ec ? nullptr : size.if_object();
      const auto* n = o == nullptr ? nullptr : o->if_contains(name);
      const bool good = n != nullptr && n->is_int64() && n->get_int64() >= 1 && n->get_int64() <= kMostRows;
      return good ? static_cast<std::int32_t>(n->get_int64()) : 0;
    };
    const auto rows = number("rows"), columns = number("cols");
    if (rows == 0 || columns == 0)
      return fail(bad(R"(a size must be {"rows":R,"cols":C}, each from 1 to 10000)"));
    size_ = {rows, columns};
    if (shell_ != 0) api_->services.shells->resize(shell_, rows, columns);
  }

  void pass_on() {
    while (!typed_.empty() && room_ > 0) {
      const auto n = std::min({typed_.size(), static_cast<std::size_t>(room_), protocol::kShellPiece});
      room_ -= static_cast<std::int64_t>(n);
      api_->services.shells->input(shell_, std::string_view(typed_).substr(0, n), false);
      typed_.erase(0, n);
    }
    if (typed_.empty() && end_typed_ && !end_said_ && room_known_) {
      end_said_ = true;
      api_->services.shells->input(shell_, "", true);
    }
    link_->hold(!typed_.empty());  // what comes faster than it is taken stays with the client
  }

  void on_link_closed() {
    if (!over_) outcome_ = "the client has gone";
    end();
  }

  // ---- from the node
  void on_room(std::int64_t bytes) {
    room_known_ = true;
    room_ += bytes;
    pass_on();
  }

  void on_output(std::string bytes) {
    if (over_) return;
    const auto size = static_cast<std::int64_t>(bytes.size());
    link_->send_binary(kData + std::move(bytes), [weak = weak_from_this(), size] {
      if (const auto self = weak.lock(); self && !self->over_)
        self->api_->services.shells->grant(self->shell_, size);
    });
  }

  void on_closed(const protocol::ShellClosed& closed) {
    shell_ = 0;
    if (over_) return;
    if (!closed.error.empty())
      return fail({.code = Errc::unavailable, .message = closed.error, .hint = "", .field = ""});
    const bool killed = closed.signal != 0;
    const int n = killed ? closed.signal : closed.exit_code;
    outcome_ = (killed ? "signal " : "exit code ") + std::to_string(n);
    link_->send_binary(kExit + json::serialize(json::object{{killed ? "signal" : "exit_code", n}}));
    finish();
  }

  void open() {
    const auto self = shared_from_this();
    if (over_) return record_end();  // the client has gone meanwhile
    what_.credit = protocol::kShellWindow;
    const auto opened = api_->services.shells->open(
        node_, what_,
        {.on_output = [self](std::string bytes) { self->on_output(std::move(bytes)); },
         .on_room = [self](std::int64_t bytes) { self->on_room(bytes); },
         .on_closed = [self](const protocol::ShellClosed& closed) { self->on_closed(closed); }});
    if (!opened) return fail(opened.error());
    shell_ = *opened;
    if (size_) api_->services.shells->resize(shell_, size_->first, size_->second);
  }

  // ---- its end
  static Error bad(std::string message) {
    return {.code = Errc::invalid_argument, .message = std::move(message), .hint = "", .field = ""};
  }
  void fail(const Error& error) {
    if (over_) return;
    outcome_ = error.message;
    link_->send_binary(kProblem + http::problem(problem_of(error)).body);
    finish();
  }
  void finish() {
    link_->hold(false);  // its answer to the close must be read
    link_->close();
    end();
  }
  void end() {
    if (std::exchange(over_, true)) return;
    if (shell_ != 0) api_->services.shells->close(std::exchange(shell_, 0));
    record_end();
  }
  void record_end() {
    if (!std::exchange(begun_, false)) return;
    const auto took = std::chrono::duration_cast<std::chrono::seconds>(api_->backend.now().mono - began_);
    const std::string detail =
        who_ + ": " + shown(outcome_) + " after " + std::to_string(took.count()) + " s";
    api_->backend.change_jobs(
        [key = key_, detail](ControlPlane& plane, Now now) {
          return plane.on_exec(now, key, "ended", detail);
        },
        [](const Result<JobId>&) {});
  }

  ApiPtr api_;
  const AttemptKey key_;
  const NodeId node_;
  const std::string who_, where_;
  protocol::OpenShell what_;
  const Mono began_;
  bool begun_ = false;  // and said so, in the history
  std::shared_ptr<http::Link> link_;
  std::int64_t shell_ = 0;  // 0: there is none (any more)
  std::string typed_;       // and not yet passed on
  std::int64_t room_ = 0;
  std::optional<std::pair<std::int32_t, std::int32_t>> size_;
  bool room_known_ = false, end_typed_ = false, end_said_ = false, over_ = false;
  std::string outcome_ = "the client has gone";
};

Error not_running(JobId id, const std::string& what) {
  return {.code = Errc::illegal_transition,
          .message = "job " + to_string(id) + " " + what,
          .hint = "commands run inside of running attempts only",
          .field = ""};
}

void exec(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (!http::wants_websocket(request.headers))
    return answer.send(http::problem(426, "upgrade_required", "this address speaks WebSocket only")
                           .set("Upgrade", "websocket"));
  if (api->services.shells == nullptr)
    return answer.send(http::problem(501, "not_implemented", "this scheduler opens no shells"));
  auto wanted = parse(request);
  if (!wanted) return answer.fail(wanted.error());
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const JobId id = job_of(request);
  const Job* job = plane->find_job(id);
  if (job == nullptr)
    return read_rows(
        api, answer, [id](Reader& reader) { return reader.find_job(id).has_value(); },
        [answer, id](bool known) { answer.fail(known ? not_running(id, "is over") : no_such_job(id)); });
  const bool current = wanted->attempt == "latest" || *parse_id(wanted->attempt) == job->row.attempt;
  if (!current)
    return answer.fail(*parse_id(wanted->attempt) < job->row.attempt
                           ? not_running(id, "is at attempt " + std::to_string(job->row.attempt) + ", " +
                                                 wanted->attempt + " is over")
                           : not_found("job " + to_string(id) + " has no attempt " + wanted->attempt));
  const AttemptKey key{id, job->row.epoch};
  const Attempt* attempt = plane->find_attempt(key);
  if (attempt == nullptr || attempt->row.state != AttemptState::running)
    return answer.fail(not_running(id, "is " + std::string(name(job->row.state))));
  const GangMember* member = choose_member(attempt->row, *wanted);
  if (member == nullptr)
    return answer.fail(not_found(wanted->node.empty()
                                     ? "the attempt has no rank " + std::to_string(wanted->rank)
                                     : "node " + wanted->node + " is not part of the attempt"));
  if (!api->services.shells->connected(member->node))
    return answer.fail({.code = Errc::unavailable,
                        .message = "node " + member->node_name + " is not connected",
                        .hint = "its ranks run on; try again",
                        .field = ""});
  wanted->shell.key = key;
  wanted->shell.rank = wanted->rank;
  const Identity& identity = identity_of(request);
  std::string who = identity.name;
  if (identity.owner != identity.name) who += " as " + identity.owner;
  const std::string where = "on " + member->node_name +
                            (wanted->rank >= 0 ? " (rank " + std::to_string(wanted->rank) + ")" : "") +
                            " from " + request.peer;
  auto session =
      std::make_shared<ExecSession>(api, key, member->node, std::move(who), where, std::move(wanted->shell));
  answer.upgrade([session](std::shared_ptr<http::Link> link) {
    if (link) session->start(std::move(link));
  });
}

}  // namespace

void add_exec_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/attempts/{n}/exec", "attempts.exec", Need::job_change, exec);
}

}  // namespace tutti::api
