#include "worker/supervisor/checkpoint_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <map>

#include "worker/supervisor/checkpoint_manifest.h"
#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::size_t kChunk = 4 << 20;
constexpr std::size_t kMaxNote = 64 << 10;

[[noreturn]] void file_trouble(const std::string& path) {
  throw CheckpointError(kFileTrouble, path + ": " + std::strerror(errno));
}

void make_durable(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || fsync(fd.get()) != 0) file_trouble(path);
}

void replace(const std::string& path, const std::string& text) {
  try {
    replace_file(path, text, true);
  } catch (const std::system_error& e) {
    throw CheckpointError(kFileTrouble, path + ": " + e.what());
  }
  make_durable(fs::path(path).parent_path());
}

// Its data reach the disk before they are promised.
Shard measure(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name;
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat info{};
  if (!fd || fstat(fd.get(), &info) != 0) file_trouble(path);
  if (!S_ISREG(info.st_mode)) throw CheckpointError(kIncomplete, path + " is no regular file");
  if (fsync(fd.get()) != 0) file_trouble(path);
  Crc32c crc;
  Shard shard{name, 0, {}};
  std::vector<char> buffer(kChunk);
  while (true) {
    const auto n = read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) file_trouble(path);
    if (n == 0) break;
    crc.add(buffer.data(), static_cast<std::size_t>(n));
    shard.bytes += n;
  }
  shard.crc32c = crc.value();
  return shard;
}

std::vector<std::string> files_below(const std::string& folder, const std::string& name) {
  if (!fs::is_directory(fs::symlink_status(folder + "/" + name))) return {name};
  std::vector<std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder + "/" + name))
    if (!entry.is_directory()) out.push_back(fs::relative(entry.path(), folder).string());
  std::ranges::sort(out);
  return out;
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::int64_t wall_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string note_name(const std::string& file) {
  Crc32c crc;
  crc.add(file.data(), file.size());
  std::string plain = file.substr(file.size() > 100 ? file.size() - 100 : 0);
  std::ranges::replace(plain, '/', '_');
  return crc_text(crc.value()) + "-" + plain + ".json";
}

}  // namespace

std::string CheckpointWriter::folder(std::int64_t step) const {
  return dir_ + "/step-" + std::to_string(step);
}

// By epoch: what another attempt has noted counts for nothing.
std::string CheckpointWriter::notes(std::int64_t step) const {
  return folder(step) + "/.tutti-epoch-" + std::to_string(epoch_);
}

std::string CheckpointWriter::begin(std::int64_t step) {
  require_current_();
  std::error_code error;
  const std::string path = folder(step);
  if (const auto there = read_file(path + "/" + kComplete, kMaxManifest)) {
    const auto old = parse_manifest(*there);
    if (old.manifest && old.manifest->epoch == epoch_)
      throw CheckpointError(kIncomplete, path + " is complete already; a checkpoint is written once");
    if (old.manifest && old.manifest->epoch > epoch_)
      throw CheckpointError(kEpochNotCurrent,
                            path + " is of the later epoch " + std::to_string(old.manifest->epoch));
  }
  fs::remove(path + "/" + kComplete, error);
  if (error) throw CheckpointError(kFileTrouble, path + "/" + kComplete + ": " + error.message());
  fs::create_directories(notes(step), error);
  if (error) throw CheckpointError(kFileTrouble, path + ": " + error.message());
  make_durable(path);
  replace(notes(step) + "/begun", std::to_string(wall_us()));
  return path;
}

void CheckpointWriter::shard(std::int64_t step, const std::vector<std::string>& files) {
  require_current_();
  const std::string path = folder(step);
  if (!fs::is_directory(notes(step)))
    throw CheckpointError(kIncomplete, path + " has not been begun by this attempt: tutti-checkpoint begin " +
                                           std::to_string(step));
  for (std::string file : files) {
    if (file.starts_with(path + "/")) file.erase(0, path.size() + 1);
    if (const auto why = why_no_shard_name(file); !why.empty())
      throw CheckpointError(kUsageError, "'" + file + "': it must lie in " + path);
    for (const std::string& name : files_below(path, file)) {
      const Shard s = measure(path, name);
      replace(notes(step) + "/" + note_name(name),
              json::serialize(
                  json::object{{"file", s.file}, {"bytes", s.bytes}, {"crc32c", crc_text(*s.crc32c)}}));
      make_durable(fs::path(path + "/" + name).parent_path());
    }
  }
}

std::string CheckpointWriter::commit(std::int64_t step, std::optional<std::int64_t> shards) {
  const std::string path = folder(step);
  if (!fs::is_directory(notes(step)))
    throw CheckpointError(kIncomplete, path + " has not been begun by this attempt: tutti-checkpoint begin " +
                                           std::to_string(step));
  Manifest m;
  m.step = step;
  m.epoch = epoch_;
  for (const auto& entry : fs::directory_iterator(notes(step))) {
    const std::string name = entry.path().filename();
    const auto text = read_file(entry.path().string(), kMaxNote);
    if (!text) file_trouble(entry.path());
    if (name == "begun") {
      m.save_us = std::max<std::int64_t>(wall_us() - std::atoll(text->c_str()), 1);
      continue;
    }
    if (!name.ends_with(".json")) continue;  // a note that is being written
    // As a manifest of one shard: it is read by the rules that count for the whole.
    auto one = parse_manifest(R"({"step":0,"epoch":0,"shards":[)" + *text + "]}");
    if (!one.manifest) throw CheckpointError(kIncomplete, entry.path().string() + " " + one.why);
    m.list.push_back(one.manifest->list.front());
  }
  std::ranges::sort(m.list, {}, &Shard::file);
  if (m.list.empty()) throw CheckpointError(kIncomplete, path + " has no shards: tutti-checkpoint shard");
  if (m.list.size() > kMaxShards) throw CheckpointError(kUsageError, "more than 65536 shards");
  if (shards && static_cast<std::int64_t>(m.list.size()) != *shards)
    throw CheckpointError(kIncomplete, path + " has " + std::to_string(m.list.size()) + " shards, not " +
                                           std::to_string(*shards) + ": wait for all ranks before commit");
  for (const Shard& s : m.list) {
    struct stat info{};
    if (lstat((path + "/" + s.file).c_str(), &info) != 0) file_trouble(path + "/" + s.file);
    if (info.st_size != s.bytes)
      throw CheckpointError(kIncomplete, path + "/" + s.file + " has changed since it was announced");
    m.bytes += s.bytes;
  }
  require_current_();  // as late as can be
  replace(path + "/" + kComplete, write_manifest(m, now_text()));
  std::error_code ignored;
  fs::remove_all(notes(step), ignored);
  return path;
}

}  // namespace tutti::supervisor
