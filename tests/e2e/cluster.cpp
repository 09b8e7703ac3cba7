#include "tests/e2e/cluster.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/e2e/log_files.h"

namespace tutti::e2e {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

void make_open_directory(const std::string& path) {
  fs::create_directory(path);
  ::chmod(path.c_str(), 0777);
}

void with_lines(const std::string& from, const std::string& more, const std::string& to) {
  std::ifstream in(from);
  std::ofstream(to) << in.rdbuf() << more;
  ::chmod(to.c_str(), 0644);
}

}  // namespace

std::string program_of(const std::string& name, int ahead) {
  return Site::instance().program(ahead == 0 ? name : name + "-next");
}

void Worker::xid(int gpu, int number) const {
  gpu_sim("xid", {"--gpu", std::to_string(gpu), "--xid", std::to_string(number)});
}

void Worker::gpu_sim(const std::string& word, const std::vector<std::string>& more) const {
  std::vector<std::string> argv = {Site::instance().program("tutti-gpu-sim"), word, "--state",
                                   directory_ + "/gpu"};
  argv.insert(argv.end(), more.begin(), more.end());
  run(argv);
}

Cluster::Cluster(ClusterOptions options) : options_(options) {
  Site& site = Site::instance();
  directory_ = site.next_directory();
  shared_ = directory_ + "/shared";
  make_open_directory(shared_);
  make_open_directory(stamps());
  make_open_directory(gpu_locks());
  std::ofstream(shared_ + "/intervals").close();
  ::chmod((shared_ + "/intervals").c_str(), 0666);
  if (options_.apart) {
    host_ = site.network().address(Site::kSchedulerPlace);
    standby_host_ = site.network().scheduler_address();
    heal_scheduler();
  }
  if (options_.own_database)
    own_postgres_ =
        std::make_unique<PostgresServer>(directory_ + "/pg", options_.apart ? standby_host_ : std::string());
  if (options_.embedded) {
    db::EmbeddedOptions embedded;
    embedded.directory = directory_ + "/data/postgres";
    connection_ = db::EmbeddedPostgres(embedded).connection_string();
  } else {
    const std::string database = "c" + fs::path(directory_).filename().string();
    postgres().create_database(database);
    connection_ = postgres().connection_string(database);
  }
  start_scheduler();
  if (options_.standby) start_standby();
  for (int i = 1; i <= options_.workers; ++i) {
    const std::string name = "n" + std::to_string(i);
    workers_.push_back(std::make_unique<Worker>(name, i, directory_ + "/" + name));
    Worker& w = *workers_.back();
    fs::create_directory(w.directory());
    run({site.program("tutti-gpu-sim"), "init", "--state", w.directory() + "/gpu", "--gpus",
         std::to_string(options_.gpus), "--model", "H100", "--node", name});
    if (options_.namespaces) heal(name);
    if (name == options_.small_disk) {
      fs::create_directory(w.directory() + "/state");
      if (::mount("tmpfs", (w.directory() + "/state").c_str(), "tmpfs", 0,
                  ("size=" + std::to_string(kSmallDisk)).c_str()) != 0)
        throw Failure("cannot mount a small disk for " + name);
    }
    start_worker(w);
  }
  await_linked();
}

Cluster::~Cluster() {
  for (auto& worker : workers_) worker->process().kill();
  scheduler_.kill();
  standby_.kill();
  for (const auto* name : {"TUTTI_ATTEMPT_DIR", "E2E_ROOT"}) kill_all(name, directory_ + "/", seconds(20));
  remove_cgroups(directory_);
  remove_mounts(directory_);
  try {  // if not, the next cluster tries again and says so
    if (options_.apart) heal_scheduler();
  } catch (const std::exception&) {
  }
  if (options_.namespaces)
    for (auto& worker : workers_) {
      try {
        heal(worker->name());
      } catch (const std::exception&) {  // the next cluster tries again and says so
      }
    }
}

