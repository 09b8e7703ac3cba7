#include "tests/e2e/cluster.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/e2e/intervals.h"

namespace tutti::e2e {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

const char* const kTrouble[] = {"AddressSanitizer", "LeakSanitizer", "runtime error:", "TUTTI_ASSERT",
                                "assertion failed"};

void make_open_directory(const std::string& path) {
  fs::create_directory(path);
  ::chmod(path.c_str(), 0777);
}

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

void with_lines(const std::string& from, const std::string& more, const std::string& to) {
  std::ifstream in(from);
  std::ofstream(to) << in.rdbuf() << more;
  ::chmod(to.c_str(), 0644);
}

std::string end_of(const std::string& path, std::size_t bytes) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return text.size() <= bytes ? text : "…" + text.substr(text.size() - bytes);
}

}  // namespace

// ---------------------------------------------------------------- parts

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

// ---------------------------------------------------------------- jobs

json::object Cluster::spec(const std::string& name, const std::string& run, int nodes, int gpus) const {
  return {{"name", name},
          {"run", run},
          {"nodes", nodes},
          {"resources", {{"gpus", gpus}}},
          {"procs_per_node", std::max(gpus, 1)},
          {"stop", {{"grace", "5s"}}},
          {"env",
           {{"TUTTI_INTERVAL_FILE", intervals()}, {"E2E_STAMPS", stamps()}, {"E2E_GPU_LOCKS", gpu_locks()}}}};
}

std::int64_t Cluster::submit(const json::object& spec) {
  return number_of(rest_->post("/v1/jobs", spec).as_object(), "id");
}

json::object Cluster::job(std::int64_t id) {
  return rest_->get("/v1/jobs/" + std::to_string(id)).as_object();
}

json::object Cluster::await_job(std::int64_t id, const std::string& what,
                                const std::function<bool(const json::object&)>& condition) {
  json::object last;
  await_true(
      "job " + std::to_string(id) + " " + what, kPatience,
      [&] {
        last = job(id);
        return condition(last);
      },
      [&] {
        last.erase("spec");
        return json::serialize(last) + "\n  " + explain(id);
      });
  return last;
}

json::object Cluster::await_state(std::int64_t id, const std::string& state) {
  return await_job(id, "is " + state, [&](const json::object& j) {
    const std::string now = text_of(j, "state");
    if (now != state && (now == "failed" || now == "cancelled" || now == "succeeded" || now == "held"))
      throw Failure("job " + std::to_string(id) + " is " + now + " and will not be " + state + ": " +
                    text_of(j, "reason") + " " + text_of(j, "cause"));
    return now == state;
  });
}

json::object Cluster::await_running(std::int64_t id, std::int64_t epoch) {
  return await_job(id, "runs at epoch " + std::to_string(epoch), [&](const json::object& j) {
    const std::string now = text_of(j, "state");
    if (now == "failed" || now == "cancelled" || now == "succeeded" || now == "held")
      throw Failure("job " + std::to_string(id) + " is " + now + ": " + text_of(j, "reason"));
    return now == "running" && number_of(j, "epoch") == epoch;
  });
}

std::vector<json::object> Cluster::attempts(std::int64_t id) {
  std::vector<json::object> out;
  const auto all = rest_->get("/v1/jobs/" + std::to_string(id) + "/attempts");
  for (const auto& a : all.at("attempts").as_array()) out.push_back(a.as_object());
  return out;
}

std::vector<json::object> Cluster::events(std::int64_t id) {
  std::vector<json::object> out;
  const auto all = rest_->get("/v1/jobs/" + std::to_string(id) + "/events");
  for (const auto& e : all.at("events").as_array()) out.push_back(e.as_object());
  return out;
}

std::string Cluster::log_of(std::int64_t id, int attempt, int rank) {
  return rest_->text("/v1/jobs/" + std::to_string(id) + "/attempts/" + std::to_string(attempt) +
                     "/logs?rank=" + std::to_string(rank));
}

json::object Cluster::node(const std::string& name) { return rest_->get("/v1/nodes/" + name).as_object(); }

std::string Cluster::explain(std::int64_t id) {
  std::string out = json::serialize(rest_->get("/v1/jobs/" + std::to_string(id) + "/explain"));
  for (const auto& a : attempts(id)) out += "\n  " + json::serialize(a);
  return out;
}

