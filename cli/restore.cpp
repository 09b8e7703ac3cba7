// `tutti restore`: a backup into an empty database, or in the place of what is there. What the rows must
// become so that nothing of before can come again is in restore_rows.cpp.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <pqxx/pqxx>
#include <utility>

#include "cli/backup.h"
#include "cli/backup_manifest.h"
#include "cli/backup_site.h"
#include "cli/failure.h"
#include "cli/restore_rows.h"
#include "db/migrate/migrate.h"

namespace tutti::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr const char* kLeaderLock = "7381204461550002";  // of db/pg/pg_store.cpp
constexpr const char* kAside = "tutti_replaced";         // schema that holds what was there, until the end

int newest_schema() { return static_cast<int>(db::embedded_migrations().size()); }

void refuse_newer(const BackupManifest& m) {
  if (m.schema_version <= newest_schema()) return;
  throw Failure(Exit::usage,
                "the backup is of schema version " + std::to_string(m.schema_version) + " (tutti " + m.tutti +
                    "), this program knows versions up to " + std::to_string(newest_schema()),
                "restore it with the tutti that made it, or a newer one");
}

// Our session with the database. It keeps the leader lock from beginning to end: no scheduler leads
// meanwhile.
class Place {
 public:
  explicit Place(const std::string& where) : session_(where) {
    pqxx::nontransaction tx(session_);
    tx.exec(
        "SET application_name = 'tutti-restore'; SET client_min_messages = warning; SET timezone = 'UTC';"
        "SET lock_timeout = '10s'; SET idle_session_timeout = 0");
    major_ = tx.exec1("SELECT current_setting('server_version_num')::integer / 10000")[0].as<int>();
    empty_ = tx.exec1(
                   "SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                   " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'S', 'm'))")[0]
                 .as<bool>();
    half_replaced_ =
        tx.exec1(std::string("SELECT to_regnamespace('") + kAside + "') IS NOT NULL")[0].as<bool>();
    if (!empty_ && tx.exec1("SELECT to_regclass('public.leader') IS NOT NULL")[0].as<bool>()) {
      const auto rows = tx.exec("SELECT holder, term FROM public.leader");
      if (!rows.empty()) holder_ = rows[0][0].as<std::string>(), term_ = rows[0][1].as<std::int64_t>();
    }
    if (half_replaced_ &&
        tx.exec1(std::string("SELECT to_regclass('") + kAside + ".leader') IS NOT NULL")[0].as<bool>()) {
      const auto rows = tx.exec(std::string("SELECT term FROM ") + kAside + ".leader");
      if (!rows.empty()) term_aside_ = rows[0][0].as<std::int64_t>();
    }
    leads_ = !tx.exec1(std::string("SELECT pg_try_advisory_lock(") + kLeaderLock + ")")[0].as<bool>();
  }

  int major() const { return major_; }
  bool empty() const { return empty_; }
  bool half_replaced() const { return half_replaced_; }
  bool somebody_leads() const { return leads_; }
  const std::string& holder() const { return holder_; }
  std::int64_t term() const { return term_; }
  std::int64_t newest_term() const { return std::max(term_, term_aside_); }  // also of what stands aside
  pqxx::connection& session() { return session_; }

  void run(const std::string& text) {
    pqxx::nontransaction tx(session_);
    tx.exec(text);
  }
  // One that is not ours any more may still load: its transaction must not end after what comes now.
  void end_loaders() {
    pqxx::nontransaction tx(session_);
    tx.exec_params(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
        " AND usename = session_user AND application_name = $1::text AND pid <> pg_backend_pid()",
        application_of("pg_restore"));
  }

 private:
  pqxx::connection session_;
  int major_ = 0;
  bool empty_ = true, half_replaced_ = false, leads_ = false;
  std::string holder_;
  std::int64_t term_ = 0, term_aside_ = 0;
};

void refuse(const RestoreOptions& options, const BackupManifest& m, const Place& place) {
  if (place.somebody_leads())
    throw Failure(Exit::refused, "a scheduler leads on this database: " + place.holder(),
                  "stop all schedulers first; workers may run on");
  if (m.server_major > place.major())
    throw Failure(Exit::usage,
                  "the backup is of PostgreSQL " + std::to_string(m.server_major) + ", this server is " +
                      std::to_string(place.major()),
                  "restore into the same major version, or a newer one");
  if (!place.empty() && !options.replace)
    throw Failure(
        Exit::refused, "the database is not empty",
        "restore into a new one, or with --replace in the place of what is there (all schedulers stopped)");
  if (place.half_replaced() && !place.empty() && place.term() > 0)
    throw Failure(
        Exit::refused, std::string("schema ") + kAside + " is there: a restore before this one was cut off",
        std::string("look what is in it; DROP SCHEMA ") + kAside + " CASCADE when it is not needed");
}

