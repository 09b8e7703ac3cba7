// `tutti backup` and `tutti restore`: all that the scheduler knows, as one directory, and back. On top of
// pg_dump and pg_restore, so it works for a managed PostgreSQL as well. Called by commands/local.cpp.
//
// Invariants
// 1. A backup is there whole or not at all: it is made under another name, synced, and renamed. Nothing is
// replaced.
// 2. What a restore makes is led by nobody before its last transaction: until then the table `leader` has no
// row.
//    If a restore does not come to its end, the database that it was to replace is as before.
// 3. A restored database gives away no id, epoch or term that any worker or person has seen
// (docs/design/0018-backup.md).
#pragma once

#include <iosfwd>
#include <string>

namespace tutti::cli {

struct BackupOptions {
  std::string target;  // directory to make
  std::string verify;  // instead: look whether this backup is whole
  std::string data, db;
  bool with_secrets = false;
  double deadline_seconds = 3600;
};
int run_backup(const BackupOptions& options, std::ostream& out, std::ostream& err);

struct RestoreOptions {
  std::string backup;
  std::string data, db;
  bool check = false;         // say what would be done
  bool replace = false;       // a database that is not empty
  double quiet_minutes = -1;  // nothing begins for so long; < 0: as long as old work may run somewhere
  double deadline_seconds = 3600;
};
int run_restore(const RestoreOptions& options, std::ostream& out, std::ostream& err);

}  // namespace tutti::cli
