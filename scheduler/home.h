// What a scheduler has before it serves anybody: the data directory with its secrets, the loop, and a
// database whose schema is of this version. All that serves stands on it (parts.h, serving.h) and goes before
// it.
//
// Made once, by main.cpp, before other threads begin. Members are made in their order, and go in the reverse.
#pragma once

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "daemon/notify.h"
#include "scheduler/database.h"
#include "scheduler/flags.h"
#include "scheduler/replica_flags.h"

namespace tutti {

struct Home {
  /// Blocks until the database is there. Throws std::exception with what a person has to set right.
  explicit Home(const Flags& f);
  Home(const Home&) = delete;
  Home& operator=(const Home&) = delete;
  /// Ends the database if it is ours. After the loop, and everybody who uses it.
  void stop();

  daemon::ServiceManager manager;  // first: children do not inherit its environment
  std::filesystem::path data;      // absolute
  std::optional<DataLock> lock;    // none for --migrate-only, which runs beside a scheduler
  std::string token;               // the scheduler's own credential
  std::string key;                 // what secrets of this cluster are derived from; replicas share it
  boost::asio::io_context io{1};   // the control thread's
  std::unique_ptr<OwnDatabase> own;
  std::string db;  // its connection string, ours or not
};

}  // namespace tutti