// Of what is restored nothing depends on it: if it fails, that is said, and a person does it.
void tidy(Place& place, const std::string& text, std::ostream& err) {
  try {
    place.run(text);
  } catch (const std::exception& e) {
    err << "tutti restore: the restore is complete, but " << text << " failed: " << e.what()
        << "\ntutti restore: run that by hand\n";
  }
}

// What was there stands aside until the restored rows are complete, and comes back if they never are.
class Replaced {
 public:
  Replaced(Place& place, std::ostream& err) : place_(place), err_(err) {
    place.end_loaders();
    was_empty_ = place.empty() && !place.half_replaced();
    if (was_empty_) return;
    // Of a restore that was cut off: what it was to replace is the one to keep.
    if (place.half_replaced())
      place.run("DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public");
    else
      place.run(std::string("ALTER SCHEMA public RENAME TO ") + kAside + "; CREATE SCHEMA public");
    aside_ = true;
  }
  ~Replaced() {
    if (!aside_ && !was_empty_) return;
    try {
      place_.end_loaders();
      place_.run(
          "DROP SCHEMA IF EXISTS public CASCADE; " +
          (aside_ ? std::string("ALTER SCHEMA ") + kAside + " RENAME TO public" : "CREATE SCHEMA public"));
    } catch (const std::exception& e) {  // the next restore finds the schema
      err_ << "tutti restore: the database is not as it was before: " << e.what() << "\n";
      if (aside_)
        err_ << "tutti restore: what was there is whole, in schema " << kAside
             << ": run the restore again with --replace; no scheduler leads until then\n";
      else
        err_ << "tutti restore: it was empty; run the restore again with --replace\n";
    }
  }
  Replaced(const Replaced&) = delete;
  Replaced& operator=(const Replaced&) = delete;
  // The restored rows hold, whatever becomes of the old ones.
  void not_needed() {
    was_empty_ = false;
    if (std::exchange(aside_, false)) tidy(place_, std::string("DROP SCHEMA ") + kAside + " CASCADE", err_);
  }

 private:
  Place& place_;
  std::ostream& err_;
  bool aside_ = false, was_empty_ = false;
};

// All that is in the dump but the schema itself and the row of the leader, which comes last, and by us.
void choose_contents(const std::string& all, const std::string& chosen) {
  std::ifstream in(all);
  std::ofstream out(chosen);
  for (std::string line; std::getline(in, line);) {
    const auto has = [&](const char* what) { return line.find(what) != std::string::npos; };
    if (has(" SCHEMA - public ") || has(" COMMENT - SCHEMA public ") || has(" ACL - SCHEMA public ") ||
        has(" TABLE DATA public leader "))
      continue;
    out << line << "\n";
  }
  out.close();
  if (!in.eof() || !out) throw Failure(Exit::failed, "cannot write " + chosen);
}

void load_rows(const RestoreOptions& options, const BackupSite& site, int major, std::ostream& err) {
  const ScratchDirectory work;
  const std::string program = find_postgres_program("pg_restore", major);
  const std::string dump = options.backup + "/" + kDump;
  const auto until = steady_clock::now() +
                     std::chrono::milliseconds(static_cast<long long>(options.deadline_seconds * 1000));
  run_program({.argv = {program, "--list", "--file=" + work.file("all"), dump},
               .connection_string = {},
               .log = work.file("list.log"),
               .until = until,
               .tick = {}});
  choose_contents(work.file("all"), work.file("chosen"));
  const auto began = steady_clock::now();
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  run_program({.argv = {program, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges",
                        "--no-password", "--use-list=" + work.file("chosen"), dump},
               .connection_string = site.connection_string(),
               .log = work.file("restore.log"),
               .until = until,
               .tick = [&] {
                 const auto s = std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - began);
                 if (terminal) err << "\rtutti restore: loading, " << s.count() << " s " << std::flush;
               }});
  if (terminal) err << "\r\x1b[K" << std::flush;
}

