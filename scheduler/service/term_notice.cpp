#include "scheduler/service/term_notice.h"

#include <curl/curl.h>

#include <memory>
#include <stdexcept>
#include <utility>

namespace tutti {
namespace {

constexpr long kConnectMs = 2000;

std::chrono::seconds wall_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
}

std::size_t ignore_body(char*, std::size_t size, std::size_t count, void*) { return size * count; }

}  // namespace

TermNotice::TermNotice(TermMark mark, Settings settings)
    : mark_(std::move(mark)), settings_(std::move(settings)) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) throw std::runtime_error("libcurl cannot start");
}

int TermNotice::tell(const std::vector<std::string>& urls, const TermMark::Says& says) const {
  int ended = 0;
  for (const auto& url : urls) {
    if (let_go_) break;
    ended += tell_one(url, mark_.make(says, wall_now())) ? 1 : 0;
  }
  return ended;
}

bool TermNotice::tell_one(const std::string& url, const std::string& mark) const {
  const std::unique_ptr<CURL, void (*)(CURL*)> easy(curl_easy_init(), curl_easy_cleanup);
  if (!easy) return false;
  const std::string header = std::string(TermMark::kHeader) + ": " + mark;
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(curl_slist_append(nullptr, header.c_str()),
                                                                   curl_slist_free_all);
  const std::string target = url + std::string(kTermRoute);
  curl_easy_setopt(easy.get(), CURLOPT_URL, target.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy.get(), CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");  // schedulers reach each other directly
  curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_CONNECTTIMEOUT_MS, kConnectMs);
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(settings_.patience.count()));
  curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(easy.get(), CURLOPT_POST, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, "");
  curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE, 0L);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, ignore_body);
  if (!settings_.ca_file.empty()) curl_easy_setopt(easy.get(), CURLOPT_CAINFO, settings_.ca_file.c_str());
  long status = 0;
  return curl_easy_perform(easy.get()) == CURLE_OK &&
         curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status) == CURLE_OK && status == 202;
}

void add_term_route(http::Router& router, TermMark mark, std::function<bool(const TermMark::Says&)> told) {
  router.post(std::string(kTermRoute), [mark = std::move(mark), told = std::move(told)](
                                           const http::Request& request, http::Responder responder) {
    const auto header = request.header(TermMark::kHeader);
    const auto says = header ? mark.read(*header, wall_now()) : std::nullopt;
    if (!says)
      return responder.respond(
          http::problem(403, "forbidden", "this is for schedulers of this cluster, among themselves"));
    responder.respond(told(*says) ? http::text(202, "it ends\n") : http::text(200, "that is nothing new\n"));
  });
}

}  // namespace tutti
