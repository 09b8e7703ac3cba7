#include "worker/service/metrics_page.h"

#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <stdexcept>
#include <utility>

#include "api/http/message.h"

namespace tutti::worker {
namespace {

constexpr std::size_t kMostConnections = 32;

}  // namespace

http::ServerConfig metrics_page_config(const std::string& listen) {
  http::ServerConfig config;
  const auto colon = listen.rfind(':');
  const auto* last = listen.data() + listen.size();
  if (colon == std::string::npos)
    throw std::runtime_error("--metrics-listen " + listen + ": expected HOST:PORT");
  config.address = listen.substr(0, colon);
  if (config.address.starts_with('[') && config.address.ends_with(']'))
    config.address = config.address.substr(1, config.address.size() - 2);
  const auto parsed = std::from_chars(listen.data() + colon + 1, last, config.port);
  if (parsed.ec != std::errc() || parsed.ptr != last)
    throw std::runtime_error("--metrics-listen " + listen + ": no such port");
  boost::system::error_code ec;
  boost::asio::ip::make_address(config.address, ec);
  if (ec)
    throw std::runtime_error("--metrics-listen " + listen + ": HOST must be an address of this machine");
  config.serial_executor = true;
  config.max_connections = kMostConnections;
  config.body_limit = 1024;
  return config;
}

MetricsPage::MetricsPage(boost::asio::io_context& io, const std::string& listen,
                         std::function<std::string()> text) {
  router_.get("/metrics", [text = std::move(text)](const http::Request&) {
    return http::text(200, text(), "text/plain; version=0.0.4; charset=utf-8");
  });
  router_.get("/healthz", [](const http::Request&) { return http::text(200, "ok\n"); });
  try {
    server_ = std::make_unique<http::HttpServer>(io.get_executor(), metrics_page_config(listen), router_);
    server_->start();
  } catch (const std::exception& e) {
    const std::string what = e.what();
    throw std::runtime_error(
        what.starts_with("--metrics-listen") ? what : "--metrics-listen " + listen + ": " + what);
  }
}

}  // namespace tutti::worker
