#include "db/checked_store.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "db/rules.h"

namespace tutti::db {
namespace {

// So long ranks may live on where they are not seen, as after a restore: R and the continue time of workers,
// ten minutes each, and one for the margin.
constexpr std::chrono::minutes kUnseen(21);

// Looks at one snapshot. Nothing is thrown: what is not understood is somebody else's to refuse.
class Inspection {
 public:
  Inspection(const Snapshot& snapshot, const SpecCheck& specs, Instant now)
      : rows_(snapshot), specs_(specs), now_(now), last_event_(snapshot.last_event) {
    for (const auto& row : rows_.jobs) jobs_.emplace(row.id, &row);
    for (const auto& row : rows_.nodes) nodes_.insert(row.id);
    for (const auto& row : rows_.gpus) gpus_.insert(row.id);
    for (const auto& row : rows_.allocations) holders_.emplace(row.gpu, AttemptKey{row.job, row.epoch});
    for (const auto& row : rows_.unreadable) unreadable_.emplace(AttemptKey{row.job, row.epoch}, &row.what);
  }

  Repairs run() {
    for (const auto& row : rows_.jobs) look_at_numbers(row);
    for (const auto& row : rows_.attempts) look_at(row);
    for (const auto& row : rows_.jobs)
      if (is_active(row.state) && !live_.contains(row.id))
        odd_job(row, "it is " + std::string(name(row.state)) + ", but has no attempt");
    for (const auto& row : rows_.allocations) look_at(row);
    if (specs_.problem) look_at_specs();
    look_at_epochs();
    look_at_projects();
    hold_odd_jobs();
    mend_others();
    return std::move(out_);
  }

 private:
  void say(std::string line) { out_.said.push_back(std::move(line)); }
  void odd_job(const JobRow& row, const std::string& what) {
    auto& known = odd_[row.id];
    if (known.empty()) known = what;
  }
  bool goes_on(JobId id) const { return live_.contains(id) && !odd_.contains(id); }

  // The row as it is to be, and what was wrong with it.
  struct Mended {
    JobRow row;
    std::string numbers{}, epoch{};
    std::string what(const std::string& first = {}) const {  // all that was
      std::string all = first;
      for (const auto* text : {&numbers, &epoch})
        if (!text->empty() && *text != first) all += (all.empty() ? "" : "; ") + *text;
      return all;
    }
  };
  Mended& to_mend(const JobRow& row) { return mended_.try_emplace(row.id, Mended{row}).first->second; }
  const JobRow& as_mended(const JobRow& row) const {
    const auto found = mended_.find(row.id);
    return found == mended_.end() ? row : found->second.row;
  }

  void look_at_numbers(const JobRow& row) {
    if (row.attempt > row.epoch.value) remember_epoch(row.id, Epoch(row.attempt));
    JobRow legal = row;
    const std::string what = mend_job(legal);
    if (what.empty()) return;
    if (specs_.size && (row.nodes != legal.nodes || row.gpus_per_node != legal.gpus_per_node)) {
      const auto [nodes, gpus] =
          specs_.size(rows_.specs.of(static_cast<std::size_t>(&row - rows_.jobs.data())));
      if (row.nodes != legal.nodes && nodes >= 1) legal.nodes = nodes;
      if (row.gpus_per_node != legal.gpus_per_node && gpus >= 0) legal.gpus_per_node = gpus;
    }
    to_mend(row) = {std::move(legal), what};
    if (!is_active(row.state)) odd_job(row, what);
  }

  // Attempts of before are known in part: the newest that failed, and what others have left behind.
  void remember_epoch(JobId job, Epoch epoch) {
    const auto row = jobs_.find(job);
    if (row == jobs_.end() || epoch <= row->second->epoch) return;
    Epoch& newest = newest_[job];
    newest = std::max(newest, epoch);
  }

  // One that runs is the newest as far as its workers know: its turn comes when it has ended.
  void look_at_epochs() {
    for (const auto& row : rows_.attempts) remember_epoch(row.job, row.epoch);
    for (const auto& row : rows_.past_attempts) remember_epoch(row.job, row.epoch);
    for (const auto& row : rows_.allocations) remember_epoch(row.job, row.epoch);
    for (const auto& row : rows_.checkpoints) remember_epoch(row.job, row.epoch);
    for (const auto& [id, newest] : newest_) {
      if (goes_on(id)) continue;
      Mended& mended = to_mend(*jobs_.at(id));
      mended.row.epoch = std::max(mended.row.epoch, newest);
      mended.epoch = "its epoch is " + to_string(jobs_.at(id)->epoch) + ", and there was " +
                     to_string(newest) + " already";
    }
  }

