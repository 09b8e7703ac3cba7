#include "cli/support_bundle.h"

#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <ostream>
#include <set>
#include <sstream>

#include "api/wire/tar_gz.h"
#include "api/wire/text_values.h"
#include "cli/doctor_machine.h"
#include "cli/documents.h"
#include "cli/run_program.h"

extern char** environ;  // NOLINT

namespace tutti::cli {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;
using Got = BundleParts::Got;

constexpr std::size_t kMostOfPart = 8 << 20;
constexpr const char* kLogLines = "20000";

// What is asked of the server, and what it is called in the bundle.
struct Asked {
  const char* name;
  const char* path;
};
constexpr Asked kAsked[] = {{"server/cluster.json", "/v1/cluster"},
                            {"server/readyz.json", "/readyz"},
                            {"server/control-plane.json", "/v1/control-plane"},
                            {"server/metrics.txt", "/metrics"},
                            {"server/nodes.json", "/v1/nodes"},
                            {"server/gpus.json", "/v1/gpus"},
                            {"server/queues.json", "/v1/queues"},
                            {"server/reservations.json", "/v1/reservations"},
                            {"server/queue.json", "/v1/queue?page_size=200"},
                            {"server/faults.json", "/v1/faults?limit=1000"},
                            {"server/report-yesterday.json", "/v1/report"}};

constexpr const char* kTables =
    "SELECT relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid) AS bytes, last_autovacuum, "
    "last_autoanalyze "
    "FROM pg_stat_user_tables ORDER BY bytes DESC";
constexpr const char* kSettings =
    "SELECT name, setting, unit, source FROM pg_settings WHERE source NOT IN ('default', 'override') AND "
    "name NOT LIKE "
    "'%conninfo%' AND name NOT LIKE '%command%' AND name NOT LIKE '%passphrase%' ORDER BY name";
constexpr const char* kSessions =
    "SELECT application_name, state, wait_event_type, wait_event, count(*), max(now() - xact_start) AS "
    "oldest "
    "FROM pg_stat_activity GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC";
constexpr const char* kDatabase =
    "SELECT version(); SELECT * FROM pg_stat_database WHERE datname = current_database(); SELECT * FROM "
    "leader_term "
    "ORDER BY term DESC LIMIT 20; SELECT * FROM pg_stat_replication";

Got ask(Session& session, const char* path) {
  const Outcome outcome = session.client.try_get(path);
  if (outcome.trouble != Trouble::none) return {"", "the server does not answer: " + outcome.why, false};
  if (outcome.reply.status >= 300 && std::string_view(path) != "/readyz")
    return {"",
            "it answered " + std::to_string(outcome.reply.status) + ": " + outcome.reply.body.substr(0, 300),
            false};
  return {outcome.reply.body, "", false};
}

Got of_program(const std::vector<std::string>& argv, std::chrono::milliseconds deadline) {
  auto got = run_program(argv, deadline, kMostOfPart, true);
  if (!got.found) return {"", "there is no " + argv.front() + " here", false};
  if (!got.ended && got.output.empty()) return {"", argv.front() + " did not end in time", false};
  if (got.status != 0 && got.output.empty())
    return {"", argv.front() + " ended with " + std::to_string(got.status), false};
  return {std::move(got.output), "", got.cut || !got.ended};
}

Got end_of_file(const std::string& path) {
  std::error_code ec;
  if (!fs::is_regular_file(path, ec)) return {"", path + " is no file that can be read", false};
  std::ifstream in(path, std::ios::binary);
  const auto size = static_cast<std::size_t>(fs::file_size(path, ec));
  if (!in || ec) return {"", path + " cannot be read", false};
  const auto from = size > kMostOfPart ? size - kMostOfPart : 0;
  in.seekg(static_cast<std::streamoff>(from));
  std::string text(size - from, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return {std::move(text), "", from > 0};
}

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Schedulers and workers of this machine, by their directory in /proc: what they were started with.
std::map<fs::path, std::vector<std::string>> programs_here() {
  std::map<fs::path, std::vector<std::string>> out;
  std::error_code ec;
  for (fs::directory_iterator at("/proc", ec), end; !ec && at != end; at.increment(ec)) {
    const auto pid = at->path().filename().string();
    if (pid.find_first_not_of("0123456789") != pid.npos) continue;
    std::vector<std::string> words;
    std::istringstream line(slurp(at->path() / "cmdline"));
    for (std::string word; std::getline(line, word, '\0');) words.push_back(word);
    if (words.empty()) continue;
    const auto program = fs::path(words.front()).filename();
    if (program == "tutti-scheduler" || program == "tutti-worker") out.emplace(at->path(), std::move(words));
  }
  return out;
}

// The redactor takes values out.
Got flags_here() {
  std::string text;
  for (const auto& [process, words] : programs_here()) {
    text += process.filename().string();
    for (const auto& word : words) text += " " + word;
    text += "\n";
  }
  return text.empty() ? Got{"", "no scheduler and no worker runs here", false} : Got{text, "", false};
}

// Those that were named; else those that what runs here was started with, and those of the packages, for a
// program that does not start.
std::set<std::string> configurations(const BundleOptions& options) {
  if (!options.configs.empty()) return {options.configs.begin(), options.configs.end()};
  constexpr std::string_view kFlag = "--config";
  std::set<std::string> out;
  std::error_code ec;
  for (const auto& [process, words] : programs_here())
    for (std::size_t i = 1; i < words.size(); ++i) {
      std::string file;
      if (words[i] == kFlag && i + 1 < words.size()) file = words[i + 1];
      if (words[i].starts_with(std::string(kFlag) + "=")) file = words[i].substr(kFlag.size() + 1);
      if (!file.empty()) out.insert((fs::read_symlink(process / "cwd", ec) / file).lexically_normal());
    }
  for (const char* file : {"/etc/tutti/scheduler.toml", "/etc/tutti/worker.toml"})
    if (fs::exists(file, ec)) out.insert(file);
  return out;
}

Got configuration(const std::string& file) {
  Got got = end_of_file(file);
  got.text = redacted_config(got.text);
  return got;
}

// Asked for in reverse, so that the bound, or the deadline, costs what is oldest.
Got journal(const std::string& unit, std::chrono::milliseconds deadline) {
  Got got = of_program(
      {"journalctl", "--no-pager", "-q", "-o", "short-iso", "-r", "-n", kLogLines, "-u", unit}, deadline);
  got.text = in_order_of_time(got.text, got.cut);
  return got;
}

Got machine_here() {
  utsname name{};
  uname(&name);
  std::string text = std::string(name.sysname) + " " + name.release + " " + name.machine + "\n";
  for (const auto* file :
       {"/etc/os-release", "/proc/loadavg", "/proc/uptime", "/proc/meminfo", "/proc/self/limits",
        "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory", "/proc/self/cgroup"})
    if (const std::string is = slurp(file); !is.empty()) text += std::string("\n# ") + file + "\n" + is;
  return {text, "", false};
}

Got database(const std::string& db, std::chrono::milliseconds deadline) {
  if (db.empty()) return {"", "not asked for: --db", false};
  if (has_password(db))
    return {"", "the connection string holds a password: use ~/.pgpass or PGPASSWORD", false};
  std::vector<std::string> argv = {"psql", "-X", "-w", "-d", db};
  for (const auto* question : {kDatabase, kTables, kSessions, kSettings})
    argv.insert(argv.end(), {"-c", question});
  return of_program(argv, deadline);
}

// What must not leave: what this program was given, what a scheduler here keeps, and its environment.
Redactor redactor_for(const Session& session, const BundleOptions& options) {
  std::map<std::string, std::string> env;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string line = *at;
    if (const auto equals = line.find('='); equals != line.npos)
      env[line.substr(0, equals)] = line.substr(equals + 1);
  }
  std::vector<std::string> values = {session.client.connection().token};
  for (const auto* file : {"token", "secret"}) {
    std::string value = slurp(options.doctor.data + "/" + file);
    value.resize(std::min(value.size(), value.find_last_not_of(" \r\n") + 1));
    values.push_back(std::move(value));
  }
  std::erase(values, "");
  return {env, values};
}

std::string safe_name(std::string path) {
  std::ranges::replace(path, '/', '_');
  return path.size() > 60 ? path.substr(path.size() - 60) : path;
}

void write_whole(const std::string& path, const std::string& bytes) {
  const std::string half = path + ".part";
  // Nobody else's from its first byte on, and no file or link that was put there before.
  const int fd = open(half.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EEXIST)
    throw Failure(Exit::usage, "cannot write " + path + ": " + half +
                                   " is there; unless another bundle is being written, remove it");
  if (fd < 0) throw Failure(Exit::usage, "cannot write " + path + ": " + std::strerror(errno));
  bool good = true;
  for (std::size_t done = 0; good && done < bytes.size();) {
    const ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
    if (n > 0) done += static_cast<std::size_t>(n);
    good = n > 0 || (n < 0 && errno == EINTR);
  }
  good = close(fd) == 0 && good && std::rename(half.c_str(), path.c_str()) == 0;
  const std::string why = good ? "" : std::strerror(errno);
  if (!good) unlink(half.c_str());
  if (!good) throw Failure(Exit::usage, "cannot write " + path + ": " + why);
}

}  // namespace