// Those that were there stay until both of the backup are whole on the disk.
void restore_secrets(const BackupManifest& m, const std::string& backup, const std::string& data) {
  if (!m.with_secrets || data.empty()) return;
  fs::create_directories(data);
  const auto files = {"secret", "token"};
  for (const std::string name : files) {
    fs::remove(data + "/" + name + ".new");  // of a restore that was cut off
    copy_durably(backup + "/" + name, data + "/" + name + ".new", 0600);
  }
  for (const std::string name : files) fs::rename(data + "/" + name + ".new", data + "/" + name);
  sync_path(data);
}

// A scheduler with other secrets than those that the database knows cannot open what is sealed in it.
void refuse_other_secrets(const BackupManifest& m, const RestoreOptions& options, const std::string& data) {
  if (!m.with_secrets || data.empty() || options.replace) return;
  for (const auto& part : m.parts)
    if (part.name != kDump && fs::exists(data + "/" + part.name) &&
        measure_part(data, part.name).sha256 != part.sha256)
      throw Failure(Exit::refused, data + "/" + part.name + " is another one than in the backup",
                    "move it away if the one of the backup is to hold, or name an empty --data");
}

void say_plan(const BackupManifest& m, const RestorePlan& plan, const std::string& into, std::ostream& out) {
  out << "into       " << into << "\n";
  for (const auto& migration : db::embedded_migrations())
    if (migration.version > m.schema_version) out << "migrate    " << migration.name << "\n";
  out << "term       from " << m.term << " to " << plan.term << ": workers obey no leader of before\n"
      << "ids        jobs go on above " << m.last_job + kJobGap << ", epochs of their attempts above "
      << kEpochGap << "\n"
      << "running    " << m.live_attempts << " attempts are over; their jobs wait again\n";
  if (plan.quiet.count() > 0)
    out << "quiet      nothing begins for " << plan.quiet.count()
        << " s (reservation restored): old work may run where it is not seen\n";
}

}  // namespace

int run_restore(const RestoreOptions& asked, std::ostream& out, std::ostream& err) {
  RestoreOptions options = asked;
  options.backup = fs::absolute(options.backup).lexically_normal().string();
  const BackupManifest manifest = read_manifest(options.backup);
  refuse_newer(manifest);
  check_parts(options.backup, manifest);
  out << describe(manifest, options.backup);
  if (options.check && BackupSite::would_be_made({.data = options.data, .db = options.db})) {
    const RestorePlan plan{.taken_at = manifest.taken_at,
                           .term = manifest.term + kTermGap,
                           .quiet = quiet_time(options.quiet_minutes)};
    say_plan(manifest, plan, "an embedded PostgreSQL that is made for it", out);
    out << "nothing was changed\n";
    return 0;
  }
  try {
    const BackupSite site({.data = options.data, .db = options.db}, BackupSite::For::writing);
    Place place(site.connection_string());
    RestorePlan plan{.taken_at = manifest.taken_at, .term = 0, .quiet = quiet_time(options.quiet_minutes)};
    plan.term = std::max(manifest.term, place.newest_term()) + kTermGap;
    refuse(options, manifest, place);
    refuse_other_secrets(manifest, options, site.data());
    say_plan(manifest, plan,
             site.name() + (place.empty() ? ", which is empty" : ", in the place of what is there"), out);
    if (options.check) {
      out << "nothing was changed\n";
      return 0;
    }
    Replaced replaced(place, err);
    load_rows(options, site, manifest.server_major, err);
    const auto migrated = db::migrate(site.connection_string());
    for (const auto& name : migrated.applied) out << "migrated   " << name << "\n";
    const RestoreResult result = raise_above_the_past(place.session(), plan);
    restore_secrets(manifest, options.backup, site.data());  // if it fails, the old rows come back
    replaced.not_needed();
    tidy(place, "ANALYZE", err);
    out << "restored   " << result.jobs << " unfinished jobs, of which " << result.requeued
        << " ran at the backup and wait again; the next job is " << result.next_job << "\n"
        << "next       start the scheduler"
        << (plan.quiet.count() > 0 ? "; when all workers are connected: tutti unset reservation restored\n"
                                   : "\n");
    return 0;
  } catch (const db::MigrateError& e) {
    throw Failure(Exit::failed, e.what(), "nothing was restored");
  } catch (const pqxx::failure& e) {
    throw Failure(Exit::failed, std::string("PostgreSQL: ") + e.what(),
                  "the restore did not come to its end; mend it, and run it again with --replace");
  }
}

}  // namespace tutti::cli
