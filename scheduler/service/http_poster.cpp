#include "scheduler/service/http_poster.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <charconv>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "api/wire/utf8.h"

namespace tutti {
namespace {

constexpr std::size_t kExcerpt = 200;        // of an answer, for people
constexpr std::size_t kKept = kExcerpt + 4;  // so that the cut finds the end of a character
constexpr std::size_t kMostRead = 64 << 10;  // of an answer; then it is cut off
constexpr Duration kConnect = std::chrono::seconds(5);
constexpr int kTurnMs = 1000;  // the loop looks around so often by itself

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

Error bad_destination(const std::string& entry) {
  return {.code = Errc::invalid_argument,
          .message = "'" + entry + "' is neither a network nor a host",
          .hint = "like 10.0.0.0/8, fd00::/8, 192.0.2.7, hooks.example.com or .example.com",
          .field = ""};
}

std::string text_of(const sockaddr& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.sa_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
  if (address.sa_family == AF_INET6)
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, text, sizeof text);
  return text;
}

constexpr std::array<unsigned char, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

// This machine itself, link-local, multicast, "any", and where clouds keep credentials: nobody's webhook,
// also not in the disguise of an IPv6 address that a gateway takes apart.
bool is_odd_v4(const unsigned char* a) {
  return a[0] == 127 || (a[0] == 169 && a[1] == 254) || a[0] == 0 || a[0] >= 224 ||
         (a[0] == 100 && a[1] == 100 && a[2] == 100 && a[3] == 200);
}

constexpr std::array<unsigned char, 12> kNat64 = {0x00, 0x64, 0xFF, 0x9B};
constexpr std::array<unsigned char, 12> kCompatible = {};
constexpr std::array<unsigned char, 16> kMetadata = {0xFD, 0, 0x0E, 0xC2, 0, 0, 0, 0,
                                                     0,    0, 0,    0,    0, 0, 2, 0x54};  // fd00:ec2::254

bool is_odd(const std::array<unsigned char, 16>& a) {
  // Of ::/96 "any" (::) and this machine (::1) are 0.0.0.0 and 0.0.0.1.
  for (const auto& prefix : {kMapped, kNat64, kCompatible})
    if (std::equal(prefix.begin(), prefix.end(), a.begin())) return is_odd_v4(a.data() + 12);
  return a == kMetadata || a[0] == 0xFF || (a[0] == 0xFE && (a[1] & 0xC0) == 0x80);
}

}  // namespace

// ---------------------------------------------------------------- where to

std::optional<Destinations::Network> Destinations::parse_network(std::string_view text) {
  const auto slash = text.find('/');
  const std::string address(text.substr(0, slash));
  Network out;
  in_addr v4{};
  const bool is_v4 = inet_pton(AF_INET, address.c_str(), &v4) == 1;
  if (is_v4) {
    std::copy(kMapped.begin(), kMapped.end(), out.prefix.begin());
    std::memcpy(out.prefix.data() + 12, &v4, 4);
  } else if (inet_pton(AF_INET6, address.c_str(), out.prefix.data()) != 1) {
    return std::nullopt;
  }
  const int most = is_v4 ? 32 : 128;
  int bits = most;
  if (slash != std::string_view::npos) {
    const auto digits = text.substr(slash + 1);
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    if (code != std::errc{} || end != digits.data() + digits.size() || bits < 0 || bits > most)
      return std::nullopt;
  }
  out.bits = is_v4 ? bits + 96 : bits;
  return out;
}

Result<Destinations> Destinations::parse(const std::vector<std::string>& list) {
  Destinations out;
  for (const auto& entry : list) {
    if (const auto network = parse_network(entry)) {
      out.networks_.push_back(*network);
      continue;
    }
    const bool name = !entry.empty() && entry.size() <= 253 && std::ranges::all_of(entry, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
             c == '.' || c == '_';
    });
    // What looks like an address and is none would never match a host.
    const bool letters =
        std::ranges::any_of(entry, [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; });
    if (!name || !letters) return bad_destination(entry);
    out.hosts_.push_back(lower(entry));
  }
  return out;
}