std::vector<std::string> Cluster::gang(std::int64_t id) {
  std::vector<std::string> nodes;
  const auto all = attempts(id);
  if (all.empty()) return nodes;
  for (const auto& member : all.back().at("gang").as_array())
    nodes.push_back(text_of(member.as_object(), "node"));
  return nodes;
}

// ---------------------------------------------------------------- processes of jobs

std::vector<Seen> Cluster::attempt_processes(std::int64_t id, std::int64_t epoch) {
  auto all = find_processes("TUTTI_ATTEMPT_DIR", directory_ + "/");
  const std::string key = std::to_string(id) + "-" + std::to_string(epoch);
  std::erase_if(all, [&](const Seen& s) { return s.value("TUTTI_ATTEMPT_KEY") != key; });
  return all;
}

std::vector<Seen> Cluster::ranks(std::int64_t id, std::int64_t epoch, const std::string& program) {
  auto all = attempt_processes(id, epoch);
  std::erase_if(all, [&](const Seen& s) { return s.program != program; });
  std::ranges::sort(all, {}, [](const Seen& s) { return std::atoi(s.value("RANK").c_str()); });
  return all;
}

std::vector<Seen> Cluster::await_ranks(std::int64_t id, std::int64_t epoch, std::size_t count,
                                       const std::string& program) {
  std::vector<Seen> found;
  await_true(
      std::to_string(count) + " ranks of job " + std::to_string(id), kPatience,
      [&] {
        found = ranks(id, epoch, program);
        return found.size() == count;
      },
      [&] { return std::to_string(found.size()) + " of them; " + explain(id); });
  return found;
}

std::pair<std::int64_t, std::int64_t> Cluster::stamp(std::int64_t id, std::int64_t epoch, int rank) const {
  std::int64_t page[2] = {};
  std::ifstream in(
      shared_ + "/stamps/" + std::to_string(id) + "-" + std::to_string(epoch) + "-" + std::to_string(rank),
      std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(page), sizeof page)) return {0, 0};
  return {page[0], page[1]};
}

std::int64_t Cluster::await_started(std::int64_t id, std::int64_t epoch, int rank) const {
  return await("the start of rank " + std::to_string(rank), [&] { return stamp(id, epoch, rank).first; });
}

void Cluster::await_alive(std::int64_t id, std::int64_t epoch, int rank, std::int64_t after_us) const {
  await_true("a sign of life of rank " + std::to_string(rank), kPatience,
             [&] { return stamp(id, epoch, rank).second > after_us; });
}

Seen Cluster::supervisor(std::int64_t id, std::int64_t epoch, const std::string& node) {
  const std::string dir =
      worker(node).directory() + "/state/attempts/" + std::to_string(id) + "-" + std::to_string(epoch);
  for (auto& seen : find_processes("E2E_ROOT", worker(node).directory() + "/"))
    if (seen.program == "tutti-supervisor" && seen.command.find(dir) != std::string::npos)
      return std::move(seen);
  throw Failure("no supervisor for " + dir);
}

// ---------------------------------------------------------------- the end

void Cluster::stop_jobs() {
  const auto live = rest_->get("/v1/jobs?state=pending,active&page_size=1000");
  for (const auto& j : live.at("jobs").as_array())
    rest_->raw("POST", "/v1/jobs/" + std::to_string(number_of(j.as_object(), "id")) + ":cancel", "{}");
  await_true(
      "every job has ended", kPatience,
      [&] { return rest_->get("/v1/jobs?state=pending,active").at("jobs").as_array().empty(); },
      [&] { return json::serialize(rest_->get("/v1/jobs?state=pending,active")); });
}

void Cluster::check_gpus() {
  if (const std::string line = first_line(gpu_locks() + "/doubles"); !line.empty())
    throw Failure("two ranks on one GPU: " + line);
  const auto nodes = rest_->get("/v1/nodes");
  for (const auto& node : nodes.at("nodes").as_array())
    for (const auto& gpu : node.at("gpus").as_array()) {
      const std::string state = text_of(gpu.as_object(), "state");
      if (state != "free" && state != "quarantined" && state != "absent")
        throw Failure("a GPU was not given back: " + json::serialize(node));
    }
  if (const auto open = sql("SELECT count(*) FROM allocation WHERE until_at IS NULL"); open.at(0) != "0")
    throw Failure(open.at(0) + " allocations are still open");
  const auto doubled = sql(
      "SELECT count(*) FROM allocation a JOIN allocation b ON a.gpu = b.gpu AND (a.job, a.epoch) < (b.job, "
      "b.epoch) AND tstzrange(a.from_at, a.until_at) && tstzrange(b.from_at, b.until_at)");
  if (doubled.at(0) != "0") throw Failure(doubled.at(0) + " times a GPU had two owners");
}

