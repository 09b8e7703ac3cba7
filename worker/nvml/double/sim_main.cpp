// tutti-gpu-sim: makes a simulated GPU machine and breaks its parts on demand. Used by people, the demo and
// tests. The double of libnvidia-ml (TUTTI_NVML_DOUBLE_STATE=DIR) shows what is done here to whoever asks
// NVML.
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <iostream>

#include "worker/nvml/double/sim_files.h"

namespace {

using namespace tutti::nvml::sim;

long long boot_us() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1'000'000LL + now.tv_nsec / 1000;
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "node";
}

struct Options {
  std::string folder;
  NodePlan plan;
  std::string memory;
  unsigned gpu = 0;
  unsigned xid = 0;
  std::string setting;
  std::string kernel_log;
  bool silent = false;
};

// As the driver's line comes out of /dev/kmsg. One write: a reader of a FIFO sees it whole.
std::string write_kernel_line(const Options& options, const std::string& pci, long long at_us) {
  const int fd = open(options.kernel_log.c_str(), O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return options.kernel_log + ": " + std::strerror(errno);
  const std::string line = "3,0," + std::to_string(at_us) + ",-;NVRM: Xid (PCI:" + pci +
                           "): " + std::to_string(options.xid) +
                           ", pid='<unknown>', name=<unknown>, simulated\n";
  const bool written = write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  close(fd);
  return written ? "" : options.kernel_log + " cannot be written";
}

std::string init(Options& options) {
  if (options.plan.gpus > kMaxGpus) return "a machine has at most " + std::to_string(kMaxGpus) + " GPUs";
  if (!options.memory.empty()) {
    const auto bytes = parse_bytes(options.memory);
    if (!bytes || *bytes == 0) return "'" + options.memory + "' is no amount of memory such as 80GB or 80GiB";
    options.plan.memory_bytes = *bytes;
  }
  if (options.plan.node.empty()) options.plan.node = host_name();
  return create_machine({options.folder}, options.plan);
}

std::string change_gpu(const Options& options, const std::function<void(Gpu&)>& change,
                       std::string* uuid = nullptr) {
  return update_state({options.folder}, [&](State& state) -> std::string {
    Gpu* gpu = find_gpu(state, options.gpu);
    if (gpu == nullptr) {
      return "no GPU " + std::to_string(options.gpu) + "; there are " + std::to_string(state.gpus.size());
    }
    change(*gpu);
    if (uuid != nullptr) *uuid = gpu->uuid;
    return {};
  });
}

std::string inject_xid(const Options& options) {
  Event event;
  event.data = options.xid;
  std::string pci;
  const auto change = [&](Gpu& gpu) {
    pci = pci_address(gpu);
    if (!options.silent) apply_xid(gpu, options.xid);
  };
  std::string why = change_gpu(options, change, &event.uuid);
  if (!why.empty()) return why;
  event.boot_us = boot_us();
  if (!options.kernel_log.empty()) why = write_kernel_line(options, pci, event.boot_us);
  if (!why.empty() || options.silent) return why;
  return append_event({options.folder}, event);
}

std::string set_mode(const Options& options) {
  const auto mode = parse_mode(options.setting);
  if (!mode) {
    return "'" + options.setting +
           "' is none of healthy, throttled, pcie_degraded, pcie_slow, fabric_not_ready, remap_pending, ecc, "
           "link_down, "
           "remap_failed, reset_required, "
           "lost";
  }
  return change_gpu(options, [&](Gpu& gpu) {
    if (*mode == GpuMode::healthy) apply_reset(gpu);
    if (*mode == GpuMode::ecc) ++gpu.uncorrected_errors;
    gpu.mode = *mode;
  });
}

std::string set_library(const Options& options) {
  return update_state({options.folder}, [&](State& state) -> std::string {
    if (options.setting == "ok") {
      state.faults.clear();
      return {};
    }
    std::string problem;
    const auto fault = parse_fault(options.setting, problem);
    if (!fault) return problem + ", ok";
    state.faults.push_back(*fault);
    return {};
  });
}

std::string show(const Options& options) {
  std::string problem;
  const auto state = load_state({options.folder}, problem);
  if (!state) return problem;
  std::cout << format_state(*state);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Makes and breaks simulated GPUs (for the NVML double)"};
  app.require_subcommand(1);
  Options options;
  std::string (*todo)(Options&) = nullptr;
  auto command = [&](const char* name, const char* text, std::string (*run)(Options&)) {
    CLI::App* sub = app.add_subcommand(name, text);
    sub->add_option("--state", options.folder, "folder of the simulated machine")->required();
    sub->callback([&todo, run] { todo = run; });
    return sub;
  };
  auto of_gpu = [&](CLI::App* sub) { sub->add_option("--gpu", options.gpu, "index")->required(); };

  CLI::App* make = command("init", "make a machine (the same node name gives the same GPUs)", init);
  make->add_option("--gpus", options.plan.gpus, "how many")->capture_default_str();
  make->add_option("--model", options.plan.model, "H100, H200, B200, A100 or another word")
      ->capture_default_str();
  make->add_option("--memory", options.memory, "per GPU, such as 80GB; default: the model's");
  make->add_option("--node", options.plan.node, "node name; default: the host's");
  make->add_option("--mig", options.plan.slices, "cut every GPU into such slices: 1g.10gb,2g.20gb")
      ->delimiter(',');
  make->add_option("--island", options.plan.island_size, "GPUs per NVLink island")->capture_default_str();

  CLI::App* xid = command("xid", "report an Xid and do to the GPU what it stands for",
                          [](Options& o) { return inject_xid(o); });
  of_gpu(xid);
  xid->add_option("--xid", options.xid, "number")->required();
  auto* log = xid->add_option("--kernel-log", options.kernel_log,
                              "write the driver's line there too: a file or FIFO");
  xid->add_flag("--kernel-log-only", options.silent, "NVML says nothing of it")->needs(log);

  CLI::App* mode = command("mode", "set how a GPU behaves", [](Options& o) { return set_mode(o); });
  of_gpu(mode);
  mode->add_option("--set", options.setting, "healthy, lost, reset_required, ecc, …")->required();

  CLI::App* library =
      command("library", "make the library misbehave", [](Options& o) { return set_library(o); });
  library
      ->add_option("--set", options.setting,
                   "hang:CALL:10s, slow:CALL:20ms, fail:CALL:CODE, crash:CALL, "
                   "driver_not_loaded, version_mismatch; ok ends all of them")
      ->required();

  of_gpu(command("reset", "reset a GPU: healthy, counters at zero",
                 [](Options& o) { return change_gpu(o, apply_reset); }));
  command("show", "print the state", [](Options& o) { return show(o); });

  CLI11_PARSE(app, argc, argv);
  const std::string why = todo(options);
  if (why.empty()) return 0;
  std::cerr << "tutti-gpu-sim: " << why << "\n";
  return 1;
}