// Addresses of their own, so the port is always free; each says where the other one and the workers reach it.
void Cluster::be_apart(SpawnOptions& scheduler, bool second) const {
  constexpr const char* kPort = ":7070";
  const std::string& host = second ? standby_host_ : host_;
  const std::string database = "c" + fs::path(directory_).filename().string();
  scheduler.argv.insert(scheduler.argv.end(),
                        {"--listen", host + kPort, "--advertise", "http://" + host + kPort});
  if (second) return;
  scheduler.argv.push_back("--db=host=" + standby_host_ + " port=5432 user=postgres dbname=" + database);
  scheduler.network = Network::name_space(Site::kSchedulerPlace);
}

SpawnOptions Cluster::scheduler_options(const std::string& data, std::uint16_t port,
                                        const std::string& log) const {
  SpawnOptions options;
  options.argv = {program_of("tutti-scheduler", schedulers_ahead_),
                  "--data",
                  data,
                  "--lease",
                  std::to_string(options_.lease),
                  "--kill-margin",
                  std::to_string(options_.margin),
                  "--continue-minutes",
                  std::to_string(options_.continue_minutes),
                  "--requests-per-second",  // waiting here means asking a hundred times a second
                  "0",
                  "--requests-per-second-address",
                  "0"};
  const bool second = data == directory_ + "/standby";
  if (options_.apart) be_apart(options, second);
  if (!options_.apart)
    options.argv.insert(options.argv.end(), {"--listen", (options_.namespaces ? "0.0.0.0:" : "127.0.0.1:") +
                                                             std::to_string(port)});
  if (!options_.apart || second)
    options.argv.push_back(options_.embedded ? "--embedded-db-no-fsync" : "--db=" + connection_);
  if (!options_.blames)
    for (const char* word : {"--gpu-faults-a-day", "0", "--node-faults-a-week", "0"})
      options.argv.push_back(word);
  options.env = options_.scheduler_env;
  options.env[kVersionsAhead] = std::to_string(schedulers_ahead_);
  options.env["E2E_ROOT"] = directory_ + "/";
  options.log = log;
  return options;
}

void Cluster::start_scheduler() {
  const std::string data = directory_ + "/data";
  scheduler_ = Process(scheduler_options(data, port_, directory_ + "/scheduler.log"));
  const auto still_runs = [this] {
    if (!scheduler_.running())
      throw Failure("the scheduler has ended: " + end_of(directory_ + "/scheduler.log", 2000));
  };
  if (port_ == 0) {
    const auto url = await(
        "the scheduler's endpoint",
        [&] {
          still_runs();
          return first_line(data + "/endpoint");
        },
        {}, kPatience);
    port_ = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
    token_ = first_line(data + "/token");
    rest_ = std::make_unique<Rest>(rest());
  }
  Rest asked = rest();
  await_true("the scheduler is ready", kPatience, [&] {
    still_runs();
    return asked.raw("GET", "/readyz").status == 200;
  });
}

void Cluster::start_standby() {
  const std::string data = directory_ + "/standby";
  fs::create_directory(data);
  for (const char* shared : {"/token", "/secret"})
    fs::copy_file(directory_ + "/data" + shared, data + shared, fs::copy_options::overwrite_existing);
  standby_ = Process(scheduler_options(data, standby_port_, directory_ + "/standby.log"));
  const auto still_runs = [this] {
    if (!standby_.running())
      throw Failure("the standby has ended: " + end_of(directory_ + "/standby.log", 2000));
  };
  if (standby_port_ == 0) {
    const auto url = await(
        "the standby's endpoint",
        [&] {
          still_runs();
          return first_line(data + "/endpoint");
        },
        {}, kPatience);
    standby_port_ = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  }
  Rest asked = standby_rest();
  await_true("the standby is ready", kPatience, [&] {
    still_runs();
    return asked.raw("GET", "/readyz").status == 200;
  });
}

pid_t Cluster::embedded_postmaster() const {
  return static_cast<pid_t>(std::stol(first_line(directory_ + "/data/postgres/data/postmaster.pid")));
}

void Cluster::kill_scheduler() { scheduler_.kill(); }