  // Shares and limits go up from each to the top, which a ring has not.
  void look_at_projects() {
    std::map<std::string_view, const ProjectRow*> projects;
    for (const auto& row : rows_.projects) projects.emplace(row.name, &row);
    std::set<std::string_view> cut;
    for (const auto& row : rows_.projects) {
      std::set<std::string_view> seen{row.name};
      auto above = projects.find(row.parent);
      while (above != projects.end() && !cut.contains(above->first) && seen.insert(above->first).second)
        above = projects.find(above->second->parent);
      if (above == projects.end() || above->first != row.name)
        continue;  // it comes to the top, or to others' ring
      if (!cut.insert(row.name).second) continue;
      ProjectRow top = row;
      top.parent.clear();
      out_.batch.projects.push_back(std::move(top));
      say("project " + row.name + " stands below itself: it is of the top level now");
    }
  }

  std::string problem_of(const AttemptRow& a, const JobRow& job) const {
    if (const auto text = unreadable_.find({a.job, a.epoch}); text != unreadable_.end())
      return "the nodes of its attempt " + to_string(a.epoch) + " cannot be read: " + *text->second;
    if (a.gang.empty()) return "its attempt has no nodes";
    if (std::cmp_greater(a.gang.size(), job.nodes))
      return "its attempt is on " + std::to_string(a.gang.size()) + " nodes, of " + std::to_string(job.nodes);
    std::set<NodeId> seen;
    std::int64_t next_rank = 0;
    for (const auto& m : a.gang) {
      if (!nodes_.contains(m.node))
        return "its attempt names node " + to_string(m.node) + ", which there is not";
      if (!seen.insert(m.node).second) return "its attempt names node " + to_string(m.node) + " twice";
      if (m.ranks < 0 || m.first_rank != next_rank)
        return "its attempt has ranks that do not follow each other, on node " + to_string(m.node);
      next_rank += m.ranks;
      if (static_cast<int>(m.gpus.size()) != job.gpus_per_node)
        return "its attempt has " + std::to_string(m.gpus.size()) + " GPUs on node " + m.node_name +
               ", not " + std::to_string(job.gpus_per_node);
      for (const GpuId gpu : m.gpus) {
        if (!gpus_.contains(gpu)) return "its attempt names GPU " + to_string(gpu) + ", which there is not";
        const auto holder = holders_.find(gpu);
        if (holder == holders_.end() || holder->second != AttemptKey{a.job, a.epoch})
          return "GPU " + to_string(gpu) + " of its attempt is " +
                 (holder == holders_.end() ? "given to nobody"
                                           : "given to job " + to_string(holder->second.job));
      }
    }
    return "";
  }

  void look_at(const AttemptRow& row) {
    const auto job = jobs_.find(row.job);
    if (job == jobs_.end() || !is_active(job->second->state) || job->second->epoch != row.epoch) {
      end(row, "attempt " + to_string(row.job) + "/" + to_string(row.epoch) + " runs, but its job " +
                   (job == jobs_.end() ? "is not there" : "does not know of it") + ": ended");
      return;
    }
    if (const std::string what = problem_of(row, as_mended(*job->second)); !what.empty()) {
      odd_job(*job->second, what);
      end(row, "");
      return;
    }
    live_.emplace(row.job, &row);
    for (const auto& m : row.gang) used_.insert(m.gpus.begin(), m.gpus.end());
  }

  void look_at(const AllocationRow& row) {
    const auto live = live_.find(row.job);
    const bool runs = live != live_.end() && live->second->epoch == row.epoch;
    if (runs && used_.contains(row.gpu)) return;
    close(row);
    if (runs || !ended_.contains({row.job, row.epoch}))
      say("GPU " + to_string(row.gpu) + " is held by attempt " + to_string(row.job) + "/" +
          to_string(row.epoch) + ", which " + (runs ? "is not on it" : "does not run") + ": given back");
  }

  void end(const AttemptRow& row, const std::string& line) {
    AttemptRow over = row;
    over.state = AttemptState::ended;
    over.result = AttemptResult::stopped;
    over.cause = Cause::control;
    over.detail = "its rows contradicted each other; what it did is not known";
    over.ended_at = now_;
    out_.batch.attempts.push_back(std::move(over));
    ended_.insert({row.job, row.epoch});
    if (!line.empty()) say(line);
  }

