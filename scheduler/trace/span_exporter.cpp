#include "scheduler/trace/span_exporter.h"

#include <curl/curl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace tutti::trace {

SpanExporter::SpanExporter(Aside aside, Send send, Settings settings)
    : aside_(std::move(aside)), send_(std::move(send)), settings_(std::move(settings)) {}

void SpanExporter::add(Span span) {
  if (waiting_.size() >= settings_.most_waiting) {
    ++counts_.dropped;
    return;
  }
  waiting_.push_back(std::move(span));
}

void SpanExporter::step() {
  if (under_way_ || waiting_.empty()) return;
  under_way_ = true;
  const auto n = std::min(waiting_.size(), settings_.batch);
  auto spans = std::make_shared<std::vector<Span>>();
  for (std::size_t i = 0; i < n; ++i) {
    spans->push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  aside_([send = send_, spans, service = settings_.service,
          version = settings_.version] { send(otlp_json(*spans, service, version)); },
         [this, n](std::exception_ptr failure) {
           under_way_ = false;
           if (!failure) {
             counts_.sent += n;
             failing_ = false;
             return step();
           }
           counts_.dropped += n;
           ++counts_.failed_batches;
           if (!std::exchange(failing_, true))
             spdlog::warn("traces are not taken and dropped until they are: {}", text_of(failure));
         });
}

SpanExporter::Send http_sender(std::string url, std::chrono::milliseconds deadline) {
  const auto scheme = url.find("://");
  const auto from = scheme == url.npos ? 0 : scheme + 3;
  // Before anything is said of it, now or when a batch fails: that quotes the URL.
  if (url.substr(from, url.find_first_of("/?#", from) - from).find('@') != url.npos)
    throw std::runtime_error(
        "--otlp-endpoint: must be without a user and password, for it is logged; let a collector on this "
        "machine take the spans and pass them on with its own credentials");
  if (scheme == url.npos || (!url.starts_with("http://") && !url.starts_with("https://")))
    throw std::runtime_error("--otlp-endpoint " + url + ": must be http://HOST:PORT or https://HOST:PORT");
  while (url.ends_with('/')) url.pop_back();
  if (url.find('/', from) == url.npos) url += "/v1/traces";
  return [url = std::move(url), deadline](const std::string& body) {
    CURL* curl = curl_easy_init();
    if (curl == nullptr) throw std::runtime_error("curl cannot start");
    curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(deadline.count()));
    curl_easy_setopt(
        curl, CURLOPT_WRITEFUNCTION, +[](char*, size_t size, size_t n, void*) { return size * n; });
    const CURLcode code = curl_easy_perform(curl);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (code != CURLE_OK) throw std::runtime_error(url + ": " + curl_easy_strerror(code));
    if (status < 200 || status > 299) throw std::runtime_error(url + " answered " + std::to_string(status));
  };
}

}  // namespace tutti::trace