std::string in_order_of_time(std::string_view newest_first, bool cut) {
  if (cut) newest_first = newest_first.substr(0, newest_first.rfind('\n') + 1);
  std::string out;
  out.reserve(newest_first.size() + 1);
  while (!newest_first.empty()) {  // the last entry that is left: back to a line that is not indented
    std::size_t begin = newest_first.size();
    do {
      const auto newline = begin < 2 ? newest_first.npos : newest_first.rfind('\n', begin - 2);
      begin = newline == newest_first.npos ? 0 : newline + 1;
    } while (begin > 0 && (newest_first[begin] == ' ' || newest_first[begin] == '\t'));
    out.append(newest_first.substr(begin));
    if (!out.ends_with('\n')) out += '\n';
    newest_first = newest_first.substr(0, begin);
  }
  return out;
}

namespace {

// Behind the value of a key that begins at `at`. In a line that is commented out, '#' begins no comment.
std::size_t end_of_value(std::string_view toml, std::size_t at, bool commented) {
  int depth = 0;
  while (at < toml.size()) {
    const char c = toml[at];
    if (c == '\n' && depth <= 0) break;
    if (c == '#' && !commented) {
      at = std::min(toml.find('\n', at), toml.size());
      continue;
    }
    if (c != '"' && c != '\'') {
      depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
      ++at;
      continue;
    }
    const std::string quotes(toml.substr(at, 3) == std::string(3, c) ? 3 : 1, c);
    at += quotes.size();
    for (; at < toml.size() && toml.substr(at, quotes.size()) != quotes; ++at) {
      if (quotes.size() == 1 && toml[at] == '\n') return at;  // it does not end: a file that is wrong
      if (c == '"' && toml[at] == '\\') ++at;
    }
    at = std::min(at + quotes.size(), toml.size());
  }
  return at;
}

}  // namespace

