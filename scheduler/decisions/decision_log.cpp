#include "scheduler/decisions/decision_log.h"

#include <sodium.h>
#include <spdlog/spdlog.h>

#include <utility>

namespace tutti::decisions {

namespace fs = std::filesystem;

namespace {

// What the control plane may remember of a silence, and ask about again: --continue-minutes is a day at most.
constexpr Duration kExactFor = std::chrono::hours(25);

ByteWriter::Mask new_mask() {
  std::array<unsigned char, crypto_generichash_KEYBYTES> key{};
  randombytes_buf(key.data(), key.size());
  return [key](std::string_view text) {
    Digest out{};
    crypto_generichash(out.data(), out.size(), reinterpret_cast<const unsigned char*>(text.data()),
                       text.size(), key.data(), key.size());
    return hex(out);
  };
}

std::uint64_t size_of(const std::vector<fs::path>& files) {
  std::uint64_t sum = 0;
  std::error_code ec;
  for (const auto& file : files)
    if (const auto size = fs::file_size(file, ec); !ec) sum += size;
  return sum;
}

}  // namespace

DecisionLog::DecisionLog(DecisionLogSettings settings)
    : settings_(std::move(settings)), mask_(new_mask()), thread_([this] { run(); }) {}

DecisionLog::~DecisionLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

// ---------------------------------------------------------------- control thread

void DecisionLog::began(const ControlSettings& settings, std::shared_ptr<const Snapshot> snapshot,
                        const LeaseTable& leases, Now now) {
  if (records() && !round_.inputs.empty()) {
    Piece thrown;
    ByteWriter out(thrown.inputs);
    out.whole(static_cast<std::uint64_t>(Tag::thrown));
    out.whole(inputs_);
    thrown.thrown = true;
    hand_over(std::move(thrown));
  }
  auto opening = std::make_shared<Opening>();
  opening->now = last_ = now;
  opening->settings = settings;
  opening->fault_table = settings_.fault_table;
  opening->fault_table_id = (settings.faults ? *settings.faults : FaultTable::built_in()).id();
  opening->lease_settings = leases.settings();
  opening->others_until = others_until_ = leases.others_until();
  opening->leases = leases.all();
  opening->snapshot = std::move(snapshot);
  leases_ = &leases;
  seen_.clear();
  exact_until_.clear();
  round_ = {};
  inputs_ = 0;
  ++life_;
  Piece piece;
  piece.opening = std::move(opening);
  hand_over(std::move(piece));
}

void DecisionLog::called(std::size_t method, Now now, const void* const* arguments) {
  if (!records()) return;
  ByteWriter out(round_.inputs, &mask_);
  if (now.wall != last_.wall || now.mono != last_.mono) {
    out.whole(static_cast<std::uint64_t>(Tag::time));
    out.whole(zigzag((now.wall - last_.wall).count()));
    out.whole(zigzag((now.mono - last_.mono).count()));
    last_ = now;
  }
  if (sees_leases(method)) see_leases(now);
  write_call(out, method, arguments);
  ++inputs_;
}

// Heartbeats renew leases many times a second, and nearly always it makes no difference when exactly: a node
// is heard, or it is not. Said is who of them changes sides; the instant, where it can be asked for.
void DecisionLog::see_leases(Now now) {
  LeaseChanges changes;
  changes.others_until = leases_->others_until();
  auto known = seen_.begin();
  for (const auto& [node, lease] : leases_->all()) {
    while (known != seen_.end() && known->first < node) ++known;
    SeenLease view;
    view.fresh = now.mono - lease.granted_at < leases_->settings().suspicion;
    view.settled = lease.settled;
    if (!view.fresh) {
      exact_until_[node] = now.mono + kExactFor;
    } else if (!exact_until_.empty()) {
      const auto exact = exact_until_.find(node);
      if (exact != exact_until_.end() && now.mono < exact->second) view.fresh = false;
    }
    if (!view.fresh) view.granted_at = lease.granted_at;
    const bool is_known = known != seen_.end() && known->first == node;
    if (is_known && known->second.fresh == view.fresh && known->second.settled == view.settled &&
        known->second.granted_at == view.granted_at)
      continue;
    changes.nodes.emplace_hint(changes.nodes.end(), node, view);
    if (is_known)
      known->second = view;
    else
      known = seen_.emplace_hint(known, node, view);
  }
  if (changes.nodes.empty() && changes.others_until == others_until_) return;
  others_until_ = changes.others_until;
  ByteWriter out(round_.inputs);
  write(out, changes);
}

void DecisionLog::decided(const Output& output) {
  if (records()) write_output(round_.output, output, &mask_);
}

void DecisionLog::committed() {
  if (records() && (!round_.inputs.empty() || !round_.output.empty())) hand_over(std::move(round_));
  round_ = {};
  inputs_ = 0;
}

void DecisionLog::hand_over(Piece piece) {
  const std::uint64_t size = piece.inputs.size() + piece.output.size();
  piece.life = life_;
  bool full = false;
  {
    const std::lock_guard lock(mutex_);
    full = queued_ + size > kMostQueued || queue_.size() >= kMostPieces;
    if (!full) {
      queued_ += size;
      queue_.push_back(std::move(piece));
    }
  }
  changed_.notify_one();
  if (!full) return;
  break_off(life_);
  spdlog::warn("decision log: the disk is too slow; nothing is recorded until the rows are loaded again");
}

void DecisionLog::break_off(std::uint64_t life) {
  std::uint64_t known = broken_life_;
  while (known < life && !broken_life_.compare_exchange_weak(known, life)) {
  }
}

// ---------------------------------------------------------------- its own thread

void DecisionLog::run() {
  auto flush_at = std::chrono::steady_clock::now() + settings_.flush_every;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait_until(lock, flush_at, [&] { return stopping_ || !queue_.empty(); });
    std::deque<Piece> pieces = std::exchange(queue_, {});
    const bool last = stopping_;
    lock.unlock();
    std::uint64_t taken = 0;
    for (Piece& piece : pieces) {
      taken += piece.inputs.size() + piece.output.size();
      try {
        take(piece);
      } catch (const std::exception& e) {
        stop_segment(e.what());
      }
    }
    pieces.clear();
    if (last || std::chrono::steady_clock::now() >= flush_at) {
      try {
        flush();
      } catch (const std::exception& e) {
        stop_segment(e.what());
      }
      flush_at = std::chrono::steady_clock::now() + settings_.flush_every;
    }
    lock.lock();
    queued_ -= taken;
    if (last && queue_.empty()) return;
  }
}

