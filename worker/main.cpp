// tutti-worker: flags, log, signals; then worker/service/worker.h does everything.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <new>
#include <stdexcept>
#include <utility>

#include "daemon/config.h"
#include "daemon/folder.h"
#include "daemon/last_words.h"
#include "daemon/notify.h"
#include "scheduler/log/log_format.h"
#include "worker/container/image_tools.h"
#include "worker/container/run_tool.h"
#include "worker/service/addresses.h"
#include "worker/service/join.h"
#include "worker/service/machine.h"
#include "worker/service/metrics_page.h"
#include "worker/service/worker.h"

using namespace tutti::worker;
namespace container = tutti::container;

namespace {

struct Flags {
  std::vector<std::string> schedulers;
  std::string token, token_file, join_token, join_token_file, libexec, job_user, run_as, unknown_user, memory,
      log_level = "info", log_format = "text", torchrun, container = "auto", image_cache;
  std::vector<std::string> labels;
  bool no_gpus = false;
};

/// Tells early what is wrong with the files; they are read again at each connection.
void check_tls(const Settings& s) {
  const bool any = std::ranges::any_of(s.schedulers, &Peer::tls);
  const bool files = !s.tls.ca.empty() || !s.tls.certificate.empty() || !s.tls.key.empty();
  if (files && !any)
    throw std::runtime_error("--tls-ca, --tls-cert and --tls-key need a --scheduler https://…");
  if (any) (void)tutti::http::make_client_context(s.tls);
}

std::int64_t parse_memory(const std::string& flag, const std::string& text) {
  struct Unit {
    std::string_view name;
    std::int64_t bytes;
  };
  constexpr Unit kUnits[] = {{"", 1},
                             {"MB", 1'000'000},
                             {"GB", 1'000'000'000},
                             {"TB", 1'000'000'000'000},
                             {"MiB", 1LL << 20},
                             {"GiB", 1LL << 30},
                             {"TiB", 1LL << 40}};
  std::int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(parsed.ptr, static_cast<std::size_t>(text.data() + text.size() - parsed.ptr));
  for (const auto& u : kUnits)
    if (parsed.ec == std::errc() && number > 0 && number < (1LL << 62) / u.bytes && unit == u.name)
      return number * u.bytes;
  throw std::runtime_error(flag + " " + text + ": must be like 64GB or 64GiB");
}

std::string read_token(const Flags& flags) {
  return flags.token_file.empty() ? flags.token
                                  : tutti::daemon::first_line_of("--token-file", flags.token_file);
}

// Of no use any more once the node has joined: then the file may be gone.
std::string read_join_token(const Flags& flags) {
  const auto& file = flags.join_token_file;
  return file.empty() || !std::filesystem::exists(file)
             ? flags.join_token
             : tutti::daemon::first_line_of("--join-token-file", file);
}

std::string program(const std::string& name, const Flags& flags) {
  if (auto path = find_program(name, flags.libexec)) return *path;
  throw std::runtime_error("cannot find " + name + "; say where the helper programs are with --libexec");
}

// Without root there is but one account: ours. With root each job runs as its owner, unless one is named for
// all of them. `may_make`: tutti-job, if that is to be it and it is not there; else it stays without a name.
void choose_accounts(Settings& s, const Flags& flags, bool may_make) {
  using RunAs = AccountPolicy::RunAs;
  const bool root = geteuid() == 0;
  if (!root && (flags.run_as == "owner" || s.accounts.allow_root))
    throw std::runtime_error(std::string(s.accounts.allow_root ? "--allow-root-jobs" : "--run-as owner") +
                             " needs a worker that runs as root");
  const bool as_owner = flags.run_as.empty() ? root && flags.job_user.empty() : flags.run_as == "owner";
  s.accounts.run_as = as_owner ? RunAs::owner : RunAs::job_user;
  s.accounts.unknown_as_job_user =
      flags.unknown_user.empty() ? !flags.job_user.empty() : flags.unknown_user == "job-user";
  if (!as_owner || s.accounts.unknown_as_job_user)
    s.job_user = may_make ? find_job_user(flags.job_user, s.accounts.allow_root)
                          : known_job_user(flags.job_user, s.accounts.allow_root).value_or(Account());
}

// What is asked for by name must be there; what is found by itself is told to the scheduler as a label.
void choose_container(Settings& s, const Flags& flags) {
  s.container = container::choose_tool(flags.container, &container::find_in_path);
  if (s.container.empty() && flags.container != "auto" && flags.container != "none")
    throw std::runtime_error("--container " + flags.container + ": cannot find " + flags.container +
                             " or bwrap (bubblewrap, which runs the ranks) in PATH");
  s.bubblewrap = container::find_in_path("bwrap");
  s.image = find_program("tutti-image", flags.libexec).value_or("");
  if (s.image.empty() && flags.container != "auto" && flags.container != "none")
    throw std::runtime_error("--container " + flags.container +
                             ": cannot find tutti-image; --libexec names its folder");
  if (s.image.empty()) s.container.clear();
  if (!flags.image_cache.empty()) s.image_cache_bytes = parse_memory("--image-cache", flags.image_cache);
  for (const auto& folder : s.container_mounts)
    if (!folder.starts_with('/'))
      throw std::runtime_error("--container-mounts " + folder + ": must be an absolute path");
}

std::vector<std::string> read_schedulers(Settings& s, const Flags& flags) {
  auto schedulers = split_addresses(flags.schedulers);
  if (schedulers.empty())
    throw std::runtime_error("--scheduler: must be http://HOST:PORT or https://HOST:PORT");
  try {
    for (const auto& url : schedulers) s.schedulers.push_back(parse_address(url));
  } catch (const std::runtime_error& e) {
    throw std::runtime_error(std::string("--scheduler ") + e.what());
  }
  return schedulers;
}

void read_labels(Settings& s, const Flags& flags) {
  for (const auto& label : flags.labels) {
    const auto at = label.find('=');
    if (at == std::string::npos || at == 0)
      throw std::runtime_error("--label " + label + ": must be KEY=VALUE");
    s.labels[label.substr(0, at)] = label.substr(at + 1);
  }
}

void find_programs(Settings& s, const Flags& flags) {
  s.supervisor = program("tutti-supervisor", flags);
  s.rank = program("tutti-rank", flags);
  s.launch_agent = program("tutti-launch-agent", flags);
  s.preflight = find_program("tutti-preflight", flags.libexec).value_or("");
  s.collective_mpi = find_program("tutti-collective-check", flags.libexec).value_or("");
  s.collective_nccl = find_program("tutti-collective-check-nccl", flags.libexec).value_or("");
  s.capture = find_program("tutti-capture", flags.libexec).value_or("");
  s.shell = find_program("tutti-shell", flags.libexec).value_or("");
  s.node_check = program("tutti-node-check", flags);
  choose_container(s, flags);
  if (s.gpus) s.probe = program("tutti-nvml-probe", flags);
  s.torchrun = flags.torchrun.empty() ? find_torchrun() : std::vector<std::string>{flags.torchrun};
}

void choose_state_dir(Settings& s) {
  s.state_dir = std::filesystem::absolute(s.state_dir).lexically_normal();
  if (s.state_dir.ends_with("/")) s.state_dir.pop_back();
}

// Jobs pass through it to their folders.
void check_way_to_state_dir(const Settings& s) {
  const bool one = s.accounts.run_as == AccountPolicy::RunAs::job_user;
  if (one && s.job_user.name.empty()) return;  // has yet to be made
  if (const auto folder = find_closed_folder(s.state_dir, one ? &s.job_user : nullptr); !folder.empty())
    throw std::runtime_error("jobs run as " + (one ? s.job_user.name : std::string("their owners")) +
                             ", who may not pass through " + folder + " to --state-dir " + s.state_dir);
}

void complete(Settings& s, const Flags& flags) {
  const auto schedulers = read_schedulers(s, flags);
  check_tls(s);
  s.token = read_token(flags);
  read_labels(s, flags);
  if (s.node.empty()) s.node = host_name();
  if (s.address.empty()) s.address = address_towards(s.schedulers.front()).value_or("127.0.0.1");
  if (s.boot_id.empty()) s.boot_id = read_boot_id();
  if (s.cpus == 0) s.cpus = count_cpus();
  s.memory_bytes = flags.memory.empty() ? memory_size() : parse_memory("--memory", flags.memory);
  s.gpus = !flags.no_gpus;
  if (!s.metrics_listen.empty()) (void)metrics_page_config(s.metrics_listen);
  choose_state_dir(s);
  tutti::daemon::make_folder("--state-dir", s.state_dir);
  if (s.token.empty())
    s.token = credential_of({.schedulers = schedulers,
                             .join_token = read_join_token(flags),
                             .node = s.node,
                             .state_dir = s.state_dir,
                             .ca_file = s.tls.ca});
  choose_accounts(s, flags, true);
  find_programs(s, flags);
  check_way_to_state_dir(s);
}

void add_flags(CLI::App& app, Settings& s, Flags& f) {
  app.add_option(
         "--scheduler", f.schedulers,
         "http://HOST:PORT or https://HOST:PORT of a scheduler; several, with commas or repeated, are "
         "tried in turn")
      ->required();
  app.add_option("--tls-ca", s.tls.ca,
                 "PEM: who vouches for an https scheduler; default: whom this machine trusts");
  app.add_option("--tls-cert", s.tls.certificate,
                 "PEM certificate that this node shows to an https scheduler");
  app.add_option("--tls-key", s.tls.key, "PEM key of --tls-cert, not encrypted");
  auto* token =
      app.add_option("--token", f.token, "bearer token; better in a file, since others see our arguments");
  token->envname("TUTTI_WORKER_TOKEN");
  app.add_option("--token-file", f.token_file, "file whose first line is the token");
  app.add_option(
         "--join-token", f.join_token,
         "joins once and keeps the node's own credential in --state-dir; from `tutti join-token create`")
      ->envname("TUTTI_JOIN_TOKEN")
      ->excludes("--token-file")
      ->excludes(token);
  app.add_option("--join-token-file", f.join_token_file,
                 "file whose first line is the join token; not read once it is gone")
      ->excludes("--token-file")
      ->excludes("--join-token")
      ->excludes(token);
  app.add_option("--node", s.node, "name of this node, unique; default: the host name");
  app.add_option("--address", s.address, "where other nodes reach this one; default: towards the scheduler");
  app.add_option("--peer-port", s.peer_port,
                 "UDP port where workers of other nodes reach this one; default: any free one")
      ->check(CLI::Range(1, 65535));
  app.add_option("--queue", s.queue, "queue this node serves")->capture_default_str();
  app.add_option("--label", f.labels, "KEY=VALUE; may be repeated");
  app.add_option(
      "--join-cordoned", s.join_cordoned,
      "why nothing is to start here yet: each time this worker starts, the node is cordoned with these "
      "words from its first moment on, if it is schedulable, until an operator opens it");
  app.add_option("--state-dir", s.state_dir, "for attempts and their logs")
      ->default_val("/var/lib/tutti-worker");
  app.add_option("--boot-id", s.boot_id, "for tests: instead of the kernel's");
  app.add_option("--cpus", s.cpus, "default: those we may run on")->check(CLI::Range(1, 1 << 20));
  app.add_option("--memory", f.memory, "like 64GB; default: all of it");
  app.add_flag("--no-gpus", f.no_gpus, "offer none and start no probe");
  app.add_option("--nvml-library", s.nvml_library, "default: the system's libnvidia-ml.so.1");
  app.add_option("--run-as", f.run_as,
                 "owner: each job runs under its owner's account here; job-user: all jobs under that of "
                 "--job-user. Default: owner, if we are root and --job-user is not given")
      ->check(CLI::IsMember({"owner", "job-user"}));
  app.add_option("--job-user", f.job_user,
                 "one account for all jobs; where it is wanted and not named: SUDO_USER, or tutti-job, or "
                 "ourselves");
  app.add_option("--unknown-user", f.unknown_user,
                 "with --run-as owner, for a job whose owner has no account here: refuse, or run it as "
                 "job-user. Default: refuse, unless --job-user is given")
      ->check(CLI::IsMember({"refuse", "job-user"}));
  app.add_option("--min-uid", s.accounts.min_uid, "owners' accounts below it belong to the system: refused")
      ->capture_default_str();
  app.add_flag("--allow-root-jobs", s.accounts.allow_root, "jobs whose owner is root run as root");
  app.add_option("--kill-mode", s.kill_mode)->check(CLI::IsMember({"auto", "cgroup2", "process-group"}));
  app.add_option("--cgroup-parent", s.cgroup_parent, "cgroup v2 directory for attempts; default: our own");
  app.add_option("--libexec", f.libexec, "folder of tutti-supervisor and the other helpers");
  app.add_option("--torchrun", f.torchrun,
                 "program; default: ours where it is installed, else the one in PATH");
  app.add_option("--mpirun", s.mpirun)->capture_default_str();
  app.add_option(
         "--container", f.container,
         "what fetches the images of jobs: podman, enroot, apptainer; bubblewrap: only images that lie "
         "on the node; none: no images; auto: what is found. bubblewrap runs the ranks in any case")
      ->check(CLI::IsMember({"auto", "podman", "enroot", "apptainer", "bubblewrap", "none"}))
      ->capture_default_str();
  app.add_option("--container-mounts", s.container_mounts,
                 "folder below which the mounts of jobs must lie; may be repeated. Default: anywhere but "
                 "--state-dir");
  app.add_option("--image-cache", f.image_cache,
                 "disk for the unpacked images of one user, like 200GB; default: 100GB");
  app.add_option("--kernel-log", s.kernel_log, "where the kernel's messages are read; empty: not")
      ->capture_default_str();
  app.add_option("--sysfs", s.sysfs, "where the state of network links is read; empty: not")
      ->capture_default_str();
  app.add_option(
      "--interface", s.interfaces,
      "network interface that jobs need, beside that of --address and all InfiniBand ports; may be repeated");
  app.add_option("--disk", s.disks,
                 "path whose disk jobs need, beside --state-dir and /tmp: must not be full; may be repeated");
  app.add_option(
      "--check-path", s.check_paths,
      "folder on a shared file system: a file is written and read there every 10 s; may be repeated");
  app.add_option(
      "--metrics-listen", s.metrics_listen,
      "HOST:PORT of a page for Prometheus, /metrics, open to all who reach it; port 0: any free one, "
      "written to metrics_endpoint in --state-dir. Default: none");
  app.add_flag("--gate,!--no-gate", s.gate, "quick checks of the node before each attempt")
      ->capture_default_str();
  app.add_option("--log-level", f.log_level, "how much is written to the log; read again on SIGHUP")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.add_option("--log-format", f.log_format, "text, or json: one object a line (docs/logs.md)")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

struct CommandLine {
  CLI::App app{"Runs on each GPU machine: starts and watches the ranks that the scheduler places here"};
  Settings settings;
  Flags flags;
  tutti::daemon::Configuration configuration{(add_flags(app, settings, flags), app), "tutti-worker"};
};

// --check-config: an exit status. Nothing is joined and nothing is started.
int check(CommandLine& line, bool full) {
  tutti::daemon::Findings found;
  Settings& s = line.settings;
  std::vector<std::string> schedulers;
  found.look([&] { schedulers = read_schedulers(s, line.flags); });
  found.look([&] { check_tls(s); });
  found.look([&] { (void)read_token(line.flags); });
  found.look([&] { read_labels(s, line.flags); });
  found.look([&] { (void)(line.flags.memory.empty() ? 0 : parse_memory("--memory", line.flags.memory)); });
  found.look([&] { find_programs(s, line.flags); });
  choose_state_dir(s);
  found.look([&] { tutti::daemon::look_at_folder("--state-dir", s.state_dir); });
  found.look([&] {
    choose_accounts(s, line.flags, false);
    check_way_to_state_dir(s);
  });
  found.look([&] {
    if (!s.metrics_listen.empty()) (void)metrics_page_config(s.metrics_listen);
  });
  found.look([&] { tutti::daemon::look_at_secret("--tls-key", s.tls.key); });
  found.look([&] { tutti::daemon::look_at_secret("--token-file", line.flags.token_file); });
  if (std::filesystem::exists(line.flags.join_token_file))
    found.look([&] { tutti::daemon::look_at_secret("--join-token-file", line.flags.join_token_file); });
  for (const auto& url : schedulers)
    if (full) found.look([&] { ask_whether_alive(url, s.tls.ca); });
  return found.finish("tutti-worker");
}

int run(CommandLine& line, const std::function<void()>& reread) {
  tutti::daemon::ServiceManager manager;
  boost::asio::io_context io(1);
  Worker worker(io, std::move(line.settings));
  // Stopping the worker stops no attempt: the next worker takes them over.
  boost::asio::signal_set signals(io, SIGTERM, SIGINT), reload(io, SIGHUP);
  signals.async_wait([&](boost::system::error_code ec, int) {
    if (ec) return;
    spdlog::info("stopping; attempts go on");
    manager.stopping();
    io.stop();
  });
  std::function<void()> wait_for_reload = [&] {
    reload.async_wait([&](boost::system::error_code ec, int) {
      if (ec) return;
      manager.reloading();
      reread();
      manager.ready(worker.summary());
      wait_for_reload();
    });
  };
  wait_for_reload();
  // Once a second at least the core decides what is due; a word each is more than the watchdog asks for.
  worker.on_progress([&] {
    manager.status(worker.summary());
    if (manager.watchdog()) manager.alive();
  });
  worker.start();
  manager.ready(worker.summary());
  try {
    io.run();
  } catch (const std::bad_alloc&) {  // not torn down: attempts go on, the next worker takes them over
    tutti::daemon::end_without_memory("tutti-worker");
  }
  spdlog::shutdown();
  std::_Exit(0);  // a scan of a hung file server must not keep us: nothing is left to be tidied up
}

}  // namespace

int main(int argc, char** argv) {
  tutti::daemon::end_threads_without_memory("tutti-worker");
  CommandLine line;
  if (const auto done = line.configuration.parse(argc, argv)) return *done;
  try {
    spdlog::set_level(spdlog::level::from_str(line.flags.log_level));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    spdlog::flush_on(spdlog::level::info);
    std::signal(SIGPIPE, SIG_IGN);
    using Check = tutti::daemon::Configuration::Check;
    if (const auto how = line.configuration.check(); how != Check::none)
      return check(line, how == Check::full);
    tutti::set_log_format(line.flags.log_format, "tutti-worker");
    complete(line.settings, line.flags);
    auto running = line.configuration.values();
    return run(line, [&] {
      try {
        CommandLine fresh;
        fresh.configuration.parse_again(argc, argv);
        spdlog::set_level(spdlog::level::from_str(fresh.flags.log_level));
        for (const auto& [key, value] : fresh.configuration.values())
          if (std::exchange(running[key], value) != value && key != "log-level")
            spdlog::warn("--{} has changed: that needs a new start", key);
        spdlog::info("configuration read again");
      } catch (const std::exception& e) {
        spdlog::error("the configuration stays as it was: {}", e.what());
      }
    });
  } catch (const std::exception& e) {
    std::cerr << "tutti-worker: " << e.what() << "\n";
    return 1;
  }
}
