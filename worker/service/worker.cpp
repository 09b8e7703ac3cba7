#include "worker/service/worker.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <stdexcept>

#include "api/wire/messages.h"
#include "scheduler/model/condition_table.h"
#include "scheduler/model/fault_table.h"
#include "worker/service/machine.h"
#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::chrono::milliseconds kProbeWait{10'000};
// While something of a former worker lives: much shorter than its lease, which only the scheduler renews.
constexpr std::chrono::milliseconds kProbeWaitLiving{1'000};

bool is_fatal(std::string_view kind, std::int32_t xid) {
  const FaultRule& rule = FaultTable::built_in().judge(kind, xid);
  return rule.gpu == FaultGpu::quarantine && !rule.shadow;
}

std::string kill_mode_in_use(const Settings& s) {
  if (s.kill_mode != "auto") return s.kill_mode;
  const auto parent = s.cgroup_parent.empty() ? supervisor::find_own_cgroup() : s.cgroup_parent;
  return !parent.empty() && access(parent.c_str(), W_OK) == 0 ? "cgroup2" : "process-group";
}

CoreSettings core_settings(const Settings& s) {
  CoreSettings c;
  c.fatal = &is_fatal;
  c.gpus = s.gpus;
  c.gate = s.gate;
  c.started = read_clocks().mono;
  auto& self = c.self;
  self.worker_version = TUTTI_VERSION;
  self.node = s.node;
  self.instance = instance_of(s.state_dir);
  self.address = s.address;
  self.queue = s.queue;
  self.boot_id = s.boot_id;
  self.cpus = s.cpus;
  self.memory_bytes = s.memory_bytes;
  self.kill_mode = kill_mode_in_use(s);
  self.labels = s.labels;
  if (!s.container.empty())
    self.labels.emplace(kContainerLabel, s.container);  // jobs with an image ask for it
  return c;
}

const Settings& with_state_dir(const Settings& s) {
  if (mkdir(s.state_dir.c_str(), 0755) != 0 && errno != EEXIST)
    supervisor::throw_errno("state directory " + s.state_dir);
  return s;
}

}  // namespace

Worker::Worker(asio::io_context& io, Settings settings)
    : io_(io),
      settings_(std::move(settings)),
      accounts_(io, settings_),
      dirs_(with_state_dir(settings_)),
      core_(core_settings(settings_)),
      evidence_(settings_, dirs_),
      shells_(io, settings_.shell,
              ShellHost::Events{[this](const protocol::FromWorker& m) {
                                  if (client_) client_->send(wire::encode(m));
                                },
                                [this](AttemptKey key, supervisor::OpenShell order) {
                                  TellSupervisor tell{key, std::move(order)};
                                  act(tell);
                                }}),
      tick_(io),
      look_(io),
      log_poll_(io),
      probe_wait_(io),
      metrics_wait_(io) {
  lock_state_dir();
  read_boot();
  read_health();
  lease_ = std::make_unique<LeaseFile>(settings_.state_dir + "/lease", former_boot_);
  core_.restore_lease(Mono(Duration(lease_->load())));
  open_peer_link();
}

Worker::~Worker() {
  leaving_ = true;
  disk_.join();  // what was to be written is written
}

// Without it the node takes part in no gang lease: its jobs end with the node's own.
void Worker::open_peer_link() {
  try {
    peer_link_ = std::make_unique<PeerLink>(
        io_, settings_.address, settings_.peer_port, settings_.state_dir + "/peer_port",
        PeerLink::Events{[this](const protocol::PeerPing& ping) {
                           auto ack = core_.on_peer_ping(read_clocks(), ping);
                           settle();
                           return ack;
                         },
                         [this](const protocol::PeerAck& ack) {
                           core_.on_peer_ack(read_clocks(), ack);
                           settle();
                         }});
    core_.set_peer_port(peer_link_->port());
  } catch (const std::exception& e) {
    spdlog::error("no UDP port for other workers: {}; jobs of this node end when no scheduler is heard",
                  e.what());
    return;
  }
  if (const auto secret = supervisor::read_file(settings_.state_dir + "/peer_secret", 4096))
    peer_link_->set_secret(*secret);
}