  void close(const AllocationRow& row) {
    AllocationRow closed = row;
    closed.until = std::max(now_, row.from);
    out_.batch.closed.push_back(std::move(closed));
  }

  void look_at_specs() {
    std::vector<std::string> problems;
    problems.reserve(rows_.specs.texts.size());
    for (const std::string& text : rows_.specs.texts)
      problems.push_back(text == kNoSpec   ? "its row in job_spec is gone"
                         : text == kNoText ? "its row in spec_text is gone"
                                           : specs_.problem(text));
    for (std::size_t i = 0; i < rows_.jobs.size(); ++i) {
      const std::string& problem = problems[rows_.specs.places[i]];
      if (!problem.empty()) spec_is_odd(rows_.jobs[i], problem, rows_.specs.of(i) == kNoSpec);
    }
  }

  void spec_is_odd(const JobRow& row, const std::string& problem, bool gone) {
    odd_job(row, "its spec cannot be read: " + problem);
    cover(row, gone);
    const auto live = live_.find(row.id);
    if (live == live_.end()) return;
    end(*live->second, "");
    for (const auto& held : rows_.allocations)
      if (held.job == row.id && held.epoch == live->second->epoch && used_.contains(held.gpu)) close(held);
  }

  // Its row may be gone altogether: then it gets one.
  void cover(const JobRow& row, bool gone) {
    std::string text = specs_.stand_in(as_mended(row));
    if (!gone) {
      out_.batch.changed_specs[row.id] = std::move(text);
      return;
    }
    SpecRow spec;
    spec.id = row.id;
    spec.owner = row.owner;
    spec.name = "damaged";
    spec.spec_json = std::move(text);
    spec.created_at = row.created_at;
    out_.batch.new_specs.push_back(std::move(spec));
  }

  void hold_odd_jobs() {
    for (const auto& [id, first] : odd_) {
      const JobRow& row = *jobs_.at(id);
      const auto mended = mended_.find(id);
      const std::string what = mended == mended_.end() ? first : mended->second.what(first);
      JobRow held = as_mended(row);
      held.state = JobState::held;
      held.cause = Cause::held;
      // Its attempt is ended without a proof: once released, it waits until nothing of it can live any more.
      const bool may_live = is_active(row.state);
      held.not_before = may_live ? now_ + kUnseen : Instant{};
      held.version = next_version(row);
      held.reason = "its rows are damaged: " + what + ". Mend them, then release it" +
                    (may_live ? " (its ranks may live on where they are not seen: it begins " +
                                    std::to_string(kUnseen.count()) + " minutes after this at the earliest)"
                              : "") +
                    "; or cancel it";
      out_.batch.jobs.push_back({std::move(held), row.version});
      tell_held(row, what);
      say("job " + to_string(id) + " is held: " + what);
    }
  }

  // One above what it was; of one that was no version, the first.
  std::int32_t next_version(const JobRow& row) const {
    const std::int32_t mended = as_mended(row).version;
    return mended == row.version ? mended + 1 : mended;
  }

  // What does not keep a job from going on.
  void mend_others() {
    for (const auto& [id, mended] : mended_) {
      if (odd_.contains(id)) continue;
      const JobRow& row = *jobs_.at(id);
      JobRow legal = mended.row;
      legal.version = next_version(row);
      out_.batch.jobs.push_back({std::move(legal), row.version});
      const std::string state(name(row.state));
      tell(row, "repair", state, state, mended.what());
      say("job " + to_string(id) + " is mended: " + mended.what());
    }
  }

  void tell(const JobRow& row, std::string kind, std::string from, std::string to, const std::string& what) {
    last_event_ = EventId(last_event_.value + 1);
    out_.batch.events.push_back(EventRow{.id = last_event_,
                                         .at = now_,
                                         .job = row.id,
                                         .node = {},
                                         .epoch = row.epoch,
                                         .kind = std::move(kind),
                                         .from = std::move(from),
                                         .to = std::move(to),
                                         .cause = Cause::control,
                                         .detail = what});
  }

  // By the edges that there are; one that was held already is only remarked upon.
  void tell_held(const JobRow& row, const std::string& what) {
    const std::string was(name(row.state));
    if (row.state == JobState::starting || row.state == JobState::running)
      tell(row, "state", was, "stopping", what);
    if (row.state == JobState::held)
      tell(row, "repair", was, "held", what);
    else
      tell(row, "state", is_active(row.state) ? "stopping" : was, "held", what);
  }