void DecisionLog::take(Piece& piece) {
  if (piece.opening) {
    try {
      flush();
    } catch (const SegmentError& e) {
      stop_segment(e.what());
    }
    segment_.reset();
    content_.clear();
    segment_life_ = piece.life;
    return open(*piece.opening);
  }
  if (!segment_ || piece.life != segment_life_) return;
  content_ += piece.inputs;
  if (!piece.thrown) {
    ByteWriter out(content_);
    out.whole(static_cast<std::uint64_t>(piece.output.empty() ? Tag::nothing : Tag::decided));
    if (!piece.output.empty())
      for (const unsigned char byte : digest_of(piece.output)) out.whole(byte);
  }
  if (content_.size() >= kBlock) flush();
}

void DecisionLog::open(const Opening& opening) {
  drop_old(opening.now.wall);
  segment_ = std::make_unique<SegmentWriter>(settings_.directory, opening.now.wall, settings_.version);
  const std::function<void()> full = [this] {
    if (content_.size() < kBlock) return;
    flush();
    if (!segment_) content_.clear();  // no room: the rest is for nobody
  };
  ByteWriter out(content_, &mask_, &full);
  write(out, opening);
  flush();
  if (!segment_) content_.clear();
  if (segment_ && std::exchange(complained_, false))
    spdlog::info("decision log: it records again, into {}", segment_->path().string());
}

void DecisionLog::flush() {
  if (!segment_ || content_.empty()) return;
  if (!segment_->write(content_, [this](std::uint64_t bytes) { return make_room(bytes); }))
    return stop_segment("what was recorded since the rows were loaded fills --decision-log-mib");
  content_.clear();
}

// Older segments go first; the one that is being written goes on as long as it has room.
bool DecisionLog::make_room(std::uint64_t bytes) {
  std::vector<fs::path> files = segments_in(settings_.directory);
  std::erase(files, segment_->path());
  std::uint64_t sum = size_of(files) + segment_->bytes();
  std::error_code ec;
  for (const auto& file : files) {
    if (sum + bytes <= settings_.max_bytes) break;
    const auto size = fs::file_size(file, ec);
    if (!fs::remove(file, ec)) continue;
    sum -= std::min<std::uint64_t>(sum, size);
  }
  return sum + bytes <= settings_.max_bytes;
}

void DecisionLog::drop_old(Instant now) {
  std::error_code ec;
  for (const auto& file : segments_in(settings_.directory)) {
    const auto written = fs::last_write_time(file, ec);
    if (ec) continue;
    const auto age = fs::file_time_type::clock::now() - written;
    if (age > settings_.keep && *began_at(file) + settings_.keep < now) fs::remove(file, ec);
  }
}

void DecisionLog::stop_segment(const std::string& why) {
  break_off(segment_life_);
  segment_.reset();
  content_.clear();
  if (!std::exchange(complained_, true))
    spdlog::warn("decision log: {}; nothing is recorded until the rows are loaded again", why);
}

}  // namespace tutti::decisions
