#include "scheduler/service/leader_proxy.h"

#include <curl/curl.h>

#include <algorithm>
#include <any>
#include <array>
#include <atomic>
#include <charconv>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "api/access/identity.h"
#include "api/http/address.h"

namespace tutti {
namespace {

constexpr long kConnectMs = 2000;
constexpr long kKeepIdle = 10, kKeepEvery = 5;  // seconds; TCP asks whether the leader's machine is there
constexpr std::size_t kWhole = 1 << 20;         // answers up to this are sent whole
constexpr std::size_t kUnread = 256 << 10;      // of a stream, before the leader is made to wait
constexpr std::size_t kStreamBuffer = 1 << 20;
constexpr int kTurnMs = 1000;  // the loop looks around so often by itself

std::chrono::seconds wall_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
}

// Whom one of many requests comes from: a user, or the address of somebody whom we do not know.
struct Caller {
  std::string name;
  bool known = false;
};
Caller caller_of(const http::Request& request) {
  const auto* who = std::any_cast<Identity>(&request.identity);
  if (who != nullptr && who->kind != Identity::Kind::nobody) return {"user " + who->name, true};
  return {"from " + http::address_group(request.peer), false};
}

http::Response nobody_leads(const std::string& why) {
  return http::problem(503, "no_leader", why + "; nothing has happened", "try again in a second")
      .set("Retry-After", "1");
}

http::Response lost(const std::string& why) {
  return http::problem(502, "leader_lost",
                       "the connection to the leader was lost, it is not known whether this happened: " + why,
                       "repeat it under the same Idempotency-Key, or look first");
}

constexpr auto kNotSent =
    std::to_array<CURLcode>({CURLE_COULDNT_CONNECT, CURLE_COULDNT_RESOLVE_HOST, CURLE_SSL_CONNECT_ERROR,
                             CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_URL_MALFORMAT,
                             CURLE_UNSUPPORTED_PROTOCOL});

// The leader cannot have seen the request.
bool was_not_sent(CURL* easy, CURLcode code) {
  if (std::ranges::find(kNotSent, code) != kNotSent.end()) return true;
  curl_off_t ready = 0;  // after the handshake, before the first byte of the request
  curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
  return code == CURLE_OPERATION_TIMEDOUT && ready == 0;
}

bool is_read(http::Method method) { return method == http::Method::get || method == http::Method::head; }

}  // namespace

// ---------------------------------------------------------------- the thread

class LeaderProxy::Engine {
 public:
  explicit Engine(LeaderProxySettings settings) : settings_(std::move(settings)) {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_ = ready == CURLE_OK ? curl_multi_init() : nullptr;
    if (multi_ == nullptr) throw std::runtime_error("libcurl cannot start");
    wakeup_ = std::make_shared<Wakeup>();
    wakeup_->multi = multi_;
    thread_ = std::thread([this] { run(); });
  }
  ~Engine() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wakeup_->ring();
    thread_.join();
    {
      std::lock_guard lock(wakeup_->mutex);
      wakeup_->multi = nullptr;  // streams that outlive us ring nowhere
    }
    curl_multi_cleanup(multi_);
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  struct Order {
    http::Request request;
    http::Responder responder;
    std::string url, mark;
    Caller caller;
  };

  /// What goes elsewhere than to `but`.
  void give_up(std::string but) {
    {
      std::lock_guard lock(mutex_);
      give_up_but_ = std::move(but);
    }
    wakeup_->ring();
  }

  /// Nothing: it is under way. Else the order comes back: too many are.
  std::optional<Order> take(Order order) {
    {
      std::lock_guard lock(mutex_);
      std::size_t& its = of_caller_[order.caller.name];
      const bool full = held_ >= settings_.at_once || its >= settings_.of_a_caller ||
                        (!order.caller.known && held_by_strangers_ >= settings_.strangers);
      if (full) {
        if (its == 0) of_caller_.erase(order.caller.name);
        return order;
      }
      ++its;
      ++held_;
      held_by_strangers_ += order.caller.known ? 0 : 1;
      waiting_.push_back(std::move(order));
    }
    wakeup_->ring();
    return std::nullopt;
  }

