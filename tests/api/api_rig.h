// The whole API in one test, without sockets and threads: the real routes over a real control plane, with a
// store and a reader in memory. Every answer is checked against openapi.json before the test sees it.
//
// TestBackend does what the leader does, one command at a time: decide, commit, then reply and tell events.
// Reads can be held back (hold_reads), so that a test says what happens between a query and its rows.
#pragma once

#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/accounts/accounts.h"
#include "api/handlers/history.h"
#include "api/handlers/routes.h"
#include "api/handlers/shells.h"
#include "api/http/router.h"
#include "db/memory/memory_accounts.h"
#include "db/memory/memory_history.h"
#include "db/memory/memory_reader.h"
#include "db/memory/memory_secrets.h"
#include "db/memory/memory_store.h"
#include "json_schema.h"
#include "scheduler/secrets/secret_vault.h"

namespace tutti::testing {

using namespace std::chrono_literals;

class TestBackend final : public Backend {
 public:
  TestBackend();

  // ---- what a test does to it
  NodeId add_node(const std::string& name, int gpus = 8);
  void add_project(const std::string& name);
  /// Brings the newest attempt of a job up on all its nodes.
  AttemptKey run_job(JobId id);
  /// Every node of it ends.
  void end_attempt(AttemptKey key, bool ok, int exit_code = 0);
  /// Any change of the control plane, with its commit and its events.
  void change(const std::function<void(ControlPlane&, Now)>& what);
  /// Committed, but the leader could not know it: no event is told.
  void change_untold(const std::function<void(ControlPlane&, Now)>& what);
  void tick(Duration d);
  void recover();                        // forget memory, load rows
  void be_unready() { plane_.reset(); }  // until recover()
  void break_reads(bool broken) { broken_reads_ = broken; }
  void hold_reads(bool hold) { hold_reads_ = hold; }
  void run_queries();  // of reads that are held back; their rows are still on the way
  void run_reads();    // as run_queries, and hands over the rows
  std::size_t subscriptions() const { return sinks_.size(); }
  int commits() const { return commits_; }
  const std::shared_ptr<db::MemoryDatabase>& database() const { return database_; }

  struct LogFile {
    std::string text;
    bool ended = false;
  };
  std::map<std::int32_t, LogFile> logs;  // by rank
  bool logs_connected = true;
  std::vector<std::string> reasons;        // in its status
  std::optional<Error> refuse_writes;      // submissions are answered with it, and do not happen
  std::map<NodeId, std::string> evidence;  // a node's part; a node without one is not connected
  std::int64_t evidence_stamp = 1;
  std::function<void()> on_evidence_read;  // before each answer, if set
  std::vector<protocol::ReadLog> log_requests;
  void logs_changed();  // answers long polls that wait
  /// The long polls' time is over: those that wait get an empty piece.
  void logs_time_out();
  std::size_t waiting_polls() const { return polls_.size(); }

  // ---- Backend
  void submit(std::vector<SubmitRequest> requests, SubmitReply reply) override;
  void change_jobs(std::function<Result<JobId>(ControlPlane&, Now)> change, Reply<JobId> reply) override;
  void change_shares(std::function<Result<Warnings>(ControlPlane&, Now)> change,
                     Reply<Warnings> reply) override;
  void change_nodes(std::function<Result<NodeId>(ControlPlane&, Now)> change, Reply<NodeId> reply) override;
  void read(Query query, std::function<void(Error)> failed) override;
  const ControlPlane* plane() const override { return plane_.get(); }
  Now now() const override { return now_; }
  ServiceStatus status() const override;
  std::string metrics_text() const override { return "tutti_test 1\n"; }
  std::uint64_t subscribe(EventSink sink) override;
  void unsubscribe(std::uint64_t subscription) override { sinks_.erase(subscription); }
  void read_log(NodeId node, protocol::ReadLog request, Reply<protocol::LogChunk> reply) override;

 private:
  std::vector<EventRow> commit();
  bool refuse_if_unready(const std::function<void(Error)>& refuse) const;
  std::optional<protocol::LogChunk> piece(const protocol::ReadLog& request) const;

  struct HeldRead {
    Query query;
    std::function<void(Error)> failed;
    std::function<void()> rows;  // set when the query has run
  };
  struct Poll {
    protocol::ReadLog request;
    Reply<protocol::LogChunk> reply;
  };
  Now now_{Instant(std::chrono::hours(24 * 365 * 50)), Mono(1h)};
  LeaseTable leases_{LeaseSettings{}};
  std::shared_ptr<db::MemoryDatabase> database_ = std::make_shared<db::MemoryDatabase>();
  db::MemoryStore store_{database_};
  db::MemoryReader reader_{database_};
  std::unique_ptr<ControlPlane> plane_;
  std::map<std::uint64_t, EventSink> sinks_;
  std::uint64_t last_subscription_ = 0;
  std::deque<HeldRead> held_;
  bool hold_reads_ = false;
  bool broken_reads_ = false;
  int commits_ = 0;
  std::vector<Poll> polls_;
};

/// A stream without a socket. `slow`: the reader takes nothing until the test says so.
class TestStream final : public http::Stream {
 public:
  explicit TestStream(http::StreamOptions options) : options_(std::move(options)) {}
  bool write(std::string chunk) override;
  void close() override;
  void set_on_close(std::function<void()> callback) override { on_close_ = std::move(callback); }
  bool closed() const override { return closed_; }
  void when_drained(std::function<void()> callback) override;

