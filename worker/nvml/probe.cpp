// See probe.h.
#include "worker/nvml/probe.h"

#include <algorithm>

#include "worker/nvml/boot_clock.h"

namespace tutti::nvml {
namespace {

constexpr std::size_t kMaxCommands = 64;

}  // namespace

Probe::Probe(ProbeOptions options, int input, int output)
    : options_(std::move(options)), input_(input), out_(output), links_up_(options_.links_up) {}

void Probe::run() {
  std::thread([this] {
    read_commands(input_, [this](ProcessesCommand command) {
      bool full = false;
      {
        std::lock_guard lock(mutex_);
        full = commands_.size() == kMaxCommands;
        if (!full) commands_.push_back(command);
      }
      if (full) out_.write(Processes{command.id, command.uuid, {}, {}, "too many questions at once"});
      wake_.notify_one();
    });
  }).detach();

  auto next_poll = Clock::now();
  auto next_sample = next_poll;
  auto next_open = next_poll;
  for (;;) {
    const auto now = Clock::now();
    if (library_ == nullptr && now >= next_open) {
      open_session();
      next_open = now + options_.retry;
      next_sample = now;
    }
    const bool due = now >= next_sample;
    poll(due);
    if (due && library_ != nullptr) {
      sample();
      next_sample = now + options_.sample;
    }
    say_alive();
    next_poll = std::max(next_poll + options_.poll, Clock::now());
    while (wait_until(next_poll)) {
      next_deep_ = {};
      poll(true);
    }
  }
}

void Probe::open_session() {
  auto opened = Library::open(options_.library);
  if (!opened.library) return become_unavailable(opened.why, std::nullopt);
  library_ = std::move(opened.library);
  const Symbols& nvml = library_->symbols();
  if (const Return result = nvml.nvmlInit_v2(); result != Return::success) {
    const std::string reason = "NVML does not start: " + library_->describe(result);
    library_.reset();
    return become_unavailable(reason, result);
  }
  ReadInventory read = read_inventory(*library_);
  if (read.result != Return::success) {
    const std::string reason = "NVML cannot count the GPUs: " + library_->describe(read.result);
    close_session();
    return become_unavailable(reason, read.result);
  }
  std::vector<Device> handles;
  for (const NamedDevice& device : read.devices) {
    if (std::ranges::find(handles, device.handle) == handles.end()) handles.push_back(device.handle);
    gpus_.push_back({device, {}, {}, {}, links_up_[device.info.uuid]});
  }
  unidentified_ = read.message.unidentified;
  named_ = read.named;
  {
    std::lock_guard lock(mutex_);
    names_ = read.devices;
  }
  events_ =
      std::make_unique<EventWatch>(nvml, std::move(handles),
                                   EventWatch::Callbacks{[this](const EventData& data) { on_event(data); },
                                                         [this](Return) { look_soon(); }});
  last_unavailable_.clear();
  next_deep_ = {};
  // Registered before it is written, started after: who reads the inventory misses no event, and hears of
  // none before it knows the GPU.
  out_.write(std::move(read.message));
  events_->start();
}

void Probe::close_session() {
  if (library_ == nullptr) return;
  events_.reset();
  for (const Watched& gpu : gpus_) links_up_[gpu.device.info.uuid] |= gpu.links_up;
  gpus_.clear();
  {
    std::lock_guard lock(mutex_);
    names_.clear();
  }
  library_->symbols().nvmlShutdown();
  library_.reset();
}

void Probe::become_unavailable(std::string reason, std::optional<Return> code) {
  if (reason == last_unavailable_) return;
  last_unavailable_ = reason;
  Unavailable message{std::move(reason), std::nullopt};
  if (code) message.code = static_cast<int>(*code);
  out_.write(std::move(message));
}

void Probe::poll(bool closely) {
  if (library_ == nullptr) return;
  if (inventory_changed(closely)) {
    close_session();
    open_session();
    if (library_ == nullptr) return;
    closely = true;
  }
  const bool deeply = closely && Clock::now() >= next_deep_;
  if (deeply) next_deep_ = Clock::now() + options_.deep;
  for (Watched& gpu : gpus_) look_at(gpu, closely, deeply);
}

bool Probe::inventory_changed(bool closely) {
  unsigned count = 0;
  const Return result = library_->symbols().nvmlDeviceGetCount_v2(&count);
  if (result == Return::gpu_is_lost) return false;  // of one GPU; the look at each tells which
  if (result != Return::success || count != named_ + unidentified_) return true;
  if (closely && library_->symbols().nvmlDeviceGetMigMode && slices_changed()) return true;
  // A GPU that was lost before we started may have come back.
  return unidentified_ > 0 && closely && read_inventory(*library_).message.unidentified != unidentified_;
}

// Slices are made and unmade while nobody uses them.
bool Probe::slices_changed() const {
  const auto now = read_inventory(*library_);
  if (now.result != Return::success || now.message.unidentified != unidentified_) return false;
  return !std::ranges::equal(
      now.devices, gpus_, {}, [](const NamedDevice& d) { return d.info.uuid; },
      [](const Watched& w) { return w.device.info.uuid; });
}

void Probe::look_at(Watched& gpu, bool closely, bool deeply) {
  const Symbols& nvml = library_->symbols();
  const bool was_lost = gpu.brief.contains(FaultKind::gpu_lost);
  Device fresh = nullptr;
  // A handle does not survive the loss of its GPU; the UUID does.
  if (was_lost && nvml.nvmlDeviceGetHandleByUUID &&
      nvml.nvmlDeviceGetHandleByUUID(gpu.device.handle_uuid.c_str(), &fresh) == Return::success) {
    gpu.device.handle = fresh;
  }
  Conditions brief = look_briefly(*library_, gpu.device.handle);
  const bool answers = !brief.contains(FaultKind::gpu_lost) && !brief.contains(FaultKind::unreadable);
  if (was_lost && answers) {
    {
      std::lock_guard lock(mutex_);
      for (NamedDevice& device : names_) {
        if (device.info.uuid == gpu.device.info.uuid) device.handle = gpu.device.handle;
      }
    }
    events_->register_again(gpu.device.handle);
  }
  tell(gpu, gpu.brief, std::move(brief));
  if (closely && answers) tell(gpu, gpu.close, look_closely(*library_, gpu.device.handle, gpu.close));
  if (deeply && answers)
    tell(gpu, gpu.deep, look_deeply(*library_, gpu.device.handle, gpu.deep, gpu.links_up));
}

void Probe::tell(const Watched& gpu, Conditions& before, Conditions now) {
  const GpuInfo& info = gpu.device.info;
  for (const auto& [kind, detail] : now) {
    if (!before.contains(kind)) out_.write(Fault{info.uuid, info.pci, kind, std::nullopt, boot_us(), detail});
  }
  for (const auto& [kind, detail] : before) {
    if (!now.contains(kind)) out_.write(Recovered{info.uuid, info.pci, kind, boot_us()});
  }
  before = std::move(now);
}

void Probe::sample() {
  Sample message;
  message.at_boot_us = boot_us();
  for (const Watched& gpu : gpus_) {
    const bool answers =
        !gpu.brief.contains(FaultKind::gpu_lost) && !gpu.brief.contains(FaultKind::unreadable);
    if (!answers) continue;
    auto& sample = message.gpus.emplace_back(take_sample(*library_, gpu.device.handle, gpu.device.info.uuid));
    if (gpu.links_up != 0) sample.links_up = gpu.links_up;
  }
  out_.write(std::move(message));
}

void Probe::say_alive() {
  const std::int64_t now = boot_us();
  const auto stall_us = std::chrono::microseconds(options_.event_stall).count();
  if (events_ && events_->running() && now - events_->last_return_us() > stall_us) return;
  out_.write(Alive{now});
}

void Probe::answer(const ProcessesCommand& command) {
  const auto found = std::find_if(gpus_.begin(), gpus_.end(), [&command](const Watched& gpu) {
    return gpu.device.info.uuid == command.uuid;
  });
  if (library_ == nullptr || found == gpus_.end()) {
    const char* why = library_ == nullptr ? "NVML is unavailable" : "no GPU has this UUID";
    return out_.write(Processes{command.id, command.uuid, {}, {}, why});
  }
  out_.write(read_processes(*library_, found->device.handle, command));
}

void Probe::look_soon() {
  {
    std::lock_guard lock(mutex_);
    look_now_ = true;
  }
  wake_.notify_one();
}

void Probe::on_event(const EventData& data) {
  Fault fault;
  fault.boot_us = boot_us();
  fault.kind = FaultKind::xid;
  fault.xid = data.event_data;
  fault.detail = "Xid " + std::to_string(data.event_data);
  std::vector<Fault> hit;  // a GPU, or all its slices
  {
    std::lock_guard lock(mutex_);
    for (const NamedDevice& device : names_) {
      if (device.handle != data.device) continue;
      fault.uuid = device.info.uuid;
      fault.pci = device.info.pci;
      hit.push_back(fault);
    }
  }
  if (hit.empty()) hit.push_back(fault);
  if ((data.event_type & kEventXid) != 0)
    for (const Fault& each : hit) out_.write(each);
  // Other events only say that a condition may have changed: the look that follows says which.
  look_soon();
}

bool Probe::wait_until(Clock::time_point until) {
  while (Clock::now() < until) {  // a storm of events or questions does not put off the next poll
    std::optional<ProcessesCommand> command;
    {
      std::unique_lock lock(mutex_);
      wake_.wait_until(lock, until, [this] { return look_now_ || !commands_.empty(); });
      if (look_now_) {
        look_now_ = false;
        return true;
      }
      if (commands_.empty()) return false;
      command = std::move(commands_.front());
      commands_.pop_front();
    }
    answer(*command);
  }
  return false;
}

}  // namespace tutti::nvml