std::string redacted_config(std::string_view toml) {
  std::string out;
  for (std::size_t at = 0; at < toml.size();) {
    const auto end = std::min(toml.find('\n', at), toml.size());
    const std::string_view line = toml.substr(at, end - at);
    const auto equals = line.find('=');
    std::string name(line.substr(0, equals == line.npos ? 0 : equals));
    const bool commented = name.find('#') != name.npos;
    std::erase_if(name, [](char c) { return c == ' ' || c == '\t' || c == '#' || c == '"' || c == '\''; });
    // Here a plural is a list of them, not a number as in "max_tokens" of a job.
    const bool secret =
        equals != line.npos &&
        (is_secret_name(name) || (name.ends_with('s') && is_secret_name(name.substr(0, name.size() - 1))));
    const auto next = secret ? end_of_value(toml, at + equals + 1, commented) : end;
    out.append(secret ? line.substr(0, equals + 1) : line);
    if (secret) out.append(" \"[redacted]\"");
    if (next < toml.size()) out += '\n';
    at = next + 1;
  }
  return out;
}

void BundleParts::add(const std::string& name, const std::function<Got()>& get) {
  const auto began = std::chrono::steady_clock::now();
  Part part;
  part.name = name;
  try {
    Got got = get();
    part.missing = redactor_.text(got.missing);
    part.cut = got.cut;
    part.text = redactor_.text(got.text);
  } catch (const std::exception& e) {
    part.missing = redactor_.text(e.what());
  }
  const auto most = std::min(kMostOfPart, left_);
  if (part.text.size() > most) {  // what came last says more
    part.text.erase(0, part.text.size() - most);
    part.cut = true;
  }
  if (most == 0 && part.missing.empty()) part.missing = "the bundle is full: --max-mb";
  left_ -= part.text.size();
  part.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  parts_.push_back(std::move(part));
}

