#include "cli/backup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <ostream>
#include <pqxx/pqxx>

#include "cli/backup_manifest.h"
#include "cli/backup_site.h"
#include "cli/failure.h"

namespace tutti::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

// What the manifest says, as of the snapshot that pg_dump then reads: both are of one instant.
class OneInstant {
 public:
  explicit OneInstant(const std::string& where) : session_(where), tx_(open()) {
    snapshot_ = tx_->exec1("SELECT pg_export_snapshot()")[0].as<std::string>();
  }

  const std::string& snapshot() const { return snapshot_; }
  BackupManifest manifest();
  // It has been held for as long as the dump took: nobody must have ended it.
  void still_there() { tx_->exec1("SELECT 1"); }

 private:
  using Transaction = pqxx::transaction<pqxx::isolation_level::repeatable_read, pqxx::read_only>;
  std::unique_ptr<Transaction> open() {
    pqxx::nontransaction settings(session_);
    settings.exec(
        "SET application_name = 'tutti-backup'; SET idle_in_transaction_session_timeout = 0;"
        "SET statement_timeout = '60s'; SET timezone = 'UTC'");
    settings.commit();
    return std::make_unique<Transaction>(session_);
  }

  pqxx::connection session_;
  std::unique_ptr<Transaction> tx_;
  std::string snapshot_;
};

BackupManifest OneInstant::manifest() {
  if (tx_->exec1("SELECT to_regclass('schema_migration') IS NULL OR current_schema() <> 'public'")[0]
          .as<bool>())
    throw Failure(Exit::not_found,
                  "there is no database of Tutti in schema public of " + std::string(session_.dbname()),
                  "--db or --data names another one");
  const auto row = tx_->exec1(
      "SELECT (SELECT max(version) FROM schema_migration), current_setting('server_version'),"
      " current_setting('server_version_num')::integer / 10000,"
      " to_char(now(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), current_database(),"
      " coalesce((SELECT term FROM leader), -1), coalesce((SELECT max(id) FROM job_spec), 0),"
      " (SELECT count(*) FROM job), (SELECT count(*) FROM attempt WHERE state <> 6),"
      " (SELECT count(*) FROM job_done), to_regclass('job_array') IS NOT NULL");
  BackupManifest m;
  m.tutti = TUTTI_VERSION;
  m.schema_version = row[0].as<int>();
  m.server_version = row[1].as<std::string>();
  m.server_major = row[2].as<int>();
  m.taken_at = row[3].as<std::string>();
  m.database = row[4].as<std::string>();
  m.term = row[5].as<std::int64_t>();
  m.last_job = row[6].as<std::int64_t>();
  m.unfinished_jobs = row[7].as<std::int64_t>();
  m.live_attempts = row[8].as<std::int64_t>();
  m.finished_jobs = row[9].as<std::int64_t>();
  if (row[10].as<bool>()) {  // of an older schema there is none
    const auto folded = tx_->exec1(
        "SELECT coalesce(max(last), 0), coalesce(sum(tutti_tasks_in(waiting)), 0)::bigint FROM job_array");
    m.last_job = std::max(m.last_job, folded[0].as<std::int64_t>());
    m.unfinished_jobs += folded[1].as<std::int64_t>();
  }
  if (m.term < 0)
    throw Failure(Exit::failed,
                  "a restore into this database has not come to its end: it is no use to keep it");
  return m;
}

// A directory that goes unless it is kept.
class HalfMade {
 public:
  explicit HalfMade(const std::string& target) : path_(target + ".partial-" + std::to_string(::getpid())) {
    if (::mkdir(path_.c_str(), 0700) != 0)
      throw Failure(Exit::failed, "cannot make " + path_ + ": " + std::strerror(errno));
  }
  ~HalfMade() {
    if (path_.empty()) return;
    std::error_code ec;
    fs::remove_all(path_, ec);
  }
  HalfMade(const HalfMade&) = delete;
  HalfMade& operator=(const HalfMade&) = delete;

  const std::string& path() const { return path_; }
  void becomes(const std::string& target) {
    sync_path(path_);
    rename_durably(path_, target);
    path_.clear();
  }

 private:
  std::string path_;
};

void dump(const BackupOptions& options, const BackupSite& site, const BackupManifest& manifest,
          const std::string& snapshot, const std::string& directory, std::ostream& err) {
  const std::string file = directory + "/" + kDump;
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  ProgramRun run;
  run.argv = {find_postgres_program("pg_dump", manifest.server_major),
              "--format=custom",
              "--schema=public",
              "--no-owner",
              "--no-privileges",
              "--no-password",
              "--lock-wait-timeout=10000",
              "--snapshot=" + snapshot,
              "--file=" + file};
  run.connection_string = site.connection_string();
  const ScratchDirectory scratch;
  run.log = scratch.file("log");
  run.until = steady_clock::now() +
              std::chrono::milliseconds(static_cast<long long>(options.deadline_seconds * 1000));
  run.tick = [&] {
    std::error_code ec;
    const auto bytes = fs::file_size(file, ec);
    if (terminal && !ec) err << "\rtutti backup: " << bytes_text(bytes) << " written " << std::flush;
  };
  run_program(run);
  if (terminal) err << "\r\x1b[K" << std::flush;
  fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
  sync_path(file);
}

int verify(const std::string& backup, std::ostream& out) {
  const BackupManifest manifest = read_manifest(backup);
  check_parts(backup, manifest);
  out << describe(manifest, backup) << "whole      all parts are as the manifest says\n";
  return 0;
}

}  // namespace

int run_backup(const BackupOptions& options, std::ostream& out, std::ostream& err) {
  if (options.verify.empty() == options.target.empty())
    throw Failure(Exit::usage, "one name is needed: of the directory to make, or of one to --verify",
                  "tutti backup /backups/tutti-monday");
  if (!options.verify.empty()) return verify(options.verify, out);
  const std::string target = fs::absolute(options.target).lexically_normal().string();
  if (fs::exists(fs::symlink_status(target)))
    throw Failure(Exit::usage, target + " is there already",
                  "a backup replaces nothing: choose another name");
  if (options.with_secrets && !options.db.empty() && options.data.empty())
    throw Failure(Exit::usage, "--with-secrets needs --data: the scheduler's data directory",
                  "the files secret and token in it");
  try {
    const BackupSite site({.data = options.data, .db = options.db}, BackupSite::For::reading);
    HalfMade half(target);
    BackupManifest manifest;
    {
      OneInstant instant(site.connection_string());
      manifest = instant.manifest();
      dump(options, site, manifest, instant.snapshot(), half.path(), err);
      instant.still_there();
    }
    manifest.parts.push_back(measure_part(half.path(), kDump));
    manifest.with_secrets = options.with_secrets;
    if (options.with_secrets)
      for (const char* name : {"secret", "token"}) {
        copy_durably(site.data() + "/" + name, half.path() + "/" + name, 0600);
        manifest.parts.push_back(measure_part(half.path(), name));
      }
    write_durably(half.path() + "/" + kManifest, manifest_text(manifest), 0600);
    half.becomes(target);
    out << describe(manifest, target);
    return 0;
  } catch (const pqxx::failure& e) {
    throw Failure(Exit::unreachable, std::string("PostgreSQL: ") + e.what(),
                  "--db or --data says which one; nothing was made");
  }
}

}  // namespace tutti::cli
