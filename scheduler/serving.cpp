#include "scheduler/serving.h"

#include <spdlog/spdlog.h>

#include <csignal>
#include <exception>
#include <new>
#include <utility>

#include "daemon/last_words.h"
#include "scheduler/service/local_files.h"

namespace tutti {
namespace {

void log_certificate(http::TlsServer::Event event, const std::string& line) {
  if (event == http::TlsServer::Event::renewed)
    spdlog::info(line);
  else
    spdlog::error(line);
}

// Keys that a running scheduler takes over on SIGHUP, beside the certificates.
bool reloaded(const std::string& key) {
  return key == "log-level" || key.starts_with("requests-per-second") || key.starts_with("login-") ||
         key == "submissions-per-minute";
}

}  // namespace

Serving::Serving(const CommandLine& line, Home& home, Reread reread)
    : flags_(line.flags),
      home_(home),
      reread_(std::move(reread)),
      lead_(home, flags_),
      accounts_(home, flags_, lead_),
      webhooks_(home, flags_, lead_),
      records_(home, flags_, lead_),
      history_(home, flags_, lead_, records_),
      replicas_(home, flags_, lead_),
      config_(server_config(flags_.http, log_certificate)),
      limits_(std::in_place, limit_settings(flags_.http), clock()),
      server_(home.io.get_executor(), config_, with_routes(), hooks()),
      running_(line.configuration.values()),
      signals_(home.io) {}

int Serving::run() {
  listen();
  lead();
  try {
    home_.io.run();
  } catch (const std::bad_alloc&) {  // not torn down: whoever leads next begins with the rows
    daemon::end_without_memory("tutti-scheduler");
  }
  finish();
  spdlog::info("stopped");
  return status_;
}

void Serving::listen() {
  if (const auto files = raise_file_limit(); files < config_.max_connections + 256)
    spdlog::warn("only {} files may be open, too few for --max-connections {}", files,
                 config_.max_connections);
  if (config_.tls) spdlog::info("TLS certificate: {}", config_.tls->description());
  server_.start();
  reload_signal_.emplace(home_.io, [this] { reload(); });
  const std::string url = local_url(config_, server_.port());
  spdlog::info("listening on {}", url);
  try {
    write_file((home_.data / "endpoint").string(), url + "\n", 0644);
  } catch (
      const std::exception& e) {  // a full disk here is no reason not to serve: the database is elsewhere
    spdlog::error("who looks for this scheduler in --data does not find it: {}", e.what());
  }
}

void Serving::lead() {
  LeaderCard card =
      leader_card(flags_.replicas, config_, server_.port(), home_.data, {home_.key, home_.token});
  replicas_.own_url = card.url;
  lead_.leader.introduce(std::move(card));
  watchdog_.emplace(home_.io, home_.manager, lead_.leader);
  lead_.leader.start(lead_.hub, [this](const std::string& why) {
    spdlog::error("deposed: {}; this process has nothing left to do", why);
    status_ = 3;
    stop();
  });
  webhooks_.webhooks.start();
  home_.manager.ready("listening on " + local_url(config_, server_.port()));
  signals_.add(SIGINT);
  signals_.add(SIGTERM);
  signals_.async_wait([this](boost::system::error_code ec, int) {
    if (!ec) spdlog::info("stopping");
    if (!ec) stop();
  });
}

void Serving::reload() {
  home_.manager.reloading();
  if (config_.tls) config_.tls->reload();
  try {
    const auto fresh = reread_();
    limits_.emplace(limit_settings(fresh->flags.http), clock());
    limits_->weigh(router_);
    spdlog::set_level(spdlog::level::from_str(fresh->flags.log_level));
    for (const auto& [key, value] : fresh->configuration.values())
      if (std::exchange(running_[key], value) != value && !reloaded(key))
        spdlog::warn("--{} has changed: that needs a new start", key);
    spdlog::info("configuration read again");
  } catch (const std::exception& e) {
    spdlog::error("the configuration stays as it was: {}", e.what());
  }
  home_.manager.ready(lead_.leader.status().detail);
}

void Serving::stop() {
  if (std::exchange(stopping_, true)) return;
  server_.stop();
  home_.manager.stopping();
  reload_signal_->stop();
  watchdog_->stop();
  webhooks_.webhooks.stop();
  lead_.hub.close_all();
  accounts_.timer.stop();
  records_.timer.stop();
  history_.report_timer.stop();
  replicas_.proxy_timer.stop();
  records_.series.finish();
  accounts_.oidc_keys.stop();
  lead_.leader.stop([this] { home_.io.stop(); });
}

void Serving::finish() {
  replicas_.notice.let_go();  // --data is ours until it has ended
  for (SideThread* questions : {&records_.series_reader, &history_.thread, &history_.replay_thread,
                                &replicas_.notice_thread, &records_.trace_thread})
    questions->let_go();
  for (SideThread* side :
       {&lead_.secret_thread, &accounts_.thread, &accounts_.hash_thread, &accounts_.fetch_thread,
        &webhooks_.thread, &records_.thread, &records_.retention_thread, &records_.series_writer,
        &records_.series_reader, &history_.thread, &history_.replay_thread, &replicas_.notice_thread,
        &records_.trace_thread})
    side->join();
  home_.stop();
}

}  // namespace tutti
