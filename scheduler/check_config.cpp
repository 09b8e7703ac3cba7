#include "scheduler/check_config.h"

#include <libpq-fe.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <stdexcept>

#include "api/handlers/console.h"
#include "daemon/folder.h"
#include "db/migrate/connection_text.h"
#include "scheduler/trace/span_exporter.h"

namespace tutti {
namespace {

constexpr int kOldestServer = 150'000;

std::string trimmed(const char* text) {
  std::string out = text == nullptr ? "" : text;
  while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
  return out;
}

}  // namespace

void check_database(const std::string& connection, bool ask) {
  if (const auto problem = db::connection_problem(connection); !problem.empty())
    throw std::runtime_error("--db: " + problem);
  if (!ask) return;
  const char* names[] = {"dbname", "connect_timeout", "application_name", nullptr};
  const char* values[] = {connection.c_str(), "5", "tutti-scheduler --check-config", nullptr};
  const std::unique_ptr<PGconn, void (*)(PGconn*)> session(PQconnectdbParams(names, values, 1), PQfinish);
  if (PQstatus(session.get()) != CONNECTION_OK)
    throw std::runtime_error("--db: " + trimmed(PQerrorMessage(session.get())));
  if (const int version = PQserverVersion(session.get()); version < kOldestServer)
    throw std::runtime_error("--db: its PostgreSQL is " + std::to_string(version / 10'000) +
                             ", 15 or newer is needed");
}

void check_data(const std::string& data) {
  namespace fs = std::filesystem;
  daemon::look_at_folder("--data", data);
  for (const char* secret : {"token", "secret"})
    if (const auto file = fs::path(data) / secret; fs::exists(file))
      daemon::look_at_secret("--data", file.string());
}

void check_metrics(daemon::Findings& found, const MetricsFlags& flags) {
  found.look([&] {
    if (!flags.otlp_endpoint.empty()) (void)trace::http_sender(flags.otlp_endpoint, std::chrono::seconds(1));
  });
  found.look([&] {
    if (!flags.report_dir.empty()) daemon::look_at_folder("--report-dir", flags.report_dir);
  });
  found.look([&] {
    if (!flags.history_archive.empty()) daemon::look_at_folder("--history-archive", flags.history_archive);
  });
}

void check_console(const std::string& folder) {
  http::Router router;
  if (!folder.empty()) add_console(router, folder);
}

}  // namespace tutti