bool Destinations::allows_host(std::string_view host) const {
  const std::string name = lower(host);
  return std::ranges::any_of(hosts_, [&](const std::string& allowed) {
    return allowed.front() == '.' ? name.ends_with(allowed) : name == allowed;
  });
}

std::optional<std::array<unsigned char, 16>> Destinations::bytes_of(const sockaddr& address) {
  std::array<unsigned char, 16> out{};
  if (address.sa_family == AF_INET) {
    std::copy(kMapped.begin(), kMapped.end(), out.begin());
    std::memcpy(out.data() + 12, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
    return out;
  }
  if (address.sa_family != AF_INET6) return std::nullopt;
  std::memcpy(out.data(), &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, 16);
  return out;
}

bool Destinations::allows(const sockaddr& address) const {
  const auto bytes = bytes_of(address);
  if (!bytes) return false;
  if (networks_.empty() && hosts_.empty()) return !is_odd(*bytes);
  return std::ranges::any_of(networks_, [&](const Network& network) {
    for (int bit = 0; bit < network.bits; ++bit) {
      const auto at = static_cast<std::size_t>(bit / 8);
      const int mask = 0x80 >> (bit % 8);
      if (((network.prefix[at] ^ (*bytes)[at]) & mask) != 0) return false;
    }
    return true;
  });
}

// ---------------------------------------------------------------- the thread

class CurlPoster::Engine {
 public:
  Engine(boost::asio::any_io_executor control, Settings settings)
      : control_(std::move(control)), settings_(std::move(settings)) {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_ = ready == CURLE_OK ? curl_multi_init() : nullptr;
    if (multi_ == nullptr) throw std::runtime_error("libcurl cannot start");
    thread_ = std::thread([this] { run(); });
  }
  ~Engine() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    curl_multi_wakeup(multi_);
    thread_.join();
    curl_multi_cleanup(multi_);
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void post(HttpPost post, std::function<void(HttpPostAnswer)> done) {
    {
      std::lock_guard lock(mutex_);
      if (waiting_.size() < settings_.most_waiting) {
        waiting_.push_back({std::move(post), std::move(done)});
        curl_multi_wakeup(multi_);
        return;
      }
    }
    answer(std::move(done),
           {.status = 0, .error = "too many messages wait to be sent", .took = {}, .retry_after = {}});
  }

 private:
  struct Order {
    HttpPost post;
    std::function<void(HttpPostAnswer)> done;
  };
  struct Transfer {
    Order order;
    const Destinations* destinations = nullptr;
    bool host_allowed = false;
    CURL* easy = nullptr;
    curl_slist* headers = nullptr;
    std::string excerpt;
    std::size_t read = 0;
    std::string refused;  // why no socket was opened
    char error[CURL_ERROR_SIZE] = "";

    ~Transfer() {
      curl_slist_free_all(headers);
      curl_easy_cleanup(easy);
    }
  };

  void answer(std::function<void(HttpPostAnswer)> done, HttpPostAnswer answer) {
    boost::asio::post(control_, [done = std::move(done), answer = std::move(answer)] { done(answer); });
  }

  void run() {
    for (;;) {
      std::deque<Order> fresh;
      {
        std::lock_guard lock(mutex_);
        if (stopping_) break;
        while (!waiting_.empty() &&
               transfers_.size() + fresh.size() < static_cast<std::size_t>(settings_.at_once)) {
          fresh.push_back(std::move(waiting_.front()));
          waiting_.pop_front();
        }
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
      if (!ended) curl_multi_poll(multi_, nullptr, 0, kTurnMs, nullptr);
    }
    for (auto& [easy, transfer] : transfers_) curl_multi_remove_handle(multi_, easy);
    transfers_.clear();
  }

  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* to) {
    auto& transfer = *static_cast<Transfer*>(to);
    const std::size_t n = size * count;
    transfer.read += n;
    transfer.excerpt.append(data, std::min(n, kKept - std::min(kKept, transfer.excerpt.size())));
    return transfer.read > kMostRead ? 0 : n;  // 0 ends the transfer
  }

  static curl_socket_t on_socket(void* of, curlsocktype, curl_sockaddr* address) {
    auto& transfer = *static_cast<Transfer*>(of);
    if (!transfer.host_allowed && !transfer.destinations->allows(address->addr)) {
      transfer.refused = "address " + text_of(address->addr) + " is not allowed (--webhook-allow)";
      return CURL_SOCKET_BAD;
    }
    return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }

  void begin(Order order) {
    auto transfer = std::make_unique<Transfer>();
    transfer->order = std::move(order);
    transfer->destinations = &settings_.destinations;
    transfer->host_allowed = settings_.destinations.allows_host(host_of(transfer->order.post.url));
    transfer->easy = curl_easy_init();
    if (transfer->easy == nullptr)
      return answer(std::move(transfer->order.done),
                    {.status = 0, .error = "libcurl cannot begin", .took = {}, .retry_after = {}});
    CURL* easy = transfer->easy;
    const HttpPost& post = transfer->order.post;
    for (const auto& [name, value] : post.headers)
      transfer->headers = curl_slist_append(transfer->headers, (name + ": " + value).c_str());
    transfer->headers = curl_slist_append(transfer->headers, "Expect:");  // no wait for 100
    const auto ms = [](Duration d) {
      return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(d).count());
    };
    curl_easy_setopt(easy, CURLOPT_URL, post.url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");  // directly: a proxy would connect to addresses we do not see
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, std::max(1L, ms(post.deadline)));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, std::max(1L, ms(std::min(kConnect, post.deadline))));
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, post.body.data());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(post.body.size()));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Engine::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer.get());
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &Engine::on_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer.get());
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    if (!settings_.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, settings_.ca_file.c_str());
    curl_multi_add_handle(multi_, easy);
    transfers_.emplace(easy, std::move(transfer));
  }

  void end(CURL* easy, CURLcode code) {
    const auto found = transfers_.find(easy);
    if (found == transfers_.end()) return;
    Transfer& transfer = *found->second;
    HttpPostAnswer out;
    long status = 0;
    curl_off_t took = 0, retry_after = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &took);
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after);
    out.took = Duration(took);
    const bool cut = code == CURLE_WRITE_ERROR && transfer.read > kMostRead;  // it said enough
    if (code == CURLE_OK || cut) {
      out.status = static_cast<int>(status);
      out.error = wire::to_utf8(wire::utf8_prefix(transfer.excerpt, kExcerpt));
      if (retry_after > 0) out.retry_after = std::chrono::seconds(retry_after);
    } else if (!transfer.refused.empty()) {
      out.error = transfer.refused;
    } else {
      out.error = wire::to_utf8(transfer.error[0] != '\0' ? transfer.error : curl_easy_strerror(code));
    }
    auto done = std::move(transfer.order.done);
    curl_multi_remove_handle(multi_, easy);
    transfers_.erase(found);
    answer(std::move(done), std::move(out));
  }

  static std::string host_of(const std::string& url) {
    CURLU* parts = curl_url();
    char* host = nullptr;
    std::string out;
    if (parts != nullptr && curl_url_set(parts, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK)
      out = host;
    curl_free(host);
    curl_url_cleanup(parts);
    return out;
  }

  boost::asio::any_io_executor control_;
  Settings settings_;
  CURLM* multi_ = nullptr;
  std::mutex mutex_;
  std::deque<Order> waiting_;  // under the mutex, as the next one
  bool stopping_ = false;
  std::map<CURL*, std::unique_ptr<Transfer>> transfers_;  // the thread's own
  std::thread thread_;
};

CurlPoster::CurlPoster(boost::asio::any_io_executor control, Settings settings)
    : engine_(std::make_unique<Engine>(std::move(control), std::move(settings))) {}
CurlPoster::~CurlPoster() = default;

void CurlPoster::post(HttpPost post, std::function<void(HttpPostAnswer)> done) {
  engine_->post(std::move(post), std::move(done));
}

}  // namespace tutti
