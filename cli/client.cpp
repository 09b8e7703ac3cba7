#include "cli/client.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cmath>
#include <random>
#include <thread>
#include <utility>

namespace tutti::cli {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

bool temporary(int status) { return status == 502 || status == 503 || status == 504; }

std::string word(const json::object& object, const char* key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

Exit exit_of(int status) {
  if (status == 404 || status == 410) return Exit::not_found;
  if (status == 401 || status == 402 || status == 403 || status == 429 || status == 451) return Exit::refused;
  return temporary(status) ? Exit::unreachable : Exit::failed;
}

// The server's hints speak of HTTP; at a terminal there are shorter ways.
std::string for_terminal(std::string hint, int status) {
  if (status == 401) return "tutti login gets a token; TUTTI_TOKEN and --token-file name one";
  for (const auto& [http, verb] :
       {std::pair<std::string_view, std::string_view>{"GET /v1/jobs lists", "tutti ls -a lists"},
        {"GET /v1/nodes lists", "tutti nodes lists"}})
    if (hint.starts_with(http)) hint.replace(0, http.size(), verb);
  return hint;
}

Failure unreachable(const Connection& connection, const std::string& why) {
  const std::string where = connection.unix_socket.empty() ? connection.server : connection.unix_socket;
  if (why.find("certificate") != std::string::npos)
    return {Exit::unreachable, "cannot reach the scheduler at " + where + ": " + why,
            "--ca FILE or TUTTI_CA names the certificates to trust"};
  return {Exit::unreachable, "cannot reach the scheduler at " + where + ": " + why,
          "is it running? `tutti up` starts one here; --server or TUTTI_SERVER names another"};
}

}  // namespace

Failure failure_of(const HttpReply& reply) {
  boost::system::error_code ec;
  const json::value tree = json::parse(reply.body, ec);
  if (ec || !tree.is_object()) {
    Failure failure(exit_of(reply.status), "the server answered " + std::to_string(reply.status),
                    reply.status < 400 ? "is this the URL of a Tutti scheduler?" : "");
    return failure;
  }
  const json::object& problem = tree.get_object();
  std::string message = word(problem, "detail");
  if (message.empty()) message = word(problem, "title");
  if (message.empty()) message = "the server answered " + std::to_string(reply.status);
  const std::string summary = message;
  if (const auto* errors = problem.if_contains("errors"); errors != nullptr && errors->is_array())
    for (const auto& item : errors->get_array())
      if (const auto* error = item.if_object(); error != nullptr && word(*error, "message") != summary) {
        const std::string field = word(*error, "field");
        message += "\n  " + (field.empty() ? std::string() : field + ": ") + word(*error, "message");
        if (const std::string hint = word(*error, "hint"); !hint.empty()) message += " (" + hint + ")";
      }
  std::string hint = for_terminal(word(problem, "hint"), reply.status);
  if (message.find(hint) != std::string::npos) hint.clear();
  Failure failure(exit_of(reply.status), message, hint);
  failure.problem = problem;
  return failure;
}

milliseconds retry_pause(int tries, std::string_view retry_after, double dice) {
  const double bound = std::min(5000.0, 200.0 * std::pow(2.0, std::min(tries, 10)));
  auto pause = milliseconds(static_cast<int>(bound * dice));
  int seconds = 0;
  const auto* end = retry_after.data() + retry_after.size();
  if (std::from_chars(retry_after.data(), end, seconds).ptr == end && seconds > 0 && seconds <= 600)
    pause = std::max<milliseconds>(pause, std::chrono::seconds(seconds));
  return std::max(pause, milliseconds(20));
}

std::string percent_encode(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
        c == '_' || c == '~') {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string make_key() {
  std::random_device device;
  std::string key = "cli-";
  static constexpr char kHex[] = "0123456789abcdef";
  for (int i = 0; i < 4; ++i)
    for (std::uint32_t bits = device(), n = 0; n < 8; ++n, bits >>= 4) key += kHex[bits & 15];
  return key;
}

Client::Client(Connection connection, Patience patience, std::function<void(const std::string&)> note)
    : connection_(connection),
      patience_(patience),
      note_(std::move(note)),
      transfer_(std::move(connection)) {}

void Client::wait_before_retry(int tries, std::string_view retry_after, Clock::time_point until,
                               const std::string& why) {
  if (tries == 0) {
    const auto left = std::chrono::ceil<std::chrono::seconds>(until - Clock::now()).count();
    note_(why + "; trying again for " + std::to_string(left) + " s");
  }
  static std::minstd_rand random{std::random_device{}()};
  const double dice = static_cast<double>(random()) / static_cast<double>(std::minstd_rand::max());
  const auto left = std::chrono::ceil<milliseconds>(until - Clock::now());
  std::this_thread::sleep_for(std::min(retry_pause(tries, retry_after, dice), left));
}

namespace {

// Too many requests: worth waiting for only if the server says when, and that is soon enough.
bool comes_free_in_time(const HttpReply& reply, Clock::time_point until) {
  int seconds = 0;
  const std::string_view text = reply.header("Retry-After");
  const auto* end = text.data() + text.size();
  return reply.status == 429 && std::from_chars(text.data(), end, seconds).ptr == end && !text.empty() &&
         seconds >= 0 && Clock::now() + std::chrono::seconds(seconds) <= until;
}

std::string why_again(const Outcome& outcome) {
  if (outcome.trouble != Trouble::none) return outcome.why;
  if (outcome.reply.status == 429) return "too many requests";
  return "the scheduler is not ready (" + std::to_string(outcome.reply.status) + ")";
}

}  // namespace

bool Client::turn(const Outcome& outcome, std::size_t asked) {
  const bool answered = outcome.trouble == Trouble::none;
  const bool elsewhere = outcome.trouble == Trouble::not_sent ||
                         (answered && (outcome.reply.status == 503 || outcome.reply.status == 421));
  if (!elsewhere || asked > connection_.others.size()) return false;
  connection_.others.push_back(std::exchange(connection_.server, connection_.others.front()));
  connection_.others.erase(connection_.others.begin());
  transfer_.use(connection_.server);
  return true;
}

Outcome Client::ask(const HttpRequest& request) {
  for (std::size_t asked = 1;; ++asked) {
    Outcome outcome = transfer_.perform(request, patience_.timeout);
    if (!turn(outcome, asked)) return outcome;
  }
}

Document Client::call(const HttpRequest& request, bool repeatable) {
  const auto until = Clock::now() + patience_.retry_for;
  for (int tries = 0;; ++tries) {
    Outcome outcome = ask(request);
    const bool answered = outcome.trouble == Trouble::none;
    const int status = outcome.reply.status;
    const bool nothing_happened = outcome.trouble == Trouble::not_sent || (answered && status == 503) ||
                                  (answered && comes_free_in_time(outcome.reply, until));
    const bool lost = outcome.trouble == Trouble::uncertain || (answered && (status == 502 || status == 504));
    if ((nothing_happened || (lost && repeatable)) && Clock::now() < until) {
      wait_before_retry(tries, outcome.reply.header("Retry-After"), until, why_again(outcome));
      continue;
    }
    if (!answered) throw unreachable(connection_, outcome.why);
    if (status >= 300) throw failure_of(outcome.reply);
    Document document;
    document.text = std::move(outcome.reply.body);
    outcome.reply.body.clear();
    document.head = std::move(outcome.reply);
    boost::system::error_code ec;
    if (!document.text.empty()) document.tree = json::parse(document.text, ec);
    if (ec)
      throw Failure(Exit::failed, "the server's answer is not JSON: " + ec.message(),
                    "is " + connection_.server + " a Tutti scheduler?");
    return document;
  }
}

Document Client::get(const std::string& path) {
  const HttpRequest request{.method = "GET", .path = path, .headers = {}, .body = {}};
  return call(request, true);
}

Document Client::send(const char* method, const std::string& path, const json::value& body, Headers headers,
                      bool repeatable) {
  headers.emplace_back("Content-Type", "application/json");
  const HttpRequest request{
      .method = method, .path = path, .headers = std::move(headers), .body = json::serialize(body)};
  return call(request, repeatable);
}

Document Client::post(const std::string& path, const json::value& body, Headers headers) {
  return send("POST", path, body, std::move(headers), false);
}

Document Client::put(const std::string& path, const json::value& body) {
  return send("PUT", path, body, {}, true);
}

Document Client::patch(const std::string& path, const json::value& body, Headers headers) {
  return send("PATCH", path, body, std::move(headers), false);
}

Document Client::remove(const std::string& path) {
  return call(HttpRequest{.method = "DELETE", .path = path, .headers = {}, .body = {}}, false);
}

Document Client::post_text(const std::string& path, std::string body, const std::string& content_type) {
  const HttpRequest request{
      .method = "POST", .path = path, .headers = {{"Content-Type", content_type}}, .body = std::move(body)};
  return call(request, true);
}

Document Client::submit(std::string body, const std::string& content_type, const std::string& key) {
  const HttpRequest request{.method = "POST",
                            .path = "/v1/jobs",
                            .headers = {{"Content-Type", content_type}, {"Idempotency-Key", key}},
                            .body = std::move(body)};
  return call(request, true);
}

Outcome Client::try_get(const std::string& path) {
  return ask({.method = "GET", .path = path, .headers = {}, .body = {}});
}

std::unique_ptr<HttpStream> Client::try_stream(const std::string& path, Headers headers) {
  const HttpRequest request{.method = "GET", .path = path, .headers = std::move(headers), .body = {}};
  for (std::size_t asked = 1;; ++asked) {
    auto stream = std::make_unique<HttpStream>(connection_, request, patience_.timeout);
    if (!turn(stream->opened(), asked)) return stream;
  }
}

std::unique_ptr<HttpStream> Client::stream(const std::string& path, Headers headers) {
  const auto until = Clock::now() + patience_.retry_for;
  for (int tries = 0;; ++tries) {
    auto stream = try_stream(path, headers);
    const Outcome& opened = stream->opened();
    const bool answered = opened.trouble == Trouble::none;
    if (answered && opened.reply.status < 300) return stream;
    if ((answered && !temporary(opened.reply.status)) || opened.trouble == Trouble::hopeless ||
        Clock::now() >= until) {
      if (answered) throw failure_of(opened.reply);
      throw unreachable(connection_, opened.why);
    }
    wait_before_retry(tries, opened.reply.header("Retry-After"), until,
                      answered ? "the scheduler is not ready" : opened.why);
  }
}

}  // namespace tutti::cli