  const Snapshot& rows_;
  const SpecCheck& specs_;
  Instant now_;
  EventId last_event_;
  std::unordered_map<JobId, const JobRow*> jobs_;
  std::unordered_set<NodeId> nodes_;
  std::unordered_set<GpuId> gpus_;
  std::map<GpuId, AttemptKey> holders_;
  std::map<AttemptKey, const std::string*> unreadable_;
  std::map<JobId, const AttemptRow*> live_;
  std::unordered_set<GpuId> used_;  // by those
  std::map<JobId, Mended> mended_;
  std::map<JobId, Epoch> newest_;  // of jobs whose own is lower
  std::set<AttemptKey> ended_;
  std::map<JobId, std::string> odd_;  // by id, so that what is said has an order
  Repairs out_;
};

}  // namespace

Repairs find_repairs(const Snapshot& snapshot, const SpecCheck& specs, Instant now) {
  return Inspection(snapshot, specs, now).run();
}

std::map<AttemptKey, std::string> leave_out_odd_past(Snapshot& rows) {
  std::map<AttemptKey, std::string> odd;
  std::unordered_set<NodeId> nodes;
  std::unordered_set<GpuId> gpus;
  for (const auto& row : rows.nodes) nodes.insert(row.id);
  for (const auto& row : rows.gpus) gpus.insert(row.id);
  for (const auto& row : rows.unreadable) odd.emplace(AttemptKey{row.job, row.epoch}, row.what);
  for (const auto& row : rows.past_attempts)
    for (const auto& m : row.gang) {
      if (!nodes.contains(m.node))
        odd.emplace(AttemptKey{row.job, row.epoch}, "there is no node " + to_string(m.node));
      for (const GpuId gpu : m.gpus)
        if (!gpus.contains(gpu))
          odd.emplace(AttemptKey{row.job, row.epoch}, "there is no GPU " + to_string(gpu));
    }
  std::map<AttemptKey, std::string> left_out;
  std::erase_if(rows.past_attempts, [&](const AttemptRow& row) {
    const auto found = odd.find({row.job, row.epoch});
    if (found != odd.end()) left_out.insert(*found);
    return found != odd.end();
  });
  return left_out;
}

std::vector<JobId> leave_out_odd_jobs(Snapshot& rows) {
  const auto odd = [](const JobRow& row) { return row.id.value < 1; };
  std::vector<JobId> out;
  if (std::ranges::none_of(rows.jobs, odd)) return out;
  std::vector<std::uint32_t> places;
  for (std::size_t i = 0; i < rows.jobs.size(); ++i)
    if (odd(rows.jobs[i]))
      out.push_back(rows.jobs[i].id);
    else
      places.push_back(rows.specs.places[i]);
  rows.specs.places = std::move(places);
  std::erase_if(rows.jobs, odd);
  return out;
}

Snapshot CheckedStore::load_named() {
  Snapshot snapshot = store_->load();
  for (const JobId id : leave_out_odd_jobs(snapshot))
    if (told_jobs_.insert(id).second)
      say_("job " + to_string(id) + " is left out: there is no such id, they begin at 1");
  return snapshot;
}

Term CheckedStore::acquire_leadership(const std::string& holder) {
  const Term term = store_->acquire_leadership(holder);
  leads_ = true;
  return term;
}

Snapshot CheckedStore::load() {
  if (!leads_) return store_->load();
  Snapshot snapshot = load_named();
  const SpecCheck only_size{.problem = {}, .stand_in = {}, .size = specs_.size};
  const Repairs repairs = find_repairs(snapshot, specs_known_ ? only_size : specs_, now_());
  if (!repairs.batch.empty()) {
    if (snapshot.newer_schema)
      throw StoreError(
          StoreError::outdated,
          "the database is at a newer schema, and its rows contradict each other as this program "
          "reads them, which may be wrong" +
              (repairs.said.empty() ? std::string() : " (" + repairs.said.front() + ")") +
              ": nothing is mended, install the newer one");
    for (const auto& line : repairs.said) say_(line);
    store_->commit(repairs.batch);
    snapshot = load_named();
  }
  specs_known_ = true;
  for (const auto& [key, what] : leave_out_odd_past(snapshot))
    if (told_.insert(key).second)
      say_("attempt " + to_string(key.job) + "/" + to_string(key.epoch) +
           " has failed, and what its row says of its nodes is damaged (" + what +
           "): no node is avoided for it");
  return snapshot;
}

}  // namespace tutti::db
