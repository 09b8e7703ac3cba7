// What --check-config of the scheduler asks beyond what its parts already say of their flags.
#pragma once

#include <string>

#include "daemon/config.h"
#include "scheduler/metrics_flags.h"

namespace tutti {

/// A connection string that libpq can read; with `ask` also a PostgreSQL that answers within seconds and is
/// new enough. Throws std::runtime_error; the text never has the password in it.
void check_database(const std::string& connection, bool ask);

/// --data can be made or written by us, and no secret in it can be read by everybody.
void check_data(const std::string& data);

/// What is written of measurements, history and traces has where to go.
void check_metrics(daemon::Findings& found, const MetricsFlags& flags);

/// Has an index.html. Throws std::runtime_error.
void check_console(const std::string& folder);

}  // namespace tutti
