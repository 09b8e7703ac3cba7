#include "api_rig.h"

#include <sodium.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "api/handlers/openapi.h"
#include "api/wire/job_spec_codec.h"
#include "api/wire/tar_gz.h"
#include "scheduler/replay/comparison.h"

namespace tutti::testing {

namespace json = boost::json;

namespace {

SpecPtr parse_stored(std::string_view text) {
  auto parsed = wire::parse_spec_json(text, Now{});
  EXPECT_TRUE(parsed.ok()) << "a stored spec must be readable: " << text;
  return std::make_shared<const JobSpec>(std::move(parsed.spec));
}

Error unavailable() {
  return Error{.code = Errc::unavailable, .message = "the store is away", .hint = "", .field = ""};
}

}  // namespace

// ---------------------------------------------------------------- TestBackend

TestBackend::TestBackend() {
  store_.acquire_leadership("test");
  recover();
}

void TestBackend::recover() {
  plane_ = std::make_unique<ControlPlane>(ControlSettings{}, store_.load(),
                                          SpecText{.parse = parse_stored, .encode = wire::encode_spec},
                                          leases_, now_);
}

std::vector<EventRow> TestBackend::commit() {
  Output out = plane_->take_output();
  std::string why;
  EXPECT_TRUE(plane_->invariants_hold(&why)) << why;
  store_.commit(out.batch);
  ++commits_;
  return std::move(out.batch.events);
}

void TestBackend::change(const std::function<void(ControlPlane&, Now)>& what) {
  now_.wall += 1ms;
  now_.mono += 1ms;
  what(*plane_, now_);
  plane_->plan(now_);
  for (const auto& event : commit()) {
    const auto sinks = sinks_;
    for (const auto& [id, sink] : sinks) sink(event);
  }
}

void TestBackend::add_project(const std::string& name) {
  change([&](ControlPlane& plane, Now now) {
    ProjectRow row;
    row.name = name;
    EXPECT_TRUE(plane.on_put_project(now, row, "test"));
  });
}

void TestBackend::change_untold(const std::function<void(ControlPlane&, Now)>& what) {
  what(*plane_, now_);
  plane_->plan(now_);
  commit();
}

void TestBackend::tick(Duration d) {
  now_.wall += d;
  now_.mono += d;
  for (const auto& [id, node] : plane_->cluster().nodes) leases_.renew(id, now_.mono);
  change([](ControlPlane& plane, Now now) { plane.on_tick(now); });
}

NodeId TestBackend::add_node(const std::string& name, int gpus) {
  protocol::Hello hello;
  hello.worker_version = "test";
  hello.node = name;
  hello.address = "10.0.0.1";
  hello.boot_id = "boot-1";
  hello.cpus = 64;
  hello.memory_bytes = 1LL << 40;
  hello.kill_mode = "cgroup2";
  hello.driver = "550.54";
  hello.simulated_gpus = true;
  hello.labels = {{"rack", "r1"}};
  for (int i = 0; i < gpus; ++i)
    hello.gpus.push_back({.uuid = "GPU-" + name + "-" + std::to_string(i),
                          .index = i,
                          .model = "NVIDIA H100 80GB HBM3",
                          .memory_bytes = 80LL << 30,
                          .pci = "0000:0" + std::to_string(i) + ":00.0",
                          .island = 0,
                          .device_path = "",
                          .healthy = true,
                          .health_reason = ""});
  NodeId id;
  change([&](ControlPlane& plane, Now now) { id = plane.on_hello(now, hello); });
  return id;
}

AttemptKey TestBackend::run_job(JobId id) {
  const AttemptKey key{id, plane_->find_job(id)->row.epoch};
  const auto gang = plane_->find_attempt(key)->row.gang;
  for (const auto phase : {protocol::Phase::preparing, protocol::Phase::ready, protocol::Phase::running})
    for (const auto& member : gang)
      change([&](ControlPlane& plane, Now now) {
        protocol::AttemptStatus status;
        status.key = key;
        status.phase = phase;
        if (phase == protocol::Phase::ready) status.master_port = status.agent_port = 4000;
        plane.on_attempt_status(now, member.node, status);
      });
  return key;
}

void TestBackend::end_attempt(AttemptKey key, bool ok, int exit_code) {
  const auto gang = plane_->find_attempt(key)->row.gang;
  for (const auto& member : gang)
    change([&](ControlPlane& plane, Now now) {
      protocol::AttemptStatus status;
      status.key = key;
      status.phase = protocol::Phase::ended;
      status.end = protocol::End{.ok = ok, .proven = true, .how = "cgroup"};
      if (!ok) {
        protocol::Failure failure;
        failure.kind = "exit";
        failure.rank = member.first_rank;
        failure.exit_code = exit_code;
        failure.detail = "exit code " + std::to_string(exit_code);
        status.failure = failure;
      }
      plane.on_attempt_status(now, member.node, status);
    });
}

bool TestBackend::refuse_if_unready(const std::function<void(Error)>& refuse) const {
  if (plane_ == nullptr) refuse(unavailable());
  return plane_ == nullptr;
}

void TestBackend::submit(std::vector<SubmitRequest> requests, SubmitReply reply) {
  if (refuse_writes) return reply(std::vector<Result<Submitted>>(requests.size(), *refuse_writes));
  std::vector<Result<Submitted>> results;
  if (refuse_if_unready([&](const Error& e) { reply(std::vector<Result<Submitted>>(requests.size(), e)); }))
    return;
  change([&](ControlPlane& plane, Now now) { results = plane.on_submit_all(now, requests); });
  reply(std::move(results));
}

void TestBackend::change_jobs(std::function<Result<JobId>(ControlPlane&, Now)> make, Reply<JobId> reply) {
  if (refuse_if_unready(reply)) return;
  Result<JobId> result = JobId(0);
  change([&](ControlPlane& plane, Now now) { result = make(plane, now); });
  reply(result);
}
void TestBackend::change_shares(std::function<Result<Warnings>(ControlPlane&, Now)> make,
                                Reply<Warnings> reply) {
  if (refuse_if_unready(reply)) return;
  Result<Warnings> result = Warnings{};
  change([&](ControlPlane& plane, Now now) { result = make(plane, now); });
  reply(result);
}
void TestBackend::change_nodes(std::function<Result<NodeId>(ControlPlane&, Now)> what, Reply<NodeId> reply) {
  if (refuse_if_unready(reply)) return;
  Result<NodeId> result = NodeId(0);
  change([&](ControlPlane& plane, Now now) { result = what(plane, now); });
  reply(result);
}

void TestBackend::read(Query query, std::function<void(Error)> failed) {
  held_.push_back({std::move(query), std::move(failed), {}});
  if (!hold_reads_) run_reads();
}

void TestBackend::run_queries() {
  for (auto& read : held_) {
    if (read.rows) continue;
    if (broken_reads_)
      read.rows = [failed = read.failed] { failed(unavailable()); };
    else
      read.rows = read.query(reader_);
  }
}

void TestBackend::run_reads() {
  run_queries();
  for (auto& read : std::exchange(held_, {})) read.rows();
}

ServiceStatus TestBackend::status() const {
  return {.ready = plane_ != nullptr,
          .detail = plane_ != nullptr ? "leader, term 1" : "recovering: the store is away",
          .leader = "test",
          .term = 1,
          .commit_ms = 0,
          .inbox = 0,
          .inbox_limit = 100,
          .reasons = reasons};
}

std::uint64_t TestBackend::subscribe(EventSink sink) {
  sinks_.emplace(++last_subscription_, std::move(sink));
  return last_subscription_;
}

std::optional<protocol::LogChunk> TestBackend::piece(const protocol::ReadLog& request) const {
  const auto it = logs.find(request.rank);
  protocol::LogChunk chunk;
  if (it == logs.end()) return std::nullopt;
  const auto size = static_cast<std::int64_t>(it->second.text.size());
  const auto from =
      request.offset < 0 ? std::max<std::int64_t>(0, size + request.offset) : std::min(request.offset, size);
  chunk.data =
      it->second.text.substr(static_cast<std::size_t>(from), static_cast<std::size_t>(request.max_bytes));
  chunk.next_offset = from + static_cast<std::int64_t>(chunk.data.size());
  chunk.end = it->second.ended && chunk.next_offset == size;
  if (chunk.data.empty() && !chunk.end) return std::nullopt;
  return chunk;
}

void TestBackend::read_log(NodeId node, protocol::ReadLog request, Reply<protocol::LogChunk> reply) {
  log_requests.push_back(request);
  if (request.what == "evidence") {
    if (on_evidence_read) on_evidence_read();
    const auto part = evidence.find(node);
    if (part == evidence.end()) return reply(unavailable());
    protocol::LogChunk chunk;
    const auto from = std::min(static_cast<std::size_t>(request.offset), part->second.size());
    const auto bytes = part->second.substr(from, static_cast<std::size_t>(request.max_bytes));
    chunk.data = wire::to_base64(bytes);
    chunk.next_offset = static_cast<std::int64_t>(from + bytes.size());
    chunk.end = chunk.next_offset == static_cast<std::int64_t>(part->second.size());
    chunk.stamp = evidence_stamp;
    return reply(std::move(chunk));
  }
  if (!logs_connected) return reply(unavailable());
  if (auto chunk = piece(request)) return reply(std::move(*chunk));
  if (request.wait_us > 0) {
    polls_.push_back({std::move(request), std::move(reply)});
    return;
  }
  protocol::LogChunk nothing;
  nothing.next_offset = std::max<std::int64_t>(0, request.offset);
  reply(std::move(nothing));
}

void TestBackend::logs_changed() {
  for (auto& poll : std::exchange(polls_, {})) {
    if (auto chunk = piece(poll.request))
      poll.reply(std::move(*chunk));
    else
      polls_.push_back(std::move(poll));
  }
}

void TestBackend::logs_time_out() {
  for (auto& poll : std::exchange(polls_, {})) {
    protocol::LogChunk nothing;
    nothing.next_offset = std::max<std::int64_t>(0, poll.request.offset);
    poll.reply(std::move(nothing));
  }
}

// ---------------------------------------------------------------- TestStream

bool TestStream::write(std::string chunk) {
  if (closed_) return false;
  if (slow) unread_ += chunk.size();
  if (unread_ > options_.max_buffer) {
    leave();
    return false;
  }
  text += chunk;
  return true;
}

void TestStream::close() { leave(); }

void TestStream::leave() {
  if (std::exchange(closed_, true)) return;
  const auto dropped = std::exchange(on_drained_, nullptr);
  if (const auto callback = std::exchange(on_close_, nullptr)) callback();
}

void TestStream::when_drained(std::function<void()> callback) {
  if (closed_) return;
  if (unread_ == 0) return callback();
  on_drained_ = std::move(callback);
}

void TestStream::take_all() {
  unread_ = 0;
  if (const auto callback = std::exchange(on_drained_, nullptr)) callback();
}

// ---------------------------------------------------------------- ApiRig

namespace {

class RecordingSink final : public http::ResponseSink {
 public:
  explicit RecordingSink(std::shared_ptr<Call> call) : call_(std::move(call)) {}
  void respond(http::Response response) override { call_->response = std::move(response); }
  void upgrade(http::LinkHandler then) override {
    call_->response = http::Response{.status = 101, .headers = {}, .body = {}};
    call_->upgraded = std::move(then);
  }
  std::shared_ptr<http::Stream> stream(int status, http::Headers headers,
                                       http::StreamOptions options) override {
    call_->response = http::Response{.status = status, .headers = std::move(headers), .body = {}};
    call_->stream = std::make_shared<TestStream>(std::move(options));
    return call_->stream;
  }