std::string BundleParts::finish(const std::string& made_at) {
  json::array list;
  for (const auto& part : parts_)
    list.push_back(json::object{{"name", part.name},
                                {"bytes", part.text.size()},
                                {"result", !part.missing.empty() ? "missing"
                                           : part.cut            ? "cut"
                                                                 : "whole"},
                                {"why", part.missing},
                                {"seconds", part.seconds}});
  const json::object manifest{{"made_at", made_at}, {"client", client_version()}, {"parts", std::move(list)}};
  const auto now = static_cast<std::int64_t>(std::time(nullptr));
  wire::TarGz tar;
  tar.add("support/manifest.json", json::serialize(manifest) + "\n", now);
  for (const auto& part : parts_)
    if (part.missing.empty()) tar.add("support/" + part.name, part.text, now);
  tar.add_end();
  return tar.finish();
}

int run_support_bundle(Session& session, const BundleOptions& options, const ConnectionFlags& flags) {
  BundleParts parts(redactor_for(session, options), static_cast<std::size_t>(options.most_mb) << 20);
  const auto said = [&](const std::string& name, const std::function<Got()>& get) {
    if (session.human() && session.error_is_terminal) session.err << "tutti: " << name << "\n";
    parts.add(name, get);
  };
  said("doctor.json", [&]() -> Got {
    DoctorOptions doctor = options.doctor;
    doctor.machine = true;
    const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(options.deadline);
    return {json::serialize(doctor_view(doctor_checks(session.look, flags, timeout, doctor))), "", false};
  });
  for (const auto& asked : kAsked) said(asked.name, [&] { return ask(session, asked.path); });
  said("machine/flags.txt", flags_here);
  said("machine/machine.txt", machine_here);
  const auto configs = configurations(options);
  for (const auto& file : configs) said("config/" + safe_name(file), [&] { return configuration(file); });
  if (configs.empty()) said("config", []() -> Got { return {"", "no configuration file is here", false}; });
  for (const auto& unit : options.units)
    said("logs/" + unit + ".journal", [&] { return journal(unit, options.deadline); });
  for (const auto& log : options.logs) said("logs/" + safe_name(log), [&] { return end_of_file(log); });
  said("database.txt", [&] { return database(options.doctor.db, options.deadline); });

  const std::string at = wire::format_instant(std::chrono::floor<Duration>(session.look.now));
  const std::string bytes = parts.finish(at);
  if (options.file == "-") {
    session.out << bytes;
    return 0;
  }
  const std::string path = options.file.empty() ? "support-" + at.substr(0, 10) + ".tar.gz" : options.file;
  write_whole(path, bytes);
  session.err << path << ": " << bytes.size() / 1024 << " KiB; tar xzf " << path
              << ", then read support/manifest.json first. Look through it before you send it on.\n";
  return 0;
}

}  // namespace tutti::cli
