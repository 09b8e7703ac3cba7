#include "scheduler/check_config.h"

#include <libpq-fe.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>

#include "daemon/config.h"
#include "db/migrate/connection_text.h"

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
  fs::path nearest = fs::absolute(data).lexically_normal();
  if (!nearest.has_filename()) nearest = nearest.parent_path();
  while (!fs::exists(nearest) && nearest.has_relative_path()) nearest = nearest.parent_path();
  if (!fs::is_directory(nearest))
    throw std::runtime_error("--data " + data + ": " + nearest.string() + " is no directory");
  if (::access(nearest.c_str(), W_OK | X_OK) != 0)
    throw std::runtime_error("--data " + data + ": " + nearest.string() + ": " + std::strerror(errno));
  for (const char* secret : {"token", "secret"})
    if (const auto file = fs::path(data) / secret; fs::exists(file))
      daemon::look_at_secret("--data", file.string());
}

}  // namespace tutti
