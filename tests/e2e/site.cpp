#include "tests/e2e/site.h"

#include <libpq-fe.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/e2e/failure.h"

namespace tutti::e2e {
namespace {

namespace fs = std::filesystem;

void stage_tree(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  ::chmod(to.c_str(), 0755);
  for (const auto& entry : fs::directory_iterator(from)) {
    const auto target = to / entry.path().filename();
    if (entry.is_symlink()) {
      fs::copy_symlink(entry.path(), target);
    } else if (entry.is_directory()) {
      stage_tree(entry.path(), target);
    } else if (entry.is_regular_file()) {
      std::error_code ec;
      fs::create_hard_link(entry.path(), target, ec);
      if (ec) fs::copy_file(entry.path(), target);
    }
  }
}

std::string variable(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

fs::path own_folder() { return fs::read_symlink("/proc/self/exe").parent_path(); }

}  // namespace

// ---------------------------------------------------------------- PostgreSQL

PostgresServer::PostgresServer(const std::string& directory, const std::string& listen)
    : server_([&] {
        db::EmbeddedOptions options;
        options.directory = directory;
        options.fsync = false;
        if (!listen.empty()) {
          const std::string who = directory + ".hba";  // beside it: the folder is the server's own
          std::ofstream(who) << "local all all trust\nhost all all samenet trust\n";
          ::chmod(who.c_str(), 0644);
          options.settings = {{"listen_addresses", listen}, {"hba_file", who}};
        }
        return options;
      }()) {
  server_.start();
}

void PostgresServer::kill() {
  const pid_t pid = server_.pid();
  if (pid <= 0) throw Failure("PostgreSQL does not run");
  ::kill(pid, SIGKILL);
  await_true("the end of PostgreSQL", std::chrono::seconds(10), [this] { return !server_.running(); });
}

std::vector<std::string> sql_rows(const std::string& connection, const std::string& text) {
  struct Close {
    void operator()(PGconn* c) const { PQfinish(c); }
    void operator()(PGresult* r) const { PQclear(r); }
  };
  const std::unique_ptr<PGconn, Close> c(PQconnectdb((connection + " connect_timeout=5").c_str()));
  if (PQstatus(c.get()) != CONNECTION_OK) throw Failure(PQerrorMessage(c.get()));
  PQsetNoticeProcessor(c.get(), [](void*, const char*) {}, nullptr);
  const std::unique_ptr<PGresult, Close> r(PQexec(c.get(), text.c_str()));
  const auto status = PQresultStatus(r.get());
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) throw Failure(PQresultErrorMessage(r.get()));
  std::vector<std::string> out;
  for (int i = 0; i < PQntuples(r.get()); ++i) out.emplace_back(PQgetvalue(r.get(), i, 0));
  return out;
}

void PostgresServer::create_database(const std::string& name) {
  sql_rows(server_.connection_string("postgres"), "CREATE DATABASE " + name + " STRATEGY file_copy");
}

// ---------------------------------------------------------------- network

std::string Network::prefix() { return "te" + std::to_string(getpid()); }

Network::Network(int nodes) : nodes_(nodes) {
  const auto pid = static_cast<unsigned>(getpid());
  subnet_ = "10." + std::to_string(128 + (pid >> 8) % 96) + "." + std::to_string(pid & 255);
  const std::string bridge = prefix() + "b", other_side = prefix() + "o";
  run({"ip", "link", "add", bridge, "type", "bridge"});
  run({"ip", "address", "add", scheduler_address() + "/24", "dev", bridge});
  run({"ip", "link", "set", bridge, "up"});
  run({"ip", "link", "add", other_side, "type", "bridge"});
  run({"ip", "link", "set", other_side, "up"});
  for (int i = 1; i <= nodes; ++i) {
    const std::string ns = name_space(i), outside = prefix() + "v" + std::to_string(i),
                      inside = prefix() + "i" + std::to_string(i);
    run({"ip", "netns", "add", ns});
    run({"ip", "link", "add", outside, "type", "veth", "peer", "name", inside});
    run({"ip", "link", "set", inside, "netns", ns});
    run({"ip", "-n", ns, "link", "set", inside, "name", "eth0"});
    run({"ip", "-n", ns, "address", "add", address(i) + "/24", "dev", "eth0"});
    run({"ip", "-n", ns, "link", "set", "eth0", "up"});
    run({"ip", "-n", ns, "link", "set", "lo", "up"});
    run({"ip", "link", "set", outside, "master", bridge, "up"});
  }
}

Network::~Network() {
  try {
    remove_network(prefix());
  } catch (const std::exception&) {  // the janitor tries again
  }
}

void Network::cut(int node) { run({"ip", "link", "set", prefix() + "v" + std::to_string(node), "nomaster"}); }
void Network::heal(int node) {
  run({"ip", "link", "set", prefix() + "v" + std::to_string(node), "master", prefix() + "b"});
  if (one_way_.erase(node) == 0) return;
  run({"ip", "-n", name_space(node), "neighbor", "flush", "dev", "eth0", "nud", "permanent"});
  run({"ip", "neighbor", "flush", address(node), "dev", prefix() + "b", "nud", "permanent"});
}
// By the address of a card that nobody has: the bridge shows the frames to everybody, and nobody takes them.
// It needs no packet filter, and the sender notices nothing.
constexpr auto kNobody = "02:00:00:00:00:01";
void Network::lose_from(int node) {
  one_way_.insert(node);
  run({"ip", "-n", name_space(node), "neighbor", "replace", scheduler_address(), "lladdr", kNobody, "dev",
       "eth0", "nud", "permanent"});
}
void Network::lose_to(int node) {
  one_way_.insert(node);
  run({"ip", "neighbor", "replace", address(node), "lladdr", kNobody, "dev", prefix() + "b", "nud",
       "permanent"});
}
void Network::split_off(int node) {
  run({"ip", "link", "set", prefix() + "v" + std::to_string(node), "master", prefix() + "o"});
}

void remove_network(const std::string& prefix) {
  const auto each = [&](const std::string& text, const auto& remove) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      for (std::string word; words >> word;)
        if (word.starts_with(prefix)) {
          remove(word.substr(0, word.find_first_of("@:")));
          break;
        }
    }
  };
  each(run({"ip", "netns", "list"}), [](const std::string& name) { run({"ip", "netns", "delete", name}); });
  // With a namespace its interfaces go, some time later, and with them their other ends.
  each(run({"ip", "-oneline", "link", "show"}), [](const std::string& name) {
    try {
      run({"ip", "link", "delete", name});
    } catch (const Failure& e) {
      if (std::string(e.what()).find("Cannot find device") == std::string::npos) throw;
    }
  });
}

