#include "scheduler/metrics_flags.h"

namespace tutti {

void add_metrics_flags(CLI::App& app, MetricsFlags& f) {
  app.add_option("--metrics-hours", f.hours,
                 "what was measured of GPUs and ranks is kept for so long in steps of 10 s")
      ->check(CLI::Range(1.0, 24.0 * 365))
      ->capture_default_str();
  app.add_option("--metrics-days", f.days, "and for so long in steps of a minute")
      ->check(CLI::Range(0.1, 3650.0))
      ->capture_default_str();
  app.add_option("--history-days", f.history_days,
                 "finished jobs, their attempts, events and faults are kept for so long; 0 = for ever")
      ->check(CLI::Range(0.0, 36500.0))
      ->capture_default_str();
  app.add_option(
      "--history-archive", f.history_archive,
      "the leader writes each month of them to files here before it goes, as JSON in gzip; what cannot "
      "be written stays; default: it goes unwritten");
  app.add_option("--metrics-long-days", f.long_days, "and for so long in steps of 10 minutes")
      ->check(CLI::Range(0.1, 3650.0))
      ->capture_default_str();
  app.add_option("--otlp-endpoint", f.otlp_endpoint,
                 "traces of jobs go to this collector: http(s)://HOST:4318, OTLP in JSON; default: to none");
  app.add_option("--trace-sample", f.trace_sample,
                 "share of the submissions without a traceparent that is traced; with one its caller decides")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--log-format", f.log_format, "text, or json: one object a line (docs/logs.md)")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option(
      "--report-dir", f.report_dir,
      "the leader keeps the report of each day (UTC) here, as .md and .json; default: none is kept");
}

HistorySettings history_settings(const MetricsFlags& f, Metrics& metrics) {
  HistorySettings settings;
  settings.keep = from_seconds(f.history_days * 86'400);
  settings.failed = [&metrics](std::string_view what) { metrics.history_failed(what); };
  return settings;
}

std::shared_ptr<HistoryArchive> history_archive(const MetricsFlags& f,
                                                std::shared_ptr<RetentionStore> store) {
  if (f.history_archive.empty()) return nullptr;
  return std::make_shared<HistoryArchive>(std::move(store),
                                          HistoryArchive::Settings{.directory = f.history_archive});
}

SeriesSettings series_settings(const MetricsFlags& f, Metrics& metrics) {
  SeriesSettings settings;
  settings.keep = {from_seconds(f.hours * 3600), from_seconds(f.days * 86'400),
                   from_seconds(f.long_days * 86'400)};
  settings.dropped = [&metrics](std::string_view why, std::size_t n) {
    metrics.measurements_dropped(why, n);
  };
  settings.wrote = [&metrics](std::size_t rows, bool ok) { metrics.measurements_written(rows, ok); };
  return settings;
}

}  // namespace tutti