 private:
  // What the sessions' threads may touch of us, also when we are gone.
  struct Wakeup {
    std::mutex mutex;
    CURLM* multi = nullptr;
    void ring() {
      std::lock_guard lock(mutex);
      if (multi != nullptr) curl_multi_wakeup(multi);
    }
  };
  struct Flow {  // shared with the stream's callbacks
    std::atomic<bool> drained{false};
    std::atomic<bool> closed{false};
  };
  struct Transfer {
    Order order;
    CURL* easy = nullptr;
    curl_slist* headers = nullptr;
    int status = 0;  // of the answer, as its head
    http::Headers head;
    std::string body;  // while it may be sent whole
    std::shared_ptr<http::Stream> stream;
    std::shared_ptr<Flow> flow = std::make_shared<Flow>();
    std::shared_ptr<Wakeup> wakeup;
    std::size_t unread = 0;
    bool paused = false;
    bool one_too_many = false;  // it would be a stream, of which there are enough
    Engine* engine;
    char error[CURL_ERROR_SIZE] = "";

    Transfer(Order o, std::shared_ptr<Wakeup> w, Engine& e)
        : order(std::move(o)), wakeup(std::move(w)), engine(&e) {}
    ~Transfer() {
      curl_slist_free_all(headers);
      curl_easy_cleanup(easy);
    }
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;

    void add(const std::string& line) { headers = curl_slist_append(headers, line.c_str()); }
  };

