// What a worker tells Prometheus of its node: Worker::metrics_text, and the page that shows it.
#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <map>

#include "api/http/process_metrics.h"
#include "worker/service/machine.h"
#include "worker/service/worker.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {
namespace {

void add_gpus(MetricText& text, const protocol::GpuInventory& inventory,
              const std::map<std::string, nvml::GpuSample>& samples) {
  double healthy = 0;
  for (const auto& gpu : inventory.gpus) healthy += gpu.healthy ? 1 : 0;
  text.add("tutti_worker_gpus", {"healthy"}, healthy);
  text.add("tutti_worker_gpus", {"unhealthy"}, static_cast<double>(inventory.gpus.size()) - healthy);
  // One metric after the other, for the format wants its samples together.
  const auto each = [&](std::string_view metric, double unit, auto value_of) {
    for (const auto& gpu : inventory.gpus) {
      const auto sample = samples.find(gpu.uuid);
      if (sample == samples.end()) continue;
      if (const auto value = value_of(sample->second))
        text.add(metric, {std::to_string(gpu.index)}, static_cast<double>(*value) * unit);
    }
  };
  using Gpu = const nvml::GpuSample&;
  each("tutti_worker_gpu_utilization_ratio", 0.01, [](Gpu g) { return g.utilization; });
  each("tutti_worker_gpu_memory_used_bytes", 1, [](Gpu g) { return g.memory_used_bytes; });
  each("tutti_worker_gpu_power_watts", 0.001, [](Gpu g) { return g.power_mw; });
  each("tutti_worker_gpu_temperature_celsius", 1, [](Gpu g) { return g.temperature_c; });
}

}  // namespace

// A port that is taken, or an address that is not there yet, is no reason not to start: what runs here would
// end with its lease for want of a page.
void Worker::open_metrics_page() {
  if (settings_.metrics_listen.empty()) return;
  try {
    metrics_page_ =
        std::make_unique<MetricsPage>(io_, settings_.metrics_listen, [this] { return metrics_text(); });
  } catch (const std::exception& e) {
    spdlog::error("{}; tried again in a minute", e.what());
    metrics_wait_.expires_after(std::chrono::minutes(1));
    metrics_wait_.async_wait([this](boost::system::error_code ec) {
      if (!ec) open_metrics_page();
    });
    return;
  }
  const auto host = settings_.metrics_listen.substr(0, settings_.metrics_listen.rfind(':'));
  const auto where = host + ":" + std::to_string(metrics_page_->port());
  write_later(settings_.state_dir + "/metrics_endpoint", where + "\n", 0644);
  spdlog::info("metrics at http://{}/metrics", where);
}

std::string Worker::metrics_text() {
  MetricText text;
  http::add_process_metrics(text, TUTTI_VERSION, "tutti-worker");
  text.add("tutti_worker_info", {settings_.node, TUTTI_VERSION}, 1);
  text.add("tutti_worker_connected", counted_.connected ? 1 : 0);
  text.add("tutti_worker_connects_total", static_cast<double>(counted_.connects));
  text.add("tutti_worker_heartbeats_acked_total", static_cast<double>(counted_.acks));
  const auto left = core_.lease_until_boot_us() - read_clocks().mono.time_since_epoch().count();
  text.add("tutti_worker_lease_left_seconds", std::max(0.0, static_cast<double>(left) / 1e6));
  std::array<std::size_t, protocol::kPhaseNames.size()> phases{};
  for (const auto key : core_.attempts())
    if (const auto view = core_.find(key)) ++phases[static_cast<std::size_t>(view->phase)];
  for (std::size_t i = 0; i < phases.size(); ++i)
    text.add("tutti_worker_attempts", {protocol::kPhaseNames[i]}, static_cast<double>(phases[i]));
  if (settings_.gpus) add_gpus(text, core_.gpus().inventory(), gpu_samples_);
  std::map<std::string, std::size_t> conditions;
  for (const auto& [key, condition] : core_.conditions().all()) ++conditions[key.first];
  for (const auto& [kind, n] : conditions)
    text.add("tutti_worker_conditions", {kind}, static_cast<double>(n));
  if (settings_.gpus) text.add("tutti_worker_probe_up", core_.probe_up() ? 1 : 0);
  text.add("tutti_worker_probe_hangs_total", static_cast<double>(counted_.probe_hangs));
  struct statvfs disk{};
  if (statvfs(settings_.state_dir.c_str(), &disk) == 0)
    text.add("tutti_worker_state_dir_free_bytes",
             static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize));
  return text.take();
}

}  // namespace tutti::worker
