// Part of worker.h: checkpoints. The folders may lie on a file server that hangs, so all of it runs on
// pools, with the rights of the job's user, and comes back by post: scans and checks on one thread per call,
// checksums one after the other on a thread of their own, deletions likewise.
#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>

#include "worker/service/machine.h"
#include "worker/service/worker.h"

namespace tutti::worker {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kMaxVerifications = 16;  // that wait; the oldest go first, they stay unverified

std::function<bool()> until(const std::atomic<bool>& leaving, std::chrono::nanoseconds time) {
  return [&leaving, end = std::chrono::steady_clock::now() + time] {
    return leaving || std::chrono::steady_clock::now() >= end;
  };
}

}  // namespace

// Whose rights its checkpoint folder is touched with: where its account is not known, nobody's.
Account Worker::files_of(AttemptKey key) {
  constexpr std::uint32_t kNobody = 65534;
  const auto* user = user_of(key);
  return user ? *user : Account{.name = "nobody", .uid = kNobody, .gid = kNobody, .groups = {kNobody}};
}

// ---------------------------------------------------------------- finding

void Worker::scan(AttemptKey key, bool last) {
  auto& watch = watches_[key];
  if (watch.scanning) return;  // at most one at a time and attempt
  watch.scanning = true;
  const auto view = core_.find(key);
  asio::post(scans_, [this, key, last, dir = view->spec->checkpoint.dir, account = files_of(key),
                      seen = std::move(watch.seen)]() mutable {
    const AsUser user(account);
    auto found = find_checkpoints(dir, key, seen, last);
    asio::post(io_, [this, key, seen = std::move(seen), found = std::move(found)]() mutable {
      on_scanned(key, std::move(seen), std::move(found));
    });
  });
}

void Worker::on_scanned(AttemptKey key, SeenCheckpoints seen, FoundCheckpoints found) {
  const auto watch = watches_.find(key);
  const auto view = core_.find(key);
  if (watch == watches_.end() || !view || !view->spec) return;  // retired meanwhile
  watch->second.scanning = false;
  watch->second.seen = std::move(seen);
  const auto now = read_clocks();
  const std::set<std::string> listed(found.listed.begin(), found.listed.end());
  for (const auto& c : found.found)
    if (core_.on_checkpoint(now, c) && listed.contains(c.path))
      verify({key, view->spec->checkpoint.dir, c.path, c.step, c.epoch_in_file});
  for (const auto& r : found.refused) core_.on_checkpoint_checked(now, r);
  if (watch->second.final_wanted) {
    // This scan may have begun before the ranks died; the one that counts begins now.
    watch->second.final_wanted = false;
    scan(key, true);
  } else if (watch->second.final_deadline) {
    watch->second.final_deadline.reset();
    core_.on_final_scan(now, key);
  }
  settle();
}

// All that the ranks have left: between two looks a short job may have come and gone.
void Worker::end_scan(AttemptKey key) {
  const auto view = core_.find(key);
  if (view && view->spec) read_words_of(key, watches_[key]);
  if (!view || !view->spec || view->prepare->index != 0 || view->spec->checkpoint.dir.empty()) {
    core_.on_final_scan(read_clocks(), key);
    return;
  }
  auto& watch = watches_[key];
  watch.final_wanted = watch.scanning;
  watch.final_deadline = std::make_unique<asio::steady_timer>(io_, settings_.scan_deadline);
  watch.final_deadline->async_wait([this, key](boost::system::error_code ec) {
    if (ec) return;
    spdlog::error("job {} epoch {}: the checkpoint folder does not answer", key.job.value, key.epoch.value);
    core_.on_final_scan(read_clocks(), key);
    settle();
  });
  scan(key, true);
}

// ---------------------------------------------------------------- checksums

void Worker::verify(Verification what) {
  verifications_.push_back(std::move(what));
  if (verifications_.size() > kMaxVerifications) {
    const auto& oldest = verifications_.front();
    spdlog::warn("job {} epoch {}: {} stays unverified: too many wait", oldest.key.job.value,
                 oldest.key.epoch.value, oldest.path);
    verifications_.pop_front();
  }
  verify_next();
}

void Worker::verify_next() {
  if (verifying_ || verifications_.empty()) return;
  verifying_ = true;
  asio::post(verifier_, [this, v = verifications_.front(), account = files_of(verifications_.front().key)] {
    const AsUser user(account);
    const auto result =
        compare_checksums(v.dir, v.path, v.step, v.epoch, until(leaving_, settings_.verify_deadline));
    asio::post(io_, [this, v, result] {
      verifying_ = false;
      using protocol::CheckpointVerdict;
      if (result.what == ChecksumResult::held || result.what == ChecksumResult::damaged)
        core_.on_checkpoint_checked(
            read_clocks(),
            {v.key, v.epoch, v.step, v.path,
             result.what == ChecksumResult::held ? CheckpointVerdict::verified : CheckpointVerdict::damaged,
             result.why});
      else
        spdlog::warn("job {} epoch {}: {} stays unverified: {}", v.key.job.value, v.key.epoch.value, v.path,
                     result.why);
      settle();
      verify_next();
    });
  });
  verifications_.pop_front();
}

void Worker::act(CheckResume& a) {
  const auto view = core_.find(a.key);
  if (!view || !view->spec) return;
  asio::post(checks_, [this, key = a.key, dir = view->spec->checkpoint.dir, prepare = *view->prepare,
                       account = files_of(a.key)] {
    const AsUser user(account);
    const auto result = check_resume(dir, prepare, until(leaving_, settings_.resume_checksums));
    asio::post(io_, [this, key, dir, prepare, result] {
      if (result.what == ResumeCheck::What::usable && !result.whole)
        verify({key, dir, prepare.resume_path, prepare.resume_step, prepare.resume_epoch});
      core_.on_resume_checked(read_clocks(), key, result);
      settle();
    });
  });
}

// ---------------------------------------------------------------- deletion

void Worker::act(DeleteFiles& a) {
  const auto view = core_.find(a.order.key);
  if (!view || !view->spec) return;
  asio::post(deletions_,
             [this, order = a.order, dir = view->spec->checkpoint.dir, account = files_of(a.order.key)] {
               const AsUser user(account);
               const auto answer =
                   delete_checkpoint(dir, account.uid, order, until(leaving_, settings_.delete_deadline));
               asio::post(io_, [this, answer] {
                 core_.on_checkpoint_deleted(answer);
                 settle();
               });
             });
}

}  // namespace tutti::worker