// Kept: a worker that starts while no scheduler is there needs it.
void Worker::use_peer_secret(const std::string& secret) {
  if (!peer_link_ || secret.empty() || !peer_link_->set_secret(secret)) return;
  try {
    supervisor::replace_file(settings_.state_dir + "/peer_secret", secret, true, 0600);
  } catch (const std::exception& e) {
    spdlog::error("peer_secret: {}", e.what());
  }
}

void Worker::lock_state_dir() {
  const auto path = settings_.state_dir + "/worker.lock";
  lock_ = supervisor::Fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) supervisor::throw_errno("open " + path);
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    throw std::runtime_error("another worker uses " + settings_.state_dir +
                             "; give each its own --state-dir");
}

void Worker::read_boot() {
  const auto known = supervisor::read_file(settings_.state_dir + "/boot_id", 4096);
  former_boot_ = known && *known != settings_.boot_id;
}

void Worker::read_health() {
  const auto text = supervisor::read_file(settings_.state_dir + "/gpu_health.json");
  if (!text || former_boot_) return;
  json::error_code ec;
  const auto v = json::parse(*text, ec);
  if (ec || !v.is_object()) return;
  std::map<std::string, std::string> reasons;
  for (const auto& [uuid, reason] : v.get_object())
    if (reason.is_string()) reasons[std::string(std::string_view(uuid))] = reason.get_string().c_str();
  core_.gpus().remember(reasons);
}

// The last inventory that a probe has told. False: none is known, or this machine has booted since.
bool Worker::read_gpus() {
  const auto text = supervisor::read_file(settings_.state_dir + "/gpus.json");
  if (!text || former_boot_) return false;
  const auto message = nvml::parse_message(*text);
  const auto* told = std::get_if<nvml::Message>(&message);
  const auto* last = told != nullptr ? std::get_if<nvml::Inventory>(told) : nullptr;
  if (last == nullptr) return false;
  core_.remember_gpus(*last);
  gpus_saved_ = *text;
  return true;
}

void Worker::write_later(std::string path, std::string text, mode_t mode) {
  asio::post(disk_, [path = std::move(path), text = std::move(text), mode] {
    try {
      supervisor::replace_file(path, text, false, mode);
    } catch (const std::exception& e) {
      spdlog::warn("{}: {}", path, e.what());
    }
  });
}

void Worker::write_evidence(AttemptKey key, const std::string& file, std::string text) {
  const std::string dir = dirs_.path(key) + "/evidence";
  asio::post(disk_, [dir] { mkdir(dir.c_str(), 0700); });
  write_later(dir + "/" + file, std::move(text), 0600);
}

void Worker::start() {
  const bool as_owner = settings_.accounts.run_as == AccountPolicy::RunAs::owner;
  spdlog::info("node {} starts: address {}, {} cpus, jobs run as {}, kill mode {}", settings_.node,
               settings_.address, settings_.cpus, as_owner ? "their owners" : settings_.job_user.name,
               kill_mode_in_use(settings_));
  recover();
  if (const auto text = supervisor::read_file(settings_.state_dir + "/term", 32))
    (void)std::from_chars(text->data(), text->data() + text->size(), term_);
  // After the ends of the former boot are recorded: a crash before this line only repeats that. Not written
  // anew within a boot: on a full disk no worker would start, and what runs would end with its lease.
  const auto boot_file = settings_.state_dir + "/boot_id";
  if (supervisor::read_file(boot_file, 4096) != settings_.boot_id)
    supervisor::replace_file(boot_file, settings_.boot_id, true);
  settle();
  look_at_jobs();
  start_node_watch();
  if (!settings_.join_cordoned.empty())
    core_.on_condition(read_clocks(), std::string(kJoinedCordoned), "", settings_.join_cordoned);
  open_metrics_page();
  if (!settings_.gpus) return open_client();
  std::vector<std::string> argv = {settings_.probe};
  if (!settings_.nvml_library.empty()) argv.insert(argv.end(), {"--library", settings_.nvml_library});
  probe_ = std::make_unique<ProbeProcess>(
      io_, std::move(argv), ProbeProcess::Deadlines{settings_.probe_start_deadline, settings_.probe_deadline},
      ProbeProcess::Events{[this](const nvml::Message& m) { on_probe(m); },
                           [this] {
                             core_.on_probe_lost(read_clocks());
                             settle();
                           },
                           [this](int times) { on_probe_hung(times); }});
  probe_->start();
  // Registering without the GPUs would make them look as if they had gone. But NVML may hang, and what lives
  // here would be killed at the end of its lease: then with those that were here before.
  const bool known = read_gpus();
  probe_wait_.expires_after(known && !links_.empty() ? kProbeWaitLiving : kProbeWait);
  probe_wait_.async_wait([this, known](boost::system::error_code ec) {
    if (ec) return;
    spdlog::error("the probe does not say which GPUs there are; registering {}",
                  known ? "with those of before" : "without");
    // Until it does, or is found to hang: nothing that is placed on them could start.
    if (known)
      core_.on_condition(read_clocks(), "probe_hangs", "", "NVML has not said yet which GPUs there are");
    settle();
    open_client();
  });
}