  void leave();     // the reader is gone
  void take_all();  // a slow reader takes what has been written
  bool slow = false;
  std::string text;  // everything written

 private:
  http::StreamOptions options_;
  std::size_t unread_ = 0;
  bool closed_ = false;
  std::function<void()> on_close_;
  std::function<void()> on_drained_;
};

/// Commands inside attempts, without nodes.
class TestShells final : public Shells {
 public:
  struct Opened {
    NodeId node;
    protocol::OpenShell what;
    Events events;
    std::string typed;
    bool ended = false;  // nothing more will be typed
    bool closed = false;
    std::int64_t granted = 0;
    std::vector<std::pair<std::int32_t, std::int32_t>> sizes;
  };
  std::map<std::int64_t, Opened> opened;
  bool reachable = true;

  bool connected(NodeId) const override { return reachable; }
  Result<std::int64_t> open(NodeId node, protocol::OpenShell what, Events events) override {
    const auto number = static_cast<std::int64_t>(opened.size()) + 1;
    opened[number] = {
        .node = node, .what = std::move(what), .events = std::move(events), .typed = {}, .sizes = {}};
    return number;
  }
  void input(std::int64_t n, std::string_view bytes, bool end) override {
    opened.at(n).typed += bytes;
    opened.at(n).ended = end;
  }
  void grant(std::int64_t n, std::int64_t bytes) override { opened.at(n).granted += bytes; }
  void resize(std::int64_t n, std::int32_t rows, std::int32_t columns) override {
    opened.at(n).sizes.emplace_back(rows, columns);
  }
  void close(std::int64_t n) override { opened.at(n).closed = true; }
};

/// One request and what became of it.
struct Call {
  std::optional<http::Response> response;  // also the head of a stream
  std::shared_ptr<TestStream> stream;
  http::LinkHandler upgraded;  // what waits for the link

  int status() const { return response ? response->status : 0; }
  boost::json::value body() const;
  std::string header(std::string_view name) const;
};

class ApiRig {
 public:
  /// `services`: what handlers use beside the backend; they outlive the rig's calls.
  explicit ApiRig(const std::function<Services(TestBackend&)>& services = {});
  ~ApiRig();  // as a server that goes down: every stream ends
  ApiRig(const ApiRig&) = delete;
  ApiRig& operator=(const ApiRig&) = delete;

  /// Asks with the token of `headers`, else with the admin's. The answer, if it has come, is checked against
  /// openapi.json.
  Call call(http::Method method, std::string target, std::string body = {}, http::Headers headers = {});
  /// As call(), for answers that come later: check it when it is there.
  std::shared_ptr<Call> start(http::Method method, std::string target, std::string body = {},
                              http::Headers headers = {});
  Call get(std::string target, http::Headers headers = {}) {
    return call(http::Method::get, std::move(target), {}, std::move(headers));
  }
  Call post(std::string target, std::string body = {}, http::Headers headers = {}) {
    return call(http::Method::post, std::move(target), std::move(body), std::move(headers));
  }
  Call put(std::string target, std::string body) {
    return call(http::Method::put, std::move(target), std::move(body));
  }
  Call del(std::string target) { return call(http::Method::del, std::move(target)); }
  Call patch(std::string target, std::string body, http::Headers headers = {}) {
    return call(http::Method::patch, std::move(target), std::move(body), std::move(headers));
  }
  /// A user with these roles (by project), as the headers with which they ask.
  http::Headers user(const std::string& name, const std::map<std::string, Role>& roles,
                     std::uint8_t scopes = kAllScopes);
  /// Whoever asks from now on is this one, whatever token is sent.
  void sign_in(Identity who);
  JobId submit(std::string spec = R"({"name":"a","run":"true"})", http::Headers headers = {});
  /// So many jobs of eve in one command; `shape` says what is special about each.
  void submit_many(int jobs, const std::function<void(JobSpec&, int number)>& shape = {});

  TestBackend backend;
  std::shared_ptr<db::MemorySecrets> secrets = std::make_shared<db::MemorySecrets>();
  bool secrets_broken = false;  // their database cannot be reached
  SecretVault vault;
  TestShells shells;
  bool history_broken = false;
  std::function<void()> on_replay;  // before a replay is computed, if set
  bool replay_dies = false;         // its process, before it has answered
  History history;
  db::MemoryAccounts account_store;
  Accounts accounts;  // "secret" is the admin's token
  http::Router router;
  std::function<std::optional<http::Response>(http::Request&)> before = authenticate(accounts);

 private:
  void expect_documented(http::Method method, std::string_view route, const Call& call) const;

  std::vector<std::shared_ptr<Call>> calls_;
};

/// A user of that name with these roles and every scope.
Identity user(std::string name, std::map<std::string, Role, std::less<>> roles);

/// openapi.json, as embedded.
const boost::json::value& openapi();

}  // namespace tutti::testing
