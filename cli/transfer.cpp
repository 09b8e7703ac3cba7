#include "cli/transfer.h"

#include <curl/curl.h>
#include <strings.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace tutti::cli {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr long kConnectTimeoutMs = 5000;

struct EasyDeleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct MultiDeleter {
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Easy = std::unique_ptr<CURL, EasyDeleter>;
using List = std::unique_ptr<curl_slist, ListDeleter>;

Easy make_easy() {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  Easy easy(ready == CURLE_OK ? curl_easy_init() : nullptr);
  if (!easy) throw std::runtime_error("libcurl cannot start");
  return easy;
}

// A proxy of the environment is honoured, but never for this machine itself.
std::string no_proxy() {
  std::string hosts = "localhost,127.0.0.1,::1";
  for (const char* name : {"no_proxy", "NO_PROXY"})
    if (const char* more = std::getenv(name); more != nullptr && *more != '\0') return hosts + "," + more;
  return hosts;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* into) {
  auto& reply = *static_cast<HttpReply*>(into);
  const std::string_view line(data, size * count);
  if (line.starts_with("HTTP/")) {  // of a redirect or 100-continue before: forget what it said
    reply.headers.clear();
    const auto space = line.find(' ');
    reply.status = space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space)).c_str());
  } else if (const auto colon = line.find(':'); colon != std::string_view::npos) {
    const auto from = line.find_first_not_of(" \t", colon + 1);
    const auto to = line.find_last_not_of(" \t\r\n");
    reply.headers.emplace_back(line.substr(0, colon), from == std::string_view::npos || to < from
                                                          ? std::string_view()
                                                          : line.substr(from, to - from + 1));
  }
  return line.size();
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* into) {
  auto& body = *static_cast<std::string*>(into);
  if (body.size() + size * count > kMaxAnswer) return 0;
  body.append(data, size * count);
  return size * count;
}

// Everything but what to do with the body. `list` has to outlive the transfer.
void prepare(CURL* easy, const Connection& connection, const HttpRequest& request, List& list,
             HttpReply& reply) {
  curl_easy_reset(easy);
  const std::string url = connection.server + request.path;
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  if (!connection.unix_socket.empty())
    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, connection.unix_socket.c_str());
  curl_easy_setopt(easy, CURLOPT_NOPROXY, no_proxy().c_str());
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeoutMs);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 15L);
  curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 5L);
  if (!connection.ca.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, connection.ca.c_str());
  const auto add = [&](const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    (void)list.release();
    list.reset(longer);
  };
  if (!connection.token.empty()) add("Authorization: Bearer " + connection.token);
  add("Expect:");  // no round trip for a body of some kilobytes
  for (const auto& [name, value] : request.headers) add(name + ": " + value);
  if (request.method != "GET") {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request.body.data());
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list.get());
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &reply);
}

Trouble judge(CURL* easy, CURLcode code) {
  if (code == CURLE_OK) return Trouble::none;
  if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
      code == CURLE_COULDNT_RESOLVE_PROXY)
    return Trouble::not_sent;
  if (code == CURLE_OPERATION_TIMEDOUT) {
    curl_off_t connected = 0;
    curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected);
    return connected == 0 ? Trouble::not_sent : Trouble::uncertain;
  }
  if (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
      code == CURLE_PARTIAL_FILE || code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM)
    return Trouble::uncertain;
  return Trouble::hopeless;
}

std::string explain(CURLcode code, const char* details) {
  return details[0] != '\0' ? details : curl_easy_strerror(code);
}

}  // namespace

std::string_view HttpReply::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key.size() == name.size() && strncasecmp(key.data(), name.data(), name.size()) == 0) return value;
  return {};
}

struct Transfer::State {
  Connection connection;
  Easy easy = make_easy();  // keeps its connection between requests
};

Transfer::Transfer(Connection connection) : state_(new State{.connection = std::move(connection)}) {}
Transfer::~Transfer() = default;
void Transfer::use(const std::string& server) { state_->connection.server = server; }