void Worker::on_probe(const nvml::Message& message) {
  const bool tells =
      std::holds_alternative<nvml::Inventory>(message) || std::holds_alternative<nvml::Unavailable>(message);
  if (const auto* m = std::get_if<nvml::Inventory>(&message)) {
    spdlog::info("driver {}: {} GPUs{}", m->driver, m->gpus.size(), m->simulated ? " (simulated)" : "");
    if (auto text = nvml::encode(message) + "\n"; text != gpus_saved_)
      write_later(settings_.state_dir + "/gpus.json", gpus_saved_ = std::move(text));
  }
  if (const auto* m = std::get_if<nvml::Unavailable>(&message)) spdlog::warn("no GPUs: {}", m->reason);
  if (const auto* m = std::get_if<nvml::Sample>(&message)) {
    gpu_sampled_boot_us_ = m->at_boot_us;
    for (const auto& gpu : m->gpus) gpu_samples_[gpu.uuid] = gpu;
  }
  core_.on_probe(read_clocks(), message);
  settle();
  if (tells) open_client();
}

void Worker::on_probe_hung(int times) {
  ++counted_.probe_hangs;
  const auto how = "NVML hangs: the probe gave no sign of life and was killed" +
                   (times == 1 ? std::string() : ", " + std::to_string(times) + " times in a row");
  core_.on_probe_hung(read_clocks(), how, times % ProbeProcess::kHungTimes == 0);
  settle();
}

void Worker::open_client() {
  probe_wait_.cancel();
  if (client_) return;
  client_ = std::make_unique<SchedulerClient>(
      io_, settings_,
      SchedulerClient::Events{[this](const Peer& peer) {
                                spdlog::info("connected to scheduler {}:{}", peer.host, peer.port);
                                ++counted_.connects;
                                core_.on_connected(read_clocks());
                                settle();
                              },
                              [this](const std::string& text) { handle(text); },
                              [this](const std::string& why) {
                                spdlog::warn("connection to the scheduler is lost: {}", why);
                                counted_.connected = false;
                                waiting_reads_.clear();
                                being_looked_up_.clear();  // it will be said again
                                shells_.close_all();
                                core_.on_disconnected(read_clocks());
                                settle();
                              }});
  client_->start();
}

void Worker::settle() {
  if (settling_) return;  // the loop below comes to it
  settling_ = true;
  for (auto actions = core_.take_actions(); !actions.empty(); actions = core_.take_actions())
    for (auto& action : actions) std::visit([this](auto& a) { act(a); }, action);
  settling_ = false;
  arm_tick();
}

std::string Worker::summary() const {
  return std::to_string(links_.size()) + (links_.size() == 1 ? " attempt" : " attempts") + " on this node";
}

void Worker::arm_tick() {
  tick_.expires_after(core_.next_wake(read_clocks()));
  tick_.async_wait([this](boost::system::error_code ec) {
    if (ec) return;
    core_.on_tick(read_clocks());
    settle();
    if (on_progress_) on_progress_();
  });
}

}  // namespace tutti::worker
