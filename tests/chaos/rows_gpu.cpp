// Rows B, C and C': what the double of libnvidia-ml reports or fails to report.
#include "tests/chaos/rows.h"

namespace tutti::chaos {

namespace json = e2e::json;
using e2e::number_of;
using e2e::text_of;

namespace {

// A GPU of the gang fails by `fail`; the gang must run again, and not on it.
void fail_gpu(Lab& lab, const std::function<void(e2e::Worker&, int gpu)>& fail) {
  auto& c = lab.cluster();
  const auto [node, gpu] = lab.some_gpu(lab.gang());
  auto& worker = c.worker(node);
  lab.mend_later([&worker, gpu = gpu] { worker.gpu_sim("reset", {"--gpu", std::to_string(gpu)}); });
  const auto hit = lab.strike(lab.gang(), [&] { fail(worker, gpu); });
  lab.await_back(hit);
  const auto attempts = c.attempts(lab.gang());
  for (const auto& member : attempts.back().at("gang").as_array())
    if (text_of(member.as_object(), "node") == node)
      for (const auto& used : member.at("gpus").as_array())
        if (number_of(used.as_object(), "index") == gpu)
          throw e2e::Failure("the gang runs again on GPU " + std::to_string(gpu) + " of " + node +
                             ", which has failed");
}

}  // namespace

void xid(Lab& lab) {
  const int number = lab.dice().pick(std::vector<int>{48, 79, 94, 95, 119});
  fail_gpu(lab, [&](e2e::Worker& worker, int gpu) { worker.xid(gpu, number); });
}

void gpu_lost(Lab& lab) {
  fail_gpu(lab, [](e2e::Worker& worker, int gpu) {
    worker.gpu_sim("mode", {"--gpu", std::to_string(gpu), "--set", "lost"});
  });
}

// The probe is stuck, the ranks are not: at most no new work comes here.
void nvml_hangs(Lab& lab) {
  auto& c = lab.cluster();
  const auto node = lab.some_node(lab.gang());
  lab.count_injection();
  auto& worker = c.worker(node);
  lab.mend_later([&c, &worker, node] {
    worker.gpu_sim("library", {"--set", "ok"});
    c.await_linked({node});
  });
  const auto at = e2e::boot_us();
  worker.gpu_sim("library", {"--set", "hang:nvmlDeviceGetCount_v2:forever"});
  worker.gpu_sim("library", {"--set", "hang:nvmlDeviceGetUtilizationRates:forever"});
  lab.await_condition(node, "probe_hangs", true);
  lab.measured(Stage::detected, at, e2e::boot_us());
  lab.watch_unharmed(12s);
  const auto mended = e2e::boot_us();
  worker.gpu_sim("library", {"--set", "ok"});
  lab.await_condition(node, "probe_hangs", false);
  lab.measured(Stage::back, mended, e2e::boot_us());
}

}  // namespace tutti::chaos