Outcome Transfer::perform(const HttpRequest& request, milliseconds timeout) {
  Outcome outcome;
  CURL* easy = state_->easy.get();
  List list;
  char details[CURL_ERROR_SIZE] = {};
  prepare(easy, state_->connection, request, list, outcome.reply);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, details);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &outcome.reply.body);
  const CURLcode code = curl_easy_perform(easy);
  outcome.trouble = judge(easy, code);
  if (outcome.trouble != Trouble::none) outcome.why = explain(code, details);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, nullptr);
  return outcome;
}

struct HttpStream::State {
  Outcome outcome;
  std::string unread;
  bool head_done = false;
  bool over = false;
  bool paused = false;
  CURLcode result = CURLE_OK;
  char details[CURL_ERROR_SIZE] = {};
  List list;
  Easy easy = make_easy();
  std::unique_ptr<CURLM, MultiDeleter> multi{curl_multi_init()};

  ~State() { curl_multi_remove_handle(multi.get(), easy.get()); }

  static std::size_t header(char* data, std::size_t size, std::size_t count, void* into) {
    auto& self = *static_cast<State*>(into);
    const std::size_t taken = on_header(data, size, count, &self.outcome.reply);
    if (std::string_view(data, size * count) == "\r\n" && self.outcome.reply.status >= 200)
      self.head_done = true;
    return taken;
  }
  static std::size_t body(char* data, std::size_t size, std::size_t count, void* into) {
    auto& self = *static_cast<State*>(into);
    if (self.unread.size() >= kMaxUnread) {
      self.paused = true;
      return CURL_WRITEFUNC_PAUSE;
    }
    self.unread.append(data, size * count);
    return size * count;
  }

  // Lets curl work until `done` or the deadline. False: the deadline came first.
  template <class Done>
  bool drive(Clock::time_point until, Done done) {
    while (true) {
      int running = 0;
      if (curl_multi_perform(multi.get(), &running) != CURLM_OK) {
        over = true;
        result = CURLE_RECV_ERROR;
      }
      int left = 0;
      while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        over = true;
        result = message->data.result;
      }
      if (over || done()) return true;
      const auto wait = std::chrono::ceil<milliseconds>(until - Clock::now());
      if (wait.count() <= 0) return false;
      curl_multi_poll(multi.get(), nullptr, 0, static_cast<int>(std::min<long long>(wait.count(), 60'000)),
                      nullptr);
    }
  }
};

HttpStream::HttpStream(const Connection& connection, const HttpRequest& request, milliseconds timeout)
    : state_(new State) {
  State& s = *state_;
  CURL* easy = s.easy.get();
  prepare(easy, connection, request, s.list, s.outcome.reply);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, s.details);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, State::header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &s);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, State::body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &s);
  curl_multi_add_handle(s.multi.get(), easy);
  const auto until = Clock::now() + timeout;
  const bool in_time = s.drive(until, [&] { return s.head_done; });
  if (!s.head_done) {
    s.outcome.trouble = s.over ? judge(easy, s.result) : Trouble::uncertain;
    if (s.outcome.trouble == Trouble::none) s.outcome.trouble = Trouble::uncertain;
    s.outcome.why = in_time ? explain(s.result, s.details) : "no answer in time";
    s.over = true;
  } else if (s.outcome.reply.status >= 300) {
    s.drive(until, [&] { return s.paused; });
    s.outcome.reply.body = std::move(s.unread);
    s.over = true;
  }
}
HttpStream::~HttpStream() = default;

const Outcome& HttpStream::opened() const { return state_->outcome; }

HttpStream::Read HttpStream::read(std::string& into, milliseconds at_most) {
  State& s = *state_;
  if (s.unread.empty() && s.paused) {
    s.paused = false;
    curl_easy_pause(s.easy.get(), CURLPAUSE_CONT);
  }
  const bool in_time =
      !s.unread.empty() || s.over || s.drive(Clock::now() + at_most, [&] { return !s.unread.empty(); });
  if (!s.unread.empty()) {
    into += s.unread;
    s.unread.clear();
    return Read::data;
  }
  if (!in_time) return Read::quiet;
  return s.result == CURLE_OK ? Read::end : Read::broken;
}

}  // namespace tutti::cli