  void run() {
    for (;;) {
      std::deque<Order> fresh;
      std::optional<std::string> give_up_but;
      {
        std::lock_guard lock(mutex_);
        if (stopping_) break;
        give_up_but = std::exchange(give_up_but_, std::nullopt);
        fresh = std::exchange(waiting_, {});
      }
      for (auto& order : fresh) begin(std::move(order));
      int running = 0;
      curl_multi_perform(multi_, &running);
      int left = 0;
      bool ended = false;
      while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        ended = true;
        end(message->easy_handle, message->data.result);
      }
      tend_streams();
      if (give_up_but) end_all_but(*give_up_but);
      if (!ended) curl_multi_poll(multi_, nullptr, 0, kTurnMs, nullptr);
    }
    for (auto& [easy, transfer] : transfers_) {
      curl_multi_remove_handle(multi_, easy);
      if (transfer->stream) transfer->stream->abort();
    }
    transfers_.clear();
  }

  void end_all_but(const std::string& url) {
    std::vector<CURL*> elsewhere;
    for (const auto& [easy, transfer] : transfers_)
      if (transfer->order.url != url) elsewhere.push_back(easy);
    for (CURL* easy : elsewhere) end(easy, CURLE_ABORTED_BY_CALLBACK);
  }

  // Those whose client has gone are ended, those whose client has read go on.
  void tend_streams() {
    std::vector<CURL*> gone, ready;
    for (auto& [easy, transfer] : transfers_) {
      if (!transfer->stream) continue;
      if (transfer->flow->closed)
        gone.push_back(easy);
      else if (transfer->paused && transfer->flow->drained.exchange(false))
        ready.push_back(easy);
    }
    for (CURL* easy : gone) forget(easy);
    for (CURL* easy : ready) {
      Transfer& transfer = *transfers_.at(easy);
      transfer.paused = false;
      transfer.unread = 0;
      curl_easy_pause(easy, CURLPAUSE_CONT);  // may call on_body at once
    }
  }

  void forget(CURL* easy) {
    curl_multi_remove_handle(multi_, easy);
    const auto found = transfers_.find(easy);
    const Caller caller = std::move(found->second->order.caller);
    if (found->second->stream) --streams_;
    transfers_.erase(found);
    free_place(caller);
  }

  void free_place(const Caller& caller) {
    std::lock_guard lock(mutex_);
    --held_;
    held_by_strangers_ -= caller.known ? 0 : 1;
    const auto its = of_caller_.find(caller.name);
    if (--its->second == 0) of_caller_.erase(its);
  }

  static std::size_t on_head(char* data, std::size_t size, std::size_t count, void* to) {
    auto& transfer = *static_cast<Transfer*>(to);
    std::string_view line(data, size * count);
    if (line.starts_with("HTTP/")) {  // another head follows a 1xx
      transfer.head.clear();
      return size * count;
    }
    while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() && !transfer.engine->take_head(transfer)) return 0;
    if (const auto colon = line.find(':'); colon != std::string_view::npos) {
      auto value = line.substr(colon + 1);
      while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
      transfer.head.push_back({std::string(line.substr(0, colon)), std::string(value)});
    }
    return size * count;
  }

  static bool is_short(const Transfer& transfer) {
    const std::string* length = http::find_header(transfer.head, "Content-Length");
    std::size_t bytes = 0;
    return length != nullptr &&
           std::from_chars(length->data(), length->data() + length->size(), bytes).ec == std::errc{} &&
           bytes <= kWhole;
  }

  // Of an answer that may take its time the head is passed on at once: its reader waits for that. False: it
  // is a stream too many. A write's answer always comes: it has happened.
  bool take_head(Transfer& transfer) {
    long status = 0;
    curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200) return true;
    transfer.status = static_cast<int>(status);
    const bool bare = status == 204 || status == 304 || transfer.order.request.method == http::Method::head;
    if (bare || transfer.stream || is_short(transfer)) return true;
    transfer.one_too_many = streams_ >= settings_.streams && is_read(transfer.order.request.method);
    if (transfer.one_too_many) return false;
    ++streams_;
    open_stream(transfer);
    return true;
  }

  static void open_stream(Transfer& transfer) {
    http::StreamOptions options;
    options.max_buffer = kStreamBuffer;
    transfer.stream = transfer.order.responder.stream(
        transfer.status, headers_from_leader(transfer.head, transfer.status), options);
    transfer.stream->set_on_close([flow = transfer.flow, wakeup = transfer.wakeup] {
      flow->closed = true;
      wakeup->ring();
    });
  }

  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* to) {
    auto& transfer = *static_cast<Transfer*>(to);
    const std::size_t n = size * count;
    if (!transfer.stream) {
      transfer.body.append(data, n);
      return transfer.body.size() <= kWhole ? n : 0;  // more than it said
    }
    if (transfer.unread >= kUnread) {
      transfer.paused = true;
      transfer.stream->when_drained([flow = transfer.flow, wakeup = transfer.wakeup] {
        flow->drained = true;
        wakeup->ring();
      });
      return CURL_WRITEFUNC_PAUSE;
    }
    transfer.unread += n;
    return transfer.stream->write(std::string(data, n)) ? n : 0;
  }

  void begin(Order order) {
    auto made = std::make_unique<Transfer>(std::move(order), wakeup_, *this);
    made->easy = curl_easy_init();
    if (made->easy == nullptr) {
      free_place(made->order.caller);
      return made->order.responder.respond(nobody_leads("libcurl cannot begin"));
    }
    Transfer& transfer = *made;
    CURL* easy = transfer.easy;
    const http::Request& request = transfer.order.request;
    for (const auto& [name, value] : headers_to_leader(request))
      transfer.add(value.empty() ? name + ";" : name + ": " + value);
    transfer.add(std::string(ForwardMark::kHeader) + ": " + transfer.order.mark);
    transfer.add("Expect:");                                              // no wait for 100
    for (const char* unasked : {"Accept", "User-Agent", "Content-Type"})  // curl would say its own
      if (!request.header(unasked)) transfer.add(std::string(unasked) + ":");
    const std::string url = transfer.order.url + request.target;
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");  // schedulers reach each other directly
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, kConnectMs);
    // A log that is followed may say nothing for hours: whether the leader is there TCP knows, and whether it
    // is frozen look().
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, kKeepIdle);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, kKeepEvery);
    if (request.method == http::Method::head) curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (!is_read(request.method)) {
      curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
      curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings_.silence.count()));
      curl_easy_setopt(easy, CURLOPT_POST, 1L);
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
      const std::string method(http::to_string(request.method));
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method.c_str());
      // On a kept connection that breaks curl would send it again by itself.
      curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
      curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.headers);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Engine::on_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Engine::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.error);
    if (!settings_.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, settings_.ca_file.c_str());
    curl_multi_add_handle(multi_, easy);
    transfers_.emplace(easy, std::move(made));
  }

  void end(CURL* easy, CURLcode code) {
    const auto found = transfers_.find(easy);
    if (found == transfers_.end()) return;
    Transfer& transfer = *found->second;
    // What libcurl says names the leader's address.
    const std::string why = code == CURLE_ABORTED_BY_CALLBACK ? "another scheduler leads now"
                            : transfer.order.caller.known && transfer.error[0] != '\0'
                                ? transfer.error
                                : curl_easy_strerror(code);
    if (transfer.stream) {
      if (code == CURLE_OK)
        transfer.stream->close();
      else
        transfer.stream->abort();  // so that its reader can tell that from an end
      return forget(easy);
    }
    http::Response answer;
    if (transfer.one_too_many)
      answer = nobody_leads("too many streams come from the leader already");
    else if (code == CURLE_OK)
      answer = {transfer.status, headers_from_leader(transfer.head, transfer.status),
                std::move(transfer.body)};
    else if (was_not_sent(easy, code))
      answer = nobody_leads("the leader cannot be reached: " + why);
    else
      answer = lost(why);
    http::Responder responder = std::move(transfer.order.responder);
    forget(easy);  // first: whoever hears the answer finds the place free
    responder.respond(std::move(answer));
  }

  LeaderProxySettings settings_;
  CURLM* multi_ = nullptr;
  std::shared_ptr<Wakeup> wakeup_;
  std::mutex mutex_;
  std::deque<Order> waiting_;  // under the mutex, as the next five
  std::size_t held_ = 0, held_by_strangers_ = 0;
  std::unordered_map<std::string, std::size_t> of_caller_;  // places that each one holds
  bool stopping_ = false;
  std::optional<std::string> give_up_but_;
  std::map<CURL*, std::unique_ptr<Transfer>> transfers_;  // the thread's own, as the next one
  std::size_t streams_ = 0;
  std::thread thread_;
};