std::vector<std::string> Cluster::nodes() const {
  std::vector<std::string> names;
  for (const auto& worker : workers_) names.push_back(worker->name());
  return names;
}

Worker& Cluster::worker(const std::string& name) {
  for (auto& worker : workers_)
    if (worker->name() == name) return *worker;
  throw Failure("no worker " + name);
}

void Cluster::start_worker(Worker& w, bool rebooted) {
  if (rebooted) ++w.boots_;
  const Site& site = Site::instance();
  Network* network = options_.namespaces ? &Site::instance().network() : nullptr;
  SpawnOptions options;
  if (!options_.accounts.empty()) {
    with_lines("/etc/passwd", options_.accounts, directory_ + "/passwd");
    with_lines("/etc/group", options_.groups, directory_ + "/group");
    options.argv = {
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount --bind \"$0\" /etc/passwd && mount --bind \"$1\" /etc/group && shift && exec \"$@\"",
        directory_ + "/passwd",
        directory_ + "/group"};
  }
  const auto url = [&](const std::string& host, std::uint16_t port) {
    return "http://" + (network && !options_.apart ? network->scheduler_address() : host) + ":" +
           std::to_string(port);
  };
  std::string schedulers = url(host_, port_);
  if (standby_port_ != 0) schedulers += "," + url(standby_host_, standby_port_);
  const std::vector<std::string> words = {program_of("tutti-worker", workers_ahead_),
                                          "--scheduler",
                                          schedulers,
                                          "--token-file",
                                          directory_ + "/data/token",
                                          "--node",
                                          w.name(),
                                          "--address",
                                          network ? network->address(w.number()) : "127.0.0.1",
                                          "--state-dir",
                                          w.directory() + "/state",
                                          "--boot-id",
                                          w.name() + "-boot-" + std::to_string(w.boots_),
                                          "--cpus",
                                          "64",
                                          "--nvml-library",
                                          site.nvml_double(),
                                          "--run-as",
                                          options_.accounts.empty() ? "job-user" : "owner"};
  options.argv.insert(options.argv.end(), words.begin(), words.end());
  if (options_.check_shared) {
    std::filesystem::create_directories(checked());
    options.argv.insert(options.argv.end(), {"--check-path", checked()});
  }
  options.env = options_.worker_env;
  options.env[kVersionsAhead] = std::to_string(workers_ahead_);
  options.env["E2E_ROOT"] = w.directory() + "/";
  options.env["TUTTI_NVML_DOUBLE_STATE"] = w.directory() + "/gpu";
  options.log = w.log();
  if (network) {
    options.network = Network::name_space(w.number());
    options.host = w.name();
  }
  w.process_ = Process(options);
}

void Cluster::await_linked(const std::vector<std::string>& names) {
  std::vector<std::string> wanted = names;
  if (wanted.empty())
    for (const auto& worker : workers_) wanted.push_back(worker->name());
  await_true(
      "all nodes are connected", kPatience,
      [&] {
        for (const auto& name : wanted)
          if (!worker(name).process().running())
            throw Failure("worker " + name + " has ended: " + end_of(worker(name).log(), 2000));
        const auto all = rest_->get("/v1/nodes");
        return std::all_of(wanted.begin(), wanted.end(), [&](const std::string& name) {
          for (const auto& n : all.at("nodes").as_array())
            if (text_of(n.as_object(), "name") == name)
              return n.at("linked").as_bool() && text_of(n.as_object(), "state") == "reachable" &&
                     n.at("gpus").as_array().size() >= static_cast<std::size_t>(options_.gpus);
          return false;
        });
      },
      [&] { return json::serialize(rest_->get("/v1/nodes")); });
}

void Cluster::kill_node(const std::string& node) {
  Worker& w = worker(node);
  const std::string root = w.directory() + "/";
  if (!kill_all("E2E_ROOT", root, seconds(20)) || !kill_all("TUTTI_ATTEMPT_DIR", root, seconds(20)))
    throw Failure("node " + node + " does not die");
  w.process().wait(seconds(10));
}

}  // namespace tutti::e2e