 private:
  std::shared_ptr<Call> call_;
};

std::string lower_name(http::Method method) {
  std::string name(http::to_string(method));
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

std::string media_type(const std::string& content_type) {
  return content_type.substr(0, content_type.find(';'));
}

}  // namespace

const json::value& openapi() {
  static const json::value document = json::parse(api::openapi_document());
  return document;
}

json::value Call::body() const {
  if (!response) {
    ADD_FAILURE() << "no answer has come";
    return {};
  }
  json::error_code error;
  auto value = json::parse(response->body, error);
  EXPECT_FALSE(error) << response->body;
  return value;
}

std::string Call::header(std::string_view name) const {
  const auto* value = response ? http::find_header(response->headers, name) : nullptr;
  return value == nullptr ? "" : *value;
}

namespace {

// At once, on this thread.
void aside(const std::function<void()>& work, const std::function<void(std::exception_ptr)>& done) {
  std::exception_ptr failure;
  try {
    work();
  } catch (...) {
    failure = std::current_exception();
  }
  done(failure);
}

AccountSettings account_settings() {
  AccountSettings settings;
  settings.root_token = "secret";
  return settings;
}

}  // namespace

ApiRig::ApiRig(const std::function<Services(TestBackend&)>& services)
    : vault(
          secrets,
          [this](const std::function<void()>& work, const std::function<void(std::exception_ptr)>& done) {
            if (secrets_broken)
              return done(std::make_exception_ptr(StoreError(StoreError::unavailable, "broken")));
            aside(work, done);
          },
          "the key of the test"),
      history(
          std::make_shared<db::MemoryHistory>(backend.database()),
          [this](const std::function<void()>& work, const std::function<void(std::exception_ptr)>& done) {
            if (history_broken)
              return done(std::make_exception_ptr(StoreError(StoreError::unavailable, "broken")));
            aside(work, done);
          },
          [this](const std::function<void()>& work, const std::function<void(std::exception_ptr)>& done) {
            if (const auto first = on_replay) first();
            aside(work, done);
          },
          [this](const replay::Comparison& question) {
            if (replay_dies) throw StoreError(StoreError::unavailable, "it ended with signal 6");
            return replay::compare(question);
          }),
      accounts(account_store, aside, aside, account_settings(), [this] { return backend.now().wall; }) {
  EXPECT_GE(sodium_init(), 0);
  accounts.start();
  Services all = services ? services(backend) : Services{};
  all.accounts = &accounts;
  if (all.history == nullptr) all.history = &history;
  all.secrets = &vault;
  all.shells = &shells;
  add_routes(router, backend, {}, all);
}

http::Headers ApiRig::user(const std::string& name, const std::map<std::string, Role>& roles,
                           std::uint8_t scopes) {
  Accounts::UserChange change;
  change.roles = roles;
  accounts.add_user(name, change, "test", [](const auto& done) { EXPECT_TRUE(done); });
  std::string text;
  accounts.make_token(name, "test", scopes, std::nullopt, [&](const Result<NewSecret>& made) {
    ASSERT_TRUE(made);
    text = made->text;
  });
  return {{"Authorization", "Bearer " + text}};
}

ApiRig::~ApiRig() {
  for (const auto& call : calls_)
    if (call->stream) call->stream->leave();
}

std::shared_ptr<Call> ApiRig::start(http::Method method, std::string target, std::string body,
                                    http::Headers headers) {
  if (http::find_header(headers, "Authorization") == nullptr &&
      http::find_header(headers, "Cookie") == nullptr)
    headers.push_back({"Authorization", "Bearer secret"});
  if (!body.empty() && http::find_header(headers, "Content-Type") == nullptr)
    headers.push_back({"Content-Type", "application/json"});
  auto request = http::Request::make(method, std::move(target), std::move(body), std::move(headers));
  auto call = std::make_shared<Call>();
  calls_.push_back(call);
  if (auto refused = before(request))
    call->response = std::move(*refused);
  else
    router.dispatch(std::move(request), http::Responder(std::make_shared<RecordingSink>(call)));
  return call;
}

Call ApiRig::call(http::Method method, std::string target, std::string body, http::Headers headers) {
  auto probe = http::Request::make(method, target);
  const auto* route = router.match(probe);
  const auto result = start(method, std::move(target), std::move(body), std::move(headers));
  if (route != nullptr) expect_documented(method, route->pattern, *result);
  return *result;
}

void ApiRig::expect_documented(http::Method method, std::string_view route, const Call& call) const {
  ASSERT_TRUE(call.response) << route << ": no answer";
  EXPECT_EQ(call.header("Tutti-API-Version"), "v1") << route;
  const auto& paths = openapi().at("paths").as_object();
  const auto* path = paths.if_contains(route);
  ASSERT_NE(path, nullptr) << route << " is not in openapi.json";
  const auto& responses = path->at(lower_name(method)).at("responses").as_object();
  const auto* described = responses.if_contains(std::to_string(call.status()));
  ASSERT_NE(described, nullptr) << route << ": " << call.status() << " is not in openapi.json\n"
                                << call.response->body;
  const SchemaChecker checker(openapi());
  const auto* with_body = checker.resolve(*described).as_object().if_contains("content");
  if (with_body == nullptr) {
    EXPECT_EQ(call.response->body, "") << route;
    return;
  }
  const auto& content = with_body->as_object();
  const auto type = media_type(call.header("Content-Type"));
  const auto* media = content.if_contains(type);
  ASSERT_NE(media, nullptr) << route << ": " << call.status() << " with " << type
                            << " is not in openapi.json";
  if (!type.ends_with("json")) return;
  for (const auto& error : checker.check(json::parse(call.response->body), media->at("schema")))
    ADD_FAILURE() << route << " " << call.status() << ": " << error;
}

void ApiRig::sign_in(Identity who) {
  before = [who = std::move(who)](http::Request& request) -> std::optional<http::Response> {
    request.identity = who;
    return std::nullopt;
  };
}

Identity user(std::string name, std::map<std::string, Role, std::less<>> roles) {
  Identity who;
  who.kind = Identity::Kind::user;
  who.owner = who.name = std::move(name);
  who.roles = std::move(roles);
  who.scopes = kAllScopes;
  who.credential = "test";
  return who;
}

void ApiRig::submit_many(int jobs, const std::function<void(JobSpec&, int)>& shape) {
  backend.change([&](ControlPlane& plane, Now now) {
    for (int i = 0; i < jobs; ++i) {
      auto spec = std::make_shared<JobSpec>();
      spec->name = spec->run = "x";
      if (shape) shape(*spec, i);
      EXPECT_TRUE(plane.on_submit(now, SubmitRequest{.spec = spec,
                                                     .spec_json = wire::encode_spec(*spec),
                                                     .owner = "eve",
                                                     .idempotency_key = "",
                                                     .body_hash = 0}));
    }
  });
}

JobId ApiRig::submit(std::string spec, http::Headers headers) {
  const auto answer = post("/v1/jobs", std::move(spec), std::move(headers));
  EXPECT_EQ(answer.status(), 201) << answer.response->body;
  if (answer.status() != 201) return JobId(0);
  return JobId(answer.body().at("id").as_int64());
}

}  // namespace tutti::testing
