// What a backup says of itself: manifest.json in its directory. Used by backup.cpp and restore.cpp.
//
// clang-format off
//   NAME/manifest.json      this; written last
//   NAME/database.dump      pg_dump, custom format
//   NAME/secret, token      only with --with-secrets; mode 0600
// clang-format on
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tutti::cli {

struct BackupPart {
  std::string name;
  std::uint64_t bytes = 0;
  std::string sha256;
};

struct BackupManifest {
  std::string tutti;  // version of the program that made it
  int schema_version = 0;
  std::string server_version;  // of PostgreSQL: "15.14"
  int server_major = 0;
  std::string taken_at;  // RFC 3339, UTC; the instant that all rows are of
  std::string database;
  std::int64_t term = 0, last_job = 0;
  std::int64_t unfinished_jobs = 0, live_attempts = 0, finished_jobs = 0;
  bool with_secrets = false;
  std::vector<BackupPart> parts;
};

inline constexpr const char* kManifest = "manifest.json";
inline constexpr const char* kDump = "database.dump";

std::string manifest_text(const BackupManifest& manifest);
// Throws Failure: there is no such backup, it is none, or of a format this program does not know.
BackupManifest read_manifest(const std::string& backup);
// Throws Failure naming the first part that is missing, shorter or other than the manifest says.
void check_parts(const std::string& backup, const BackupManifest& manifest);

BackupPart measure_part(const std::string& directory, const std::string& name);
std::string describe(const BackupManifest& manifest, const std::string& backup);

// Files of a backup; all throw Failure with path and reason.
void write_durably(const std::string& path, const std::string& text, unsigned mode);
void copy_durably(const std::string& from, const std::string& to, unsigned mode);
void sync_path(const std::string& path);  // a file or a directory
// Refuses to replace anything; durable when it returns.
void rename_durably(const std::string& from, const std::string& to);
std::string bytes_text(std::uint64_t bytes);  // "12.3 MB"

}  // namespace tutti::cli
