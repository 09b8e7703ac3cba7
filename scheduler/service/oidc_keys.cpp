#include "scheduler/service/oidc_keys.h"

#include <curl/curl.h>
#include <spdlog/spdlog.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <memory>
#include <stdexcept>

namespace tutti {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;
constexpr Duration kEvery = std::chrono::hours(1);
constexpr Duration kAfterFailure = std::chrono::seconds(15);
constexpr std::chrono::seconds kNotSooner{30};

std::size_t take(char* data, std::size_t size, std::size_t count, void* into) {
  auto& text = *static_cast<std::string*>(into);
  if (text.size() + size * count > kMostBytes) return 0;  // ends the transfer
  text.append(data, size * count);
  return size * count;
}

std::string get(const std::string& url, const std::string& ca_file) {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (!curl) throw std::runtime_error("libcurl cannot start");
  std::string body;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 10L);
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &body);
  if (!ca_file.empty()) curl_easy_setopt(curl.get(), CURLOPT_CAINFO, ca_file.c_str());
  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK) throw std::runtime_error(url + ": " + curl_easy_strerror(code));
  return body;
}

/// OpenID Connect Discovery 1.0, section 4. The document must speak of the issuer that it was asked of.
std::string discover(const OidcSettings& settings) {
  std::string url = settings.issuer;
  if (url.ends_with('/')) url.pop_back();
  url += "/.well-known/openid-configuration";
  const auto document = boost::json::parse(get(url, settings.ca_file));
  const auto& object = document.as_object();
  if (object.at("issuer").as_string() != settings.issuer)
    throw std::runtime_error(url + " is of another issuer than " + settings.issuer);
  return std::string(object.at("jwks_uri").as_string());
}

}  // namespace

OidcKeys::OidcKeys(boost::asio::any_io_executor executor, Aside aside, OidcSettings settings,
                   OidcVerifier& verifier)
    : aside_(std::move(aside)), settings_(std::move(settings)), verifier_(verifier), timer_(executor) {
  if (settings_.on()) fetch();
}

void OidcKeys::fetch_soon() {
  if (!settings_.on() || fetching_ || std::chrono::steady_clock::now() - fetched_at_ < kNotSooner) return;
  fetch();
}

void OidcKeys::fetch() {
  fetching_ = true;
  fetched_at_ = std::chrono::steady_clock::now();
  try {
    auto text = std::make_shared<std::string>();
    aside_(
        [settings = settings_, text] {
          *text = get(settings.jwks_url.empty() ? discover(settings) : settings.jwks_url, settings.ca_file);
        },
        [this, text](std::exception_ptr failure) {
          fetching_ = false;
          fetched(*text, failure);
        });
  } catch (...) {  // no memory: the next token asks again
    fetching_ = false;
    throw;
  }
}

void OidcKeys::fetched(const std::string& text, const std::exception_ptr& failure) {
  std::string why;
  try {
    if (failure) std::rethrow_exception(failure);
    const auto keys = verifier_.set_keys(text);
    if (keys)
      spdlog::info("oidc: {} keys of {}", *keys, settings_.issuer);
    else
      why = keys.error().message;
  } catch (const std::exception& e) {
    why = e.what();
  }
  if (!why.empty()) spdlog::warn("oidc: no keys of {}: {}", settings_.issuer, why);
  wait(why.empty() ? kEvery : kAfterFailure);
}

void OidcKeys::wait(Duration d) {
  timer_.expires_after(d);
  timer_.async_wait([this](boost::system::error_code ec) {
    if (!ec && !fetching_) fetch();
  });
}

}  // namespace tutti