void Cluster::check_logs() const {
  std::vector<std::string> files = {directory_ + "/scheduler.log"};
  if (options_.standby) files.push_back(directory_ + "/standby.log");
  for (const auto& worker : workers_) {
    files.push_back(worker->log());
    std::error_code ec;
    for (const auto& attempt : fs::directory_iterator(worker->directory() + "/state/attempts", ec))
      files.push_back(attempt.path() / "supervisor.log");
  }
  for (const auto& file : files) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);)
      for (const auto* word : kTrouble)
        if (line.find(word) != std::string::npos)
          throw Failure(file + ": " + line + "\n" + end_of(file, 6000));
  }
}

void Cluster::finish() {
  stop_jobs();
  check_gpus();
  if (const auto left = find_processes("TUTTI_ATTEMPT_DIR", directory_ + "/"); !left.empty())
    throw Failure("a process outlived its attempt: " + std::to_string(left[0].pid) + " " + left[0].command);
  if (const auto why = find_overlap(read_intervals(shared_ + "/intervals", shared_ + "/stamps"));
      !why.empty())
    throw Failure("two epochs at a time: " + why);
  for (auto& worker : workers_) worker->process().signal(SIGTERM);
  for (auto& worker : workers_) {
    if (worker->process().pid() == 0) continue;
    const auto status = worker->process().wait(kPatience);
    if (!status) throw Failure("worker " + worker->name() + " does not stop");
    if (*status != 0 && *status != SIGKILL)
      throw Failure("worker " + worker->name() + ": " + describe_status(*status) + "\n" +
                    end_of(worker->log(), 4000));
  }
  if (options_.standby) {
    standby_.signal(SIGTERM);
    const auto ended = standby_.wait(kPatience);
    if (!ended || *ended != 0)
      throw Failure("the standby " + (ended ? "ended with " + describe_status(*ended) : "does not stop") +
                    "\n" + end_of(directory_ + "/standby.log", 4000));
  }
  scheduler_.signal(SIGTERM);
  const auto status = scheduler_.wait(kPatience);
  if (!status || *status != 0)
    throw Failure("the scheduler " + (status ? "ended with " + describe_status(*status) : "does not stop") +
                  "\n" + end_of(directory_ + "/scheduler.log", 4000));
  check_logs();
  check_decisions(directory_ + "/data");
  if (options_.standby) check_decisions(directory_ + "/standby");
}

// A scheduler that never led has decided nothing.
void Cluster::check_decisions(const std::string& data) const {
  std::error_code ec;
  if (fs::is_empty(data + "/decisions", ec) || ec) return;
  run({Site::instance().program("tutti"), "replay", data + "/decisions", "--prove"});
}

json::object Cluster::replay(const std::vector<std::string>& words) const {
  std::vector<std::string> argv{Site::instance().program("tutti"), "-o", "json", "replay",
                                directory_ + "/data/decisions"};
  argv.insert(argv.end(), words.begin(), words.end());
  return json::parse(run(argv)).as_object();
}

std::string Cluster::logs() const {
  std::string out = "---- scheduler\n" + end_of(directory_ + "/scheduler.log", 6000);
  if (options_.standby) out += "---- standby\n" + end_of(directory_ + "/standby.log", 6000);
  for (const auto& worker : workers_) {
    out += "---- " + worker->name() + "\n" + end_of(worker->log(), 3000);
    std::error_code ec;
    for (const auto& attempt : fs::directory_iterator(worker->directory() + "/state/attempts", ec))
      for (const auto* name : {"supervisor.log", "logs/launcher.log", "logs/rank-0.log"})
        if (const std::string text = end_of(attempt.path() / name, 1000); !text.empty())
          out += "-- " + attempt.path().string() + "/" + name + "\n" + text;
  }
  return out;
}

}  // namespace tutti::e2e
