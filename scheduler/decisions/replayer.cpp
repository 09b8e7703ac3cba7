#include "scheduler/decisions/replayer.h"

#include <utility>

namespace tutti::decisions {

Replayer::Replayer(std::filesystem::path segment)
    : file_(std::move(segment)), in_([this](std::string& bytes) { return file_.more(bytes); }) {
  if (file_.torn()) {
    torn_ = true;
    return;
  }
  if (file_.layout_words() != layout())
    throw SegmentError(path().string() + " was written by version " + version() +
                       ", whose rows or messages are other ones; the tutti of that version reads it");
  try {
    opening_ = read_opening(in_);
  } catch (const EndOfBytes&) {
    torn_ = true;
    return;
  }
  now_ = read_at_ = opening_.now;
  leases_ = std::make_unique<LeaseTable>(opening_.lease_settings);
  leases_->put_others_until(opening_.others_until);
  for (const auto& [node, lease] : opening_.leases) leases_->put(node, lease);
  plane_ = std::make_unique<ControlPlane>(opening_.settings, *opening_.snapshot, spec_text(), *leases_,
                                          opening_.now);
  opening_.snapshot.reset();
}

// False: there is no whole one.
bool Replayer::read_round() {
  Waiting round;
  std::optional<LeaseChanges> leases;
  while (!in_.at_end()) {
    const std::uint64_t tag = in_.whole();
    if (tag >= static_cast<std::uint64_t>(Tag::call)) {
      const auto method = static_cast<std::size_t>(tag - static_cast<std::uint64_t>(Tag::call));
      round.inputs.push_back({method, read_at_, read_call(in_, method), std::exchange(leases, std::nullopt)});
      continue;
    }
    switch (static_cast<Tag>(tag)) {
      case Tag::time:
        read_at_.wall += Duration(unzigzag(in_.whole()));
        read_at_.mono += Duration(unzigzag(in_.whole()));
        break;
      case Tag::leases: leases = read_lease_changes(in_); break;
      case Tag::thrown: thrown_ = in_.whole(); return false;
      case Tag::decided:
        round.digest.emplace();
        for (unsigned char& byte : *round.digest) byte = static_cast<unsigned char>(in_.whole());
        [[fallthrough]];
      case Tag::nothing:
        round.now = read_at_;
        waiting_ = std::move(round);
        return true;
      case Tag::call: break;
    }
  }
  torn_ = torn_ || file_.torn() || !round.inputs.empty();
  return false;
}

std::optional<Round> Replayer::next(std::optional<Instant> until) {
  if (empty() || thrown_) return std::nullopt;
  try {
    if (!waiting_ && !read_round()) return std::nullopt;
  } catch (const EndOfBytes&) {
    torn_ = true;
    return std::nullopt;
  }
  if (until && waiting_->now.wall > *until) return std::nullopt;
  const Waiting round = *std::exchange(waiting_, std::nullopt);
  Round out;
  out.number = ++rounds_;
  out.now = now_ = round.now;
  for (const auto& input : round.inputs) {
    out.inputs.push_back(input_name(input.method));
    if (input.leases) {
      leases_->put_others_until(input.leases->others_until);
      for (const auto& [node, lease] : input.leases->nodes) seen_[node] = lease;
    }
    if (sees_leases(input.method)) see_leases(input.now);
    input.call(*plane_, input.now);
  }
  out.output = plane_->take_output();
  out.recorded = round.digest;
  std::string bytes;
  write_output(bytes, out.output, nullptr);  // what is secret came out of the log, and is masked in it
  if (!bytes.empty()) out.replayed = digest_of(bytes);
  return out;
}

// Who is heard, and who is not. Whether a lease is held is the control plane's own doing.
void Replayer::see_leases(Now now) {
  for (const auto& [node, seen] : seen_) {
    const auto known = leases_->all().find(node);
    LeaseTable::Lease lease = known == leases_->all().end() ? LeaseTable::Lease{} : known->second;
    lease.granted_at = seen.fresh ? now.mono : seen.granted_at;
    lease.settled = seen.settled;
    leases_->put(node, lease);
  }
}

}  // namespace tutti::decisions
