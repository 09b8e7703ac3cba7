#include "cli/backup_site.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "cli/children.h"
#include "cli/connection.h"
#include "cli/failure.h"
#include "cli/up_files.h"
#include "db/embedded/postgres_files.h"
#include "db/migrate/connection_text.h"

namespace tutti::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kTick(500);
constexpr std::size_t kLastWords = 2000;

struct FreeOptions {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};
using Options = std::unique_ptr<PQconninfoOption, FreeOptions>;

Options parse_connection(const std::string& text) {
  if (const auto problem = db::connection_problem(text); !problem.empty())
    throw Failure(Exit::usage, "--db: " + problem);
  Options options(PQconninfoParse(text.c_str(), nullptr));
  if (!options) throw Failure(Exit::failed, "--db: out of memory");
  return options;
}

std::string quoted(const std::string& value) {
  std::string out = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string value_in(const std::string& connection_string, const char* keyword) {
  const Options options = parse_connection(connection_string);
  for (const PQconninfoOption* o = options.get(); o->keyword != nullptr; ++o)
    if (std::strcmp(o->keyword, keyword) == 0 && o->val != nullptr) return o->val;
  return "";
}

// pg_dump and pg_restore take a password from their environment, but that of a key only on the command line.
void refuse_key_password(const std::string& connection_string) {
  if (!value_in(connection_string, "sslpassword").empty())
    throw Failure(Exit::usage, "--db: sslpassword would stand on the command line of pg_dump",
                  "name a sslkey without a password, readable for its user alone (mode 0600)");
}

// Signals that would leave a half-made backup and a started server behind end the program that runs, and then
// us.
volatile sig_atomic_t interrupted = 0;
extern "C" void note_interrupt(int /*number*/) { interrupted = 1; }

class Interrupts {
 public:
  Interrupts() {
    struct sigaction action{};
    action.sa_handler = note_interrupt;
    sigaction(SIGINT, &action, &old_int_);
    sigaction(SIGTERM, &action, &old_term_);
  }
  ~Interrupts() {
    sigaction(SIGINT, &old_int_, nullptr);
    sigaction(SIGTERM, &old_term_, nullptr);
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

 private:
  struct sigaction old_int_{}, old_term_{};
};

int program_major(const std::string& path) {
  FILE* out = ::popen(("'" + path + "' --version 2>/dev/null").c_str(), "re");  // of a fixed list of places
  if (out == nullptr) return 0;
  char line[128] = {};
  if (std::fgets(line, sizeof line, out) == nullptr) line[0] = 0;
  ::pclose(out);
  const char* digits = std::strpbrk(line, "0123456789");
  return digits == nullptr ? 0 : std::atoi(digits);
}

}  // namespace

// ---------------------------------------------------------------- where

BackupSite::BackupSite(SiteOptions options, For what) : embedded_(options.db.empty()) {
  if (!embedded_) {
    refuse_key_password(options.db);
    connection_ = options.db;
    if (!options.data.empty()) data_ = fs::absolute(options.data).string();
    return;
  }
  data_ = fs::absolute(options.data.empty() ? default_data_directory() : options.data)
              .lexically_normal()
              .string();
  const std::string directory = data_ + "/postgres";
  if (what == For::reading && !db::cluster_major(directory + "/data"))
    throw Failure(Exit::not_found, "there is no embedded PostgreSQL in " + data_,
                  "--data DIR names that of the scheduler, --db a PostgreSQL of its own");
  std::error_code ec;
  fs::create_directories(data_, ec);
  if (ec) throw Failure(Exit::failed, "cannot make " + data_ + ": " + ec.message());
  if (!lock_data()) {
    if (what == For::writing)
      throw Failure(Exit::refused, "a scheduler runs in " + data_,
                    "stop it first: tutti up by Ctrl-C, tutti-scheduler by SIGTERM");
    use_running_server();
    return;
  }
  try {
    db::EmbeddedOptions embedded;
    embedded.directory = directory;
    server_ = std::make_unique<db::EmbeddedPostgres>(embedded);
    server_->start();
    connection_ = server_->connection_string();
  } catch (const db::EmbeddedError& e) {
    ::close(lock_);
    throw Failure(Exit::failed, e.what());
  }
}

bool BackupSite::would_be_made(const SiteOptions& options) {
  if (!options.db.empty()) return false;
  return !db::cluster_major((options.data.empty() ? default_data_directory() : options.data) +
                            "/postgres/data");
}

BackupSite::~BackupSite() {
  server_.reset();
  if (lock_ >= 0) ::close(lock_);
}

// The lock of a running scheduler (--data is one process's).
bool BackupSite::lock_data() {
  const std::string path = data_ + "/lock";
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) throw Failure(Exit::failed, path + ": " + std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) return true;
  ::close(std::exchange(lock_, -1));
  return false;
}

