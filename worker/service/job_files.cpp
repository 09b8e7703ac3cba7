#include "worker/service/job_files.h"

#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cmath>

#include "api/wire/utf8.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/whole_number.h"

namespace tutti::worker {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxSmallFile = 64 << 10;
constexpr std::size_t kMaxMetrics = 64;

std::string read_range(int fd, std::int64_t offset, std::size_t size) {
  std::string out(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const auto n = pread(fd, out.data() + done, size - done, offset + static_cast<std::int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  out.resize(done);
  return out;
}

std::optional<json::object> parse_object(const std::string& text) {
  json::error_code ec;
  auto v = json::parse(text, ec);
  if (ec || !v.is_object()) return std::nullopt;
  return std::move(v.get_object());
}

std::optional<double> number(const json::object& o, const char* name) {
  const auto* v = o.if_contains(name);
  if (v == nullptr || !v->is_number()) return std::nullopt;
  return v->to_number<double>();
}

// Bytes at the end that begin a character whose rest is not there yet.
std::size_t open_tail(std::string_view s) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, s.size()); ++back) {
    const auto b = static_cast<unsigned char>(s[s.size() - back]);
    if ((b & 0xC0) == 0x80) continue;
    const std::size_t length = b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : b >= 0xC0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

std::string log_name(std::int32_t rank) {
  if (rank == kLauncherLog) return "logs/launcher.log";
  if (rank == kSetupLog) return "logs/setup.log";
  return "logs/rank-" + std::to_string(rank) + ".log";
}

namespace {

protocol::LogChunk read_piece(const std::string& dir, uid_t owner, const SecretMask& mask,
                              const protocol::ReadLog& request, bool over) {
  protocol::LogChunk chunk;
  chunk.request = request.request;
  chunk.next_offset = std::max<std::int64_t>(request.offset, 0);
  if (request.rank < kSetupLog) {
    chunk.error = "there is no log of rank " + std::to_string(request.rank);
    chunk.end = true;
    return chunk;
  }
  const auto file = supervisor::open_regular_of(owner, dir + "/" + log_name(request.rank));
  if (!file) {  // not begun yet, or never
    chunk.end = over;
    if (over) chunk.error = "there is no " + log_name(request.rank);
    return chunk;
  }
  const std::int64_t size = file->info.st_size;
  const auto offset = request.offset < 0 ? std::max<std::int64_t>(size + request.offset, 0) : request.offset;
  const auto most = static_cast<std::size_t>(std::clamp(request.max_bytes, 1, kMaxLogRead));
  chunk.next_offset = offset;
  // With what stands around the piece: a secret may cross its borders.
  const auto before = std::min(static_cast<std::size_t>(offset), mask.reach());
  const auto from = offset - static_cast<std::int64_t>(before);
  const auto window = read_range(file->fd.get(), from, before + most + mask.reach());
  const bool ended = over && from + static_cast<std::int64_t>(window.size()) >= size;
  if (window.size() <= before) {
    chunk.end = ended || (over && offset >= size);
    return chunk;
  }
  std::size_t to = std::min(before + most, window.size());
  if (!ended) to = std::max(before, std::min(to, window.size() - mask.open_tail(window)));
  chunk.end = ended && to == window.size();
  // A character that is not whole comes with the next chunk; four bytes that never become one are not held
  // back.
  if (const auto piece = std::string_view(window).substr(before, to - before);
      !chunk.end && piece.size() >= 4)
    to -= open_tail(piece);
  chunk.next_offset = offset + static_cast<std::int64_t>(to - before);
  const auto bytes = mask.text(window, before, to, ended);
  chunk.data = wire::is_utf8(bytes) ? std::move(bytes) : wire::to_utf8(bytes);
  return chunk;
}

}  // namespace

// A piece that lies in a secret shows nothing, and an empty answer would say that there is nothing new.
protocol::LogChunk read_log(const std::string& dir, uid_t owner, const SecretMask& mask,
                            const protocol::ReadLog& request, bool over) {
  constexpr int kMostPieces = 1000;
  auto chunk = read_piece(dir, owner, mask, request, over);
  auto next = request;
  for (int i = 0; i < kMostPieces && chunk.data.empty() && !chunk.end && chunk.error.empty() &&
                  chunk.next_offset > next.offset;
       ++i) {
    next.offset = chunk.next_offset;
    chunk = read_piece(dir, owner, mask, next, over);
  }
  return chunk;
}

std::optional<protocol::Progress> read_progress(const std::string& dir, uid_t owner, AttemptKey key,
                                                std::int32_t rank, Duration* age) {
  const auto file =
      supervisor::open_regular_of(owner, dir + "/progress/rank-" + std::to_string(rank) + ".json");
  if (!file) return std::nullopt;
  const auto object = parse_object(read_range(file->fd.get(), 0, kMaxSmallFile));
  if (!object) return std::nullopt;
  const auto step = supervisor::whole_number(*object, "step");
  if (!step) return std::nullopt;
  if (age != nullptr) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    const auto s = std::clamp<std::int64_t>(now.tv_sec - file->info.st_mtim.tv_sec, -1'000'000, 1'000'000);
    *age = Duration(s * 1'000'000 + (now.tv_nsec - file->info.st_mtim.tv_nsec) / 1000);
  }
  protocol::Progress p;
  p.key = key;
  p.step = *step;
  p.total = supervisor::whole_number(*object, "total").value_or(0);
  p.eta_seconds = number(*object, "eta_s").value_or(0);
  if (const auto compute = number(*object, "compute_s")) p.metrics["compute_s"] = *compute;
  if (const auto* metrics = object->if_contains("metrics"); metrics != nullptr && metrics->is_object())
    for (const auto& [name, value] : metrics->get_object())
      if (value.is_number() && p.metrics.size() < kMaxMetrics)
        p.metrics[std::string(std::string_view(name))] = value.to_number<double>();
  return p;
}

std::optional<protocol::CollectiveResult> read_collective(const std::string& dir, uid_t owner,
                                                          AttemptKey key) {
  const auto file = supervisor::open_regular_of(owner, dir + "/progress/collective.json");
  if (!file) return std::nullopt;
  const auto object = parse_object(read_range(file->fd.get(), 0, kMaxSmallFile));
  if (!object) return std::nullopt;
  const auto* backend = object->if_contains("backend");
  const auto bytes = supervisor::whole_number(*object, "bytes"),
             ranks = supervisor::whole_number(*object, "ranks");
  const auto reached = number(*object, "gigabytes_per_second");
  constexpr std::int64_t kMostRanks = 1 << 24;
  if (backend == nullptr || !backend->is_string() || !bytes || !ranks || !reached || *ranks < 1 ||
      *ranks > kMostRanks || *bytes < 0)
    return std::nullopt;
  return protocol::CollectiveResult{key, std::string(backend->get_string()), *bytes,
                                    static_cast<std::int32_t>(*ranks), *reached};
}

}  // namespace tutti::worker
