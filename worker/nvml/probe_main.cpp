// tutti-nvml-probe: wiring of the process described in probe.h. Started by the worker, one per node.
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "worker/nvml/probe.h"

int main(int argc, char** argv) {
  CLI::App app{"Watches the GPUs of this machine through NVML; lines of JSON on standard output"};
  tutti::nvml::ProbeOptions options;
  long long poll_ms = options.poll.count();
  long long sample_ms = options.sample.count();
  long long deep_ms = options.deep.count();
  long long retry_ms = options.retry.count();
  long long event_stall_ms = options.event_stall.count();
  app.add_option("--library", options.library, "NVML library; default: the system's libnvidia-ml.so.1");
  app.add_option("--poll-ms", poll_ms, "between two looks at each GPU")->check(CLI::Range(10, 60'000));
  app.add_option("--sample-ms", sample_ms, "between two samples")->check(CLI::Range(10, 600'000));
  app.add_option("--deep-ms", deep_ms, "between two looks at NVLinks, PCIe and fabric")
      ->check(CLI::Range(10, 3'600'000));
  app.add_option("--retry-ms", retry_ms, "between two tries to start NVML")->check(CLI::Range(10, 600'000));
  app.add_option("--event-stall-ms", event_stall_ms, "an event wait longer than this is a hang")
      ->check(CLI::Range(1500, 600'000));
  std::vector<std::string> links_up;
  app.add_option("--links-up", links_up, "UUID=BITS, as the last sample of an earlier probe tells it");
  CLI11_PARSE(app, argc, argv);
  for (const auto& text : links_up)
    if (const auto equals = text.find('='); equals != std::string::npos)
      options.links_up[text.substr(0, equals)] = std::strtoull(text.c_str() + equals + 1, nullptr, 10);
  options.poll = std::chrono::milliseconds(poll_ms);
  options.sample = std::chrono::milliseconds(sample_ms);
  options.deep = std::chrono::milliseconds(deep_ms);
  options.retry = std::chrono::milliseconds(retry_ms);
  options.event_stall = std::chrono::milliseconds(event_stall_ms);

  // Twice sure that no probe outlives its worker: the kernel's signal, and the end of input, which also
  // covers a worker that died before this line.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::signal(SIGPIPE, SIG_IGN);
  tutti::nvml::Probe probe(options, STDIN_FILENO, STDOUT_FILENO);
  probe.run();
}
