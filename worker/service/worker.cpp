#include "worker/service/worker.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <csignal>
#include <stdexcept>

#include "api/wire/messages.h"
#include "scheduler/log/log_format.h"
#include "scheduler/model/condition_table.h"
#include "scheduler/model/fault_table.h"
#include "scheduler/model/lead_rules.h"
#include "worker/service/machine.h"
#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/kill_proof.h"

namespace tutti::worker {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::int64_t kKillDeadline = 4'000'000;
constexpr std::size_t kMostMasks = 64;
// A directory service that is away is asked again, almost as long as the scheduler waits for a node to be
// ready.
constexpr Duration kAccountPatience = std::chrono::minutes(14);
constexpr std::chrono::seconds kAskAccountAgain{3};
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

// `done` gets the answer, or the last refusal; `wanted` no more: it is not called.
void look_up(Accounts& accounts, asio::io_context& io, const std::string& owner, Mono until,
             std::function<bool()> wanted, std::function<void(Result<Account>)> done) {
  accounts.find(owner, [&accounts, &io, owner, until, wanted, done](const Result<Account>& user) {
    const bool again = !user && user.error().code == Errc::unavailable && read_clocks().mono < until;
    if (!again) return done(user);
    spdlog::warn("{}; asking again", user.error().message);
    auto later = std::make_shared<asio::steady_timer>(io, kAskAccountAgain);
    later->async_wait([&accounts, &io, owner, until, wanted, done, later](boost::system::error_code ec) {
      if (!ec && wanted()) look_up(accounts, io, owner, until, wanted, done);
    });
  });
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

void Worker::handle(const std::string& text) {
  const auto message = wire::decode_to_worker(text);
  if (!message) {  // perhaps a newer scheduler
    spdlog::warn("message not understood: {}", message.error().message);
    return;
  }
  const auto now = read_clocks();
  struct Dispatch {
    Worker& w;
    Now now;
    void operator()(const protocol::Welcome& m) {
      if (!w.obey(m)) return;
      spdlog::info("registered as node {}, lease {} ms", m.node_id, m.lease_us / 1000);
      w.client_->on_welcome();
      w.counted_.connected = true;
      w.use_peer_secret(m.peer_secret);
      protocol::Welcome welcome = m;
      if (w.term_ == 0) welcome.term.reset();
      w.core_.on_welcome(now, welcome);
      w.core_.on_condition_over(now, std::string(kJoinedCordoned), "");
      w.say_ranks_again();
    }
    void operator()(const protocol::Refused& m) {
      if (m.leader)
        w.client_->redirected(m.why, *m.leader);
      else
        w.client_->refused(m.why);
    }
    void operator()(const protocol::HeartbeatAck& m) {
      ++w.counted_.acks;
      w.core_.on_heartbeat_ack(now, m);
    }
    void operator()(const protocol::Prepare& m) { w.prepare(m); }
    void operator()(const protocol::Launch& m) { w.core_.on_launch(now, m); }
    void operator()(const protocol::Stop& m) { w.core_.on_stop(now, m); }
    void operator()(const protocol::SignalRanks& m) { w.core_.on_signal_ranks(m); }
    void operator()(const protocol::Forget& m) { w.core_.on_forget(now, m); }
    void operator()(const protocol::DeleteCheckpoint& m) { w.core_.on_delete_checkpoint(m); }
    void operator()(const protocol::ReadLog& m) { w.read(m); }
    void operator()(const protocol::Inspect& m) { w.core_.on_inspect(now, m); }
    void operator()(const protocol::AskSilence& m) { w.core_.on_ask_silence(now, m); }
    void operator()(const protocol::OpenShell& m) { w.open_shell(m); }
    void operator()(const protocol::ShellInput& m) { w.shells_.input(m); }
    void operator()(const protocol::ShellResize& m) { w.shells_.resize(m); }
    void operator()(const protocol::CloseShell& m) { w.shells_.close(m.shell); }
  };
  std::visit(Dispatch{*this, now}, *message);
  settle();
}

// Nothing is about to begin, and of what was here the end is proven; that may wait to be told.
bool Worker::nothing_lives() const {
  return being_looked_up_.empty() && being_killed_.empty() &&
         std::ranges::all_of(core_.attempts(), [this](AttemptKey key) {
           const auto status = core_.status_of(key);
           return core_.find(key)->ended && status.end && status.end->proven;
         });
}

// Terms do not fall while anything lives here: the new leader counts on it that the one before renews no
// lease any more. So the term stands on the disk before anything is said under it. With nothing alive a lower
// one is obeyed (a database that was set up anew, or restored without its term being raised): there is no
// lease to protect, and a leader of before begins nothing here, for that takes a commit under its own term.
bool Worker::obey(const protocol::Welcome& welcome) {
  if (!welcome.term) {  // an older scheduler
    term_ = 0;
    return true;
  }
  if (!lead::obeys(*welcome.term, term_, !nothing_lives())) {
    client_->refused("its term " + std::to_string(*welcome.term) + " is over, term " + std::to_string(term_) +
                     " has been obeyed here");
    return false;
  }
  if (*welcome.term < term_) {
    spdlog::warn("term {} is obeyed, though {} was: nothing lives here; has the database been restored?",
                 *welcome.term, term_);
  }
  if (*welcome.term == term_) return true;
  try {
    supervisor::replace_file(settings_.state_dir + "/term", std::to_string(*welcome.term), true);
    term_ = *welcome.term;
  } catch (const std::exception& e) {
    spdlog::error("the leader's term cannot be kept: {}", e.what());
    term_ = 0;  // nothing is claimed
  }
  return true;
}

// Its owner's account first, which may take a while. A Stop that comes meanwhile finds no attempt, and then
// none begins.
void Worker::prepare(const protocol::Prepare& m) {
  if (core_.find(m.key)) return core_.on_prepare(read_clocks(), m, {});  // said again
  if (!being_looked_up_.insert(m.key).second) return;
  look_up(
      accounts_, io_, m.owner, read_clocks().mono + kAccountPatience,
      [this, key = m.key] { return being_looked_up_.contains(key); },
      [this, m](Result<Account> user) {
        if (being_looked_up_.erase(m.key) == 0) return;  // the connection is another one
        auto parsed = parse(m.spec_json);
        if (user)
          users_[m.key] = *std::move(user);
        else
          parsed.refusal = user.error().message;
        core_.on_prepare(read_clocks(), m, parsed);
        settle();
      });
}

void Worker::open_shell(const protocol::OpenShell& m) {
  const auto view = core_.find(m.key);
  const auto* user = user_of(m.key);
  if (!view || user == nullptr || !links_.contains(m.key) || view->phase != protocol::Phase::running)
    return shells_.refuse(m.shell, "the attempt does not run on node " + settings_.node);
  shells_.open(m, dirs_.path(m.key), login_shell(user->shell));
}

const Account* Worker::user_of(AttemptKey key) {
  if (const auto known = users_.find(key); known != users_.end()) return &known->second;
  auto read = dirs_.read_account(key);
  if (!read) return nullptr;
  if (!core_.find(key)) {  // retired: once in a while somebody reads its logs
    retired_user_ = *std::move(read);
    return &retired_user_;
  }
  return &(users_[key] = *std::move(read));
}

const SecretMask& Worker::mask_of(AttemptKey key) {
  static const SecretMask kNone;
  if (!dirs_.exists(key)) return kNone;  // no log either, and its secrets are still to come
  if (const auto known = masks_.find(key); known != masks_.end()) return known->second;
  if (masks_.size() >= kMostMasks) masks_.clear();
  return masks_[key] = dirs_.read_mask(key);
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

void Worker::act(Send& a) { client_->send(wire::encode(a.message)); }

void Worker::act(SpawnSupervisor& a) {
  const auto view = core_.find(a.key);
  if (!view) return;
  try {
    dirs_.create(a.key, *view->prepare);
    masks_.erase(a.key);  // somebody may have asked for its log before it had any
    leases_.try_emplace(a.key, dirs_.path(a.key) + "/lease", false)
        .first->second.store(core_.lease_until_boot_us(a.key));
    note_gpus(a.key, "gpu_before.json");
    dirs_.write_preparation(a.key, plan_preparation(*view->spec, *view->prepare, facts_of(a.key)));
    make_link(a.key).start(settings_.supervisor);
  } catch (const std::exception& e) {
    links_.erase(a.key);
    core_.on_launch_failed(read_clocks(), a.key, e.what(), false);
  }
}

void Worker::act(LaunchRanks& a) {
  const auto view = core_.find(a.key);
  if (!view) return;
  try {
    const auto now = read_clocks();
    auto plan = plan_launch(*view->spec, *view->prepare, a.launch, facts_of(a.key), now.wall);
    if (!plan) throw std::runtime_error(plan.error().message);
    spdlog::info("job {} epoch {}: network: {}", a.key.job.value, a.key.epoch.value, plan->network);
    const auto* user = user_of(a.key);
    if (user == nullptr) throw std::runtime_error("its account is not known");
    dirs_.write_launch(a.key, *plan, *user, view->prepare->secret);
    TellSupervisor tell{a.key, std::move(plan->launch)};
    act(tell);
  } catch (const std::exception& e) {
    core_.on_launch_failed(read_clocks(), a.key, e.what(), true);
  }
}

void Worker::act(TellSupervisor& a) {
  const auto link = links_.find(a.key);
  if (link == links_.end()) return;
  link->second->send(a.command);
  if (std::holds_alternative<supervisor::Quit>(a.command)) link->second->expect_end();
}

void Worker::act(KillAndProve& a) {
  if (!being_killed_.insert(a.key).second) return;
  const auto done = [this, key = a.key](supervisor::KillResult result) {
    asio::post(io_, [this, key, result = std::move(result)] {
      being_killed_.erase(key);
      core_.on_killed(read_clocks(), key, result.proven, result.how);
      settle();
    });
  };
  // While its supervisor lives there is nothing to take.
  if (auto& lock = supervisor_locks_[a.key]; !lock) lock = dirs_.take_supervisor_lock(a.key);
  auto config = dirs_.read_config(a.key);
  if (!config) return done({true, "never started", 0});  // it is written before anything is started
  asio::post(kills_, [done, config = std::move(*config)] {
    done(supervisor::kill_and_prove(config, supervisor::boot_us() + kKillDeadline));
  });
}

void Worker::act(KillSupervisor& a) {
  if (const auto pid = find_supervisor(dirs_.path(a.key)); pid != 0) ::kill(pid, SIGKILL);
}

void Worker::act(FinalScan& a) { end_scan(a.key); }

void Worker::act(AskProcesses& a) {
  if (probe_) probe_->ask({a.uuid, a.id});
}

void Worker::act(RecordEnd& a) {
  note_gpus(a.status.key, "gpu_after.json");
  keep_kernel_log(a.status);
  try {
    dirs_.write_end(a.status);
  } catch (const std::exception& e) {
    // A full disk must not keep the end from being told. After a restart it is proven anew.
    spdlog::error("job {} epoch {}: {}", a.status.key.job.value, a.status.key.epoch.value, e.what());
  }
}

void Worker::act(Retire& a) {
  if (const auto end = dirs_.read_end(a.key)) keep_kernel_log(*end);
  links_.erase(a.key);
  supervisor_locks_.erase(a.key);
  watches_.erase(a.key);
  leases_.erase(a.key);
  rank_watches_.erase(a.key);
  users_.erase(a.key);
  try {
    dirs_.retire(a.key);
  } catch (const std::exception& e) {
    spdlog::error("job {} epoch {}: {}", a.key.job.value, a.key.epoch.value, e.what());
  }
  asio::post(disk_, [this, key = a.key] {
    evidence_.seal(key);
    dirs_.remove_private_tmp(key);
  });
  clean_up();
}

void Worker::act(SetLease& a) { lease_->store(a.until_boot_us); }

void Worker::act(SetAttemptLease& a) {  // before its supervisor is started there is no file yet
  if (const auto file = leases_.find(a.key); file != leases_.end()) file->second.store(a.until_boot_us);
}

void Worker::act(PingPeer& a) {
  if (peer_link_) peer_link_->send(a.ping, a.address, static_cast<std::uint16_t>(a.port));
}

void Worker::act(SaveHealth&) {
  json::object o;
  for (const auto& [uuid, reason] : core_.gpus().remembered()) o[uuid] = reason;
  try {
    supervisor::replace_file(settings_.state_dir + "/gpu_health.json", json::serialize(o), true);
  } catch (const std::exception& e) {
    spdlog::error("gpu_health.json: {}", e.what());
  }
}

void Worker::act(Note& a) {
  if (!a.key.job) {
    spdlog::warn("{}: {}", a.to, a.why);
    return;
  }
  log_change(spdlog::level::info,
             fmt::format("job {} epoch {}: {}{}{}{}{}", a.key.job.value, a.key.epoch.value, a.from,
                         a.from.empty() ? "" : " -> ", a.to, a.why.empty() ? "" : ": ", a.why),
             {{"event", "attempt"},
              {"job", a.key.job.value},
              {"epoch", a.key.epoch.value},
              {"node", settings_.node},
              {"from", a.from},
              {"to", a.to},
              {"detail", a.why}});
}

}  // namespace tutti::worker