void remove_mounts(const std::string& directory) {
  std::ifstream mounts("/proc/self/mounts");
  std::vector<std::string> below;
  for (std::string what, where, rest; mounts >> what >> where && std::getline(mounts, rest);)
    if (where.starts_with(directory)) below.push_back(where);
  for (const auto& path : below) ::umount2(path.c_str(), MNT_DETACH);
}

void remove_cgroups(const std::string& directory) {
  std::error_code ec;
  for (const auto& node : fs::directory_iterator(directory, ec))
    for (const auto& attempt : fs::directory_iterator(node.path() / "state/attempts", ec)) {
      std::ifstream note(attempt.path() / "cgroup");  // the supervisor's: where its ranks are
      std::string path;
      if (std::getline(note, path) && path.find("/tutti-") != std::string::npos) ::rmdir(path.c_str());
    }
}

// ---------------------------------------------------------------- site

Site& Site::instance() {
  static Site one;
  return one;
}

Site::Site() {
  char path[] = "/tmp/tutti-e2e-XXXXXX";
  if (mkdtemp(path) == nullptr) throw Failure("cannot make a directory in /tmp");
  root_ = path;
  ::chmod(path, 0755);
  stage();
  SpawnOptions janitor;
  janitor.argv = {program("e2e_janitor"), std::to_string(getpid()), root_, Network::prefix()};
  // Not a Process: it has to outlive us.
  janitor.argv.insert(janitor.argv.begin(), {"setsid", "--fork"});
  janitor_ = Process(janitor);
  janitor_.wait(std::chrono::seconds(10));
}

Site::~Site() {
  network_.reset();
  postgres_.reset();
  std::error_code ec;
  if (!keep_ && variable("TUTTI_E2E_KEEP", "").empty())
    fs::remove_all(root_, ec);
  else
    std::fprintf(stderr, "kept: %s\n", root_.c_str());
}

void Site::keep() {
  keep_ = true;
  std::ofstream(root_ + "/keep") << "a test failed\n";
}

void Site::stage() {
  const fs::path bin = variable("TUTTI_BIN", own_folder());
  stage_tree(bin, root_ + "/bin");
  const fs::path lib = variable("TUTTI_LIB", bin.parent_path() / "lib");
  if (fs::exists(lib)) stage_tree(lib, root_ + "/lib");
  for (const auto* name : {"torchrun", "ddp.py"})
    if (const auto file = source(std::string("training/") + name); !file.empty())
      fs::copy_file(file, root_ + "/bin/" + name);
  ::chmod((root_ + "/bin/torchrun").c_str(), 0755);
  ::chmod((root_ + "/bin/ddp.py").c_str(), 0755);
}

bool Site::has(const std::string& name) const { return access(program(name).c_str(), X_OK) == 0; }

std::string Site::source(const std::string& path) {
  // In a source tree the programs are in build/NAME/bin.
  const fs::path tree = variable("TUTTI_SOURCE", own_folder().parent_path().parent_path().parent_path());
  const auto file = tree / path;
  return fs::exists(file) ? file.string() : std::string();
}

PostgresServer& Site::postgres() {
  if (!postgres_) postgres_ = std::make_unique<PostgresServer>(root_ + "/pg");
  return *postgres_;
}

bool Site::geteuid_is_root() { return geteuid() == 0; }

Network& Site::network() {
  if (!network_) network_ = std::make_unique<Network>(kSchedulerPlace);
  return *network_;
}

std::string Site::next_directory() {
  const std::string path = root_ + "/" + std::to_string(++clusters_);
  fs::create_directory(path);
  ::chmod(path.c_str(), 0755);
  return path;
}

}  // namespace tutti::e2e
