// The flags of tutti-scheduler about what is measured, logged and reported, and what has happened: for how
// long it is kept, and where. Used by flags.h, parts.cpp and --check-config.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "scheduler/service/history_keeper.h"
#include "scheduler/service/metrics.h"
#include "scheduler/service/series_record.h"

namespace tutti {

struct MetricsFlags {
  double hours = 24;            // in steps of 10 s
  double days = 14;             // of a minute
  double long_days = 365;       // of 10 minutes
  double history_days = 400;    // of what happened; 0 = for ever
  std::string history_archive;  // where it is written before it goes; "" = nowhere
  std::string otlp_endpoint;    // "" = nothing is traced
  double trace_sample = 0.01;
  std::string log_format = "text";
  std::string report_dir;  // of the reports of days; "" = none are kept
};

void add_metrics_flags(CLI::App& app, MetricsFlags& flags);
/// What is not kept is counted in `metrics`, which outlives it.
SeriesSettings series_settings(const MetricsFlags& flags, Metrics& metrics);
HistorySettings history_settings(const MetricsFlags& flags, Metrics& metrics);
/// Null without --history-archive. A directory that cannot be made or written is warned of; nothing is
/// dropped until it can.
std::shared_ptr<HistoryArchive> history_archive(const MetricsFlags& flags,
                                                std::shared_ptr<RetentionStore> store);

}  // namespace tutti