void BackupSite::use_running_server() {
  db::EmbeddedOptions embedded;
  embedded.directory = data_ + "/postgres";
  connection_ = db::EmbeddedPostgres(embedded).connection_string();
}

std::string BackupSite::name() const {
  return embedded_ ? "the embedded PostgreSQL of " + data_ : without_password(connection_);
}

// ---------------------------------------------------------------- programs

ScratchDirectory::ScratchDirectory() {
  char path[] = "/tmp/tutti-backup-XXXXXX";
  if (::mkdtemp(path) == nullptr)
    throw Failure(Exit::failed, std::string("cannot make a directory in /tmp: ") + std::strerror(errno));
  path_ = path;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ec;
  fs::remove_all(path_, ec);
}

std::string find_postgres_program(const std::string& name, int server_major) {
  std::vector<std::string> places;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", ec))
    places.push_back((entry.path() / "bin" / name).string());
  const char* path = std::getenv("PATH");
  for (std::string rest = path == nullptr ? "" : path; !rest.empty();) {
    const auto colon = rest.find(':');
    if (const auto directory = rest.substr(0, colon);
        !directory.empty() && directory.find('\'') == std::string::npos)
      places.push_back(directory + "/" + name);
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  int best = 0;
  std::string found;
  for (const auto& place : places) {
    if (::access(place.c_str(), X_OK) != 0) continue;
    if (const int major = program_major(place); major > best) best = major, found = place;
  }
  const std::string wanted = "install the package postgresql-client-" + std::to_string(server_major);
  if (found.empty()) throw Failure(Exit::failed, "there is no " + name + " here", wanted);
  if (best < server_major)
    throw Failure(Exit::failed,
                  found + " is of PostgreSQL " + std::to_string(best) + ", the server of " +
                      std::to_string(server_major),
                  wanted);
  return found;
}

std::string without_password(const std::string& connection_string) {
  const Options options = parse_connection(connection_string);
  std::string out;
  for (const PQconninfoOption* o = options.get(); o->keyword != nullptr; ++o)
    if (o->val != nullptr && *o->val != '\0' && std::strcmp(o->keyword, "password") != 0)
      out += (out.empty() ? "" : " ") + std::string(o->keyword) + "=" + quoted(o->val);
  return out;
}

std::string application_of(const std::string& program) { return "tutti-" + program; }

void run_program(const ProgramRun& run) {
  const std::string name = fs::path(run.argv.front()).filename().string();
  ChildPlan plan{.name = run.argv.front(), .argv = run.argv, .environment = {}, .log = run.log};
  if (!run.connection_string.empty()) {
    plan.argv.push_back("--dbname=" + without_password(run.connection_string) +
                        " application_name=" + application_of(name));
    if (const auto password = value_in(run.connection_string, "password"); !password.empty())
      plan.environment.emplace_back("PGPASSWORD", password);  // a command line is for everybody to read
  }
  const Interrupts interrupts;
  const pid_t pid = spawn(plan);
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  std::string broken_off;
  pollfd p{fd, POLLIN, 0};
  while (::poll(&p, 1, static_cast<int>(kTick.count())) <= 0) {
    if (run.tick) run.tick();
    if (interrupted != 0) broken_off = "interrupted";
    if (steady_clock::now() >= run.until) broken_off = name + " took longer than --deadline allows";
    if (!broken_off.empty()) ::kill(pid, SIGKILL);  // it has changed nothing that is not thrown away
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  ::close(fd);
  if (!broken_off.empty()) throw Failure(Exit::failed, broken_off);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::string words = read_end(run.log, kLastWords);
  while (!words.empty() && words.back() == '\n') words.pop_back();
  throw Failure(Exit::failed, name + ": " + describe_end(status) + (words.empty() ? "" : ":\n" + words));
}

}  // namespace tutti::cli