// ---------------------------------------------------------------- the control thread

LeaderProxy::LeaderProxy(std::function<Leading()> leading, ForwardMark mark, LeaderProxySettings settings)
    : leading_(std::move(leading)),
      mark_(std::move(mark)),
      engine_(std::make_unique<Engine>(std::move(settings))) {}
LeaderProxy::~LeaderProxy() = default;

void LeaderProxy::forward(http::Request request, http::Responder responder) {
  if (request.header(ForwardMark::kHeader))
    return responder.respond(nobody_leads("another scheduler took this one for the leader, which it is not"));
  const Leading leading = leading_();
  Caller caller = caller_of(request);
  if (leading.url.empty())
    return responder.respond(
        nobody_leads(leading.holder.empty() ? "no scheduler leads at the moment"
                     : caller.known         ? leading.holder + " leads, and does not say where it is reached"
                                            : "the scheduler that leads does not say where it is reached"));
  if (http::wants_websocket(request.headers) && !caller.known)
    return responder.respond(http::problem(401, "unauthenticated", "this scheduler does not know who asks",
                                           "sign in; a new token is known here after a second")
                                 .set("WWW-Authenticate", "Bearer"));
  if (http::wants_websocket(request.headers))
    return responder.respond(http::problem(421, "not_leader",
                                           "this scheduler is a standby, " + leading.holder + " leads",
                                           "ask " + leading.url, {{"leader", leading.url}}));
  if (!sent_to_.empty() && sent_to_ != leading.url) engine_->give_up(leading.url);
  sent_to_ = leading.url;
  std::string mark = mark_.make({request.peer, http::to_string(request.method), request.target}, wall_now());
  Engine::Order order{std::move(request), std::move(responder), leading.url, std::move(mark),
                      std::move(caller)};
  if (auto refused = engine_->take(std::move(order)))
    refused->responder.respond(
        nobody_leads("too many requests are on their way to the leader, of this caller or of all"));
}

void LeaderProxy::look() {
  if (sent_to_.empty()) return;
  const Leading now = leading_();
  if (!now.ours && (now.url == sent_to_ || now.url.empty())) return;
  sent_to_.clear();
  engine_->give_up(now.ours ? "" : now.url);
}

BeforeHook seen_from_client(BeforeHook inner, ForwardMark mark) {
  return [inner = std::move(inner), mark = std::move(mark)](http::Request& request) {
    if (const auto said = request.header(ForwardMark::kHeader))
      if (auto peer = mark.peer_of(*said, http::to_string(request.method), request.target, wall_now()))
        request.peer = *std::move(peer);
    return inner ? inner(request) : std::nullopt;
  };
}

}  // namespace tutti
