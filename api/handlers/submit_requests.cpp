#include "api/handlers/submit_requests.h"

#include <map>
#include <set>
#include <utility>

#include "api/handlers/job_filter.h"
#include "api/wire/job_spec_codec.h"

namespace tutti::api {
namespace {

// ---------------------------------------------------------------- what the rows say

struct Wanted {
  std::set<JobId> ids;
  std::set<std::string> names;
  std::optional<Visible> visible;  // to who submits; nullopt: all
};

struct Known {
  std::map<std::string, JobId> named;
  std::set<JobId> hidden;      // that who submits may not see
  std::map<JobId, int> tasks;  // of arrays, by their first task
  Past past;                   // those that are over
};

PastJob past_of(const JobRow& row) { return {row.state, row.ran > Duration::zero()}; }

void look_up_array(Reader& reader, JobId first, int tasks, Known& known) {
  known.tasks[first] = tasks;
  JobFilter filter;
  filter.states = {JobState::succeeded, JobState::failed, JobState::cancelled};
  filter.first = first;
  filter.last = JobId(first.value + tasks - 1);
  for (JobId after{};;) {
    const auto page = reader.list_jobs(filter, kMaxPage, after);
    for (const auto& view : page) known.past[view.row.id] = past_of(view.row);
    if (page.size() < static_cast<std::size_t>(kMaxPage)) return;
    after = page.back().row.id;
  }
}

// The newest of that name, of those that are visible.
std::optional<JobId> find_named(Reader& reader, const std::string& name,
                                const std::optional<Visible>& visible) {
  JobFilter filter;
  filter.name = name;
  filter.visible = visible;
  const auto jobs = reader.list_jobs(filter, 1, JobId());
  return jobs.empty() ? std::nullopt : std::optional(jobs.front().row.id);
}

Known look_up(Reader& reader, Wanted wanted) {
  Known known;
  for (const auto& name : wanted.names)
    if (const auto id = find_named(reader, name, wanted.visible)) {
      known.named[name] = *id;
      wanted.ids.insert(*id);
    }
  for (JobId id : wanted.ids) {
    auto view = reader.find_job(id);
    if (!view) continue;
    if (!is_visible(wanted.visible, view->row.project, view->row.owner)) {
      known.hidden.insert(id);
      continue;
    }
    const auto task = wire::parse_spec_json(view->spec_json, Now{}).spec.array_task;
    const JobId array = task ? JobId(id.value - task->position) : id;
    // A name means the whole array; so does the id of its first task.
    for (auto& [name, named] : known.named)
      if (named == id) named = array;
    const bool by_name = std::ranges::any_of(known.named, [&](const auto& n) { return n.second == array; });
    if (task && (task->position == 0 || by_name)) look_up_array(reader, array, task->tasks, known);
    if (is_terminal(view->row.state)) known.past[id] = past_of(view->row);
  }
  return known;
}

// ---------------------------------------------------------------- who waits for whom

class Arrangement {
 public:
  explicit Arrangement(std::vector<SubmitItem> items) : items_(std::move(items)), after_(items_.size()) {
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const auto [named, fresh] = by_name_.emplace(items_[i].spec.name, i);
      if (!fresh) named->second = kAmbiguous;
      out_.of_item.emplace_back(Error{});
    }
  }

  Wanted wanted() const {
    Wanted wanted;
    for (std::size_t i = 0; i < items_.size(); ++i)
      for (const auto& d : items_[i].spec.depends_on) {
        if (d.job) wanted.ids.insert(d.job);
        if (!d.job && !among_these(d.name, i)) wanted.names.insert(d.name);
      }
    return wanted;
  }

  Submissions submissions(Known known) {
    known_ = std::move(known);
    past_ = std::make_shared<const Past>(std::move(known_.past));
    for (std::size_t i = 0; i < items_.size(); ++i) visit(i);
    return std::move(out_);
  }

 private:
  static constexpr std::size_t kAmbiguous = static_cast<std::size_t>(-1);
  enum class Mark : std::uint8_t {
    fresh,
    open,
    done
  };

  // A job that names itself means an earlier one of that name.
  std::optional<std::size_t> among_these(const std::string& name, std::size_t self) const {
    const auto found = by_name_.find(name);
    if (found == by_name_.end() || found->second == self) return std::nullopt;
    return found->second;
  }

  // Depth first: those it depends on come before it.
  void visit(std::size_t item) {
    if (marks_[item] != Mark::fresh) return;
    marks_[item] = Mark::open;
    path_.push_back(item);
    if (auto error = resolve(item))
      out_.of_item[item] = *std::move(error);
    else
      add(item);
    path_.pop_back();
    marks_[item] = Mark::done;
  }

  std::optional<Error> resolve(std::size_t item) {
    JobSpec& spec = items_[item].spec;
    std::vector<Dependency> others;
    for (std::size_t n = 0; n < spec.depends_on.size(); ++n) {
      Dependency d = spec.depends_on[n];
      const std::string field = "depends_on[" + std::to_string(n) + "]";
      d.tasks = 1;
      const auto own = d.job ? std::nullopt : among_these(d.name, item);
      if (own) {
        if (auto error = wait_for(item, *own, d, field)) return error;
        continue;
      }
      if (!d.job) {
        const auto named = known_.named.find(d.name);
        if (named == known_.named.end())
          return bad_field(field, "no job is called '" + d.name + "'", "tutti ls shows jobs");
        d.job = named->second;
        d.name.clear();
      }
      if (known_.hidden.contains(d.job))
        return bad_field(field, "no job " + to_string(d.job), "a job can only depend on jobs that exist");
      if (const auto array = known_.tasks.find(d.job); array != known_.tasks.end()) d.tasks = array->second;
      others.push_back(std::move(d));
    }
    spec.depends_on = std::move(others);
    return std::nullopt;
  }

  std::optional<Error> wait_for(std::size_t item, std::size_t other, const Dependency& d,
                                const std::string& field) {
    if (other == kAmbiguous)
      return bad_field(field, "several jobs of this request are called '" + d.name + "'",
                       "give them different names");
    if (marks_[other] == Mark::open) return bad_field(field, cycle(other), "a job cannot wait for itself");
    visit(other);
    const auto& request = out_.of_item[other];
    if (!request)
      return bad_field(field, "'" + d.name + "' of this request was refused: " + request.error().message,
                       "mend that one first");
    const auto& array = items_[other].spec.array;
    after_[item].push_back(
        {.request = *request, .tasks = array ? static_cast<int>(array->tasks.size()) : 1, .when = d.when});
    return std::nullopt;
  }

  std::string cycle(std::size_t from) const {
    std::string text = "a cycle: ";
    for (auto at = std::ranges::find(path_, from); at != path_.end(); ++at)
      text += items_[*at].spec.name + " → ";
    return text + items_[from].spec.name;
  }

  // One request, or one for each task of the array.
  void add(std::size_t item) {
    SubmitItem& from = items_[item];
    JobSpec spec = from.spec;
    spec.array_task.reset();  // of the job it was copied from, if it was
    spec.scheduled_by = {};
    const auto plan = std::exchange(spec.array, std::nullopt);
    const std::size_t first = out_.requests.size(), tasks = plan ? plan->tasks.size() : 1;
    if (first + tasks > kMaxTogether) {
      out_.of_item[item] = bad_field(
          "array", "a request has at most " + std::to_string(kMaxTogether) + " jobs and tasks together",
          "split it");
      return;
    }
    out_.of_item[item] = first;
    for (std::size_t i = 0; i < tasks; ++i) {
      JobSpec one = spec;
      if (plan) name_task(one, *plan, i);
      SubmitRequest request;
      request.spec = std::make_shared<const JobSpec>(std::move(one));
      request.spec_json = wire::encode_spec(*request.spec);
      request.owner = from.owner;
      if (i == 0) request.idempotency_key = from.idempotency_key;
      if (i > 0) request.task_of = first;
      request.body_hash = from.body_hash;
      request.past = past_;
      request.after = after_[item];
      out_.requests.push_back(std::move(request));
    }
  }

  static void name_task(JobSpec& one, const ArrayPlan& plan, std::size_t i) {
    const auto& task = plan.tasks[i];
    one.array_task = ArrayTask{.index = task.index,
                               .position = static_cast<int>(i),
                               .tasks = static_cast<int>(plan.tasks.size()),
                               .max_parallel = plan.max_parallel};
    for (const char* variable : {"ARRAY_INDEX", "TUTTI_ARRAY_INDEX"})
      one.env.emplace(variable, std::to_string(task.index));
    for (const auto& [variable, value] : task.variables) one.env.emplace(variable, value);
  }

  std::vector<SubmitItem> items_;
  std::map<std::string, std::size_t> by_name_;
  std::vector<std::vector<SubmitRequest::After>> after_;
  std::vector<Mark> marks_ = std::vector<Mark>(items_.size(), Mark::fresh);
  std::vector<std::size_t> path_;
  Known known_;
  std::shared_ptr<const Past> past_;
  Submissions out_;
};

}  // namespace

void prepare_submissions(const ApiPtr& api, const Answer& answer, std::vector<SubmitItem> items,
                         const std::optional<Visible>& visible, std::function<void(Submissions)> then) {
  auto arrangement = std::make_shared<Arrangement>(std::move(items));
  Wanted wanted = arrangement->wanted();
  wanted.visible = visible;
  if (wanted.ids.empty() && wanted.names.empty()) return then(arrangement->submissions({}));
  read_rows(
      api, answer, [wanted = std::move(wanted)](Reader& reader) { return look_up(reader, wanted); },
      [arrangement, then = std::move(then)](Known known) {
        then(arrangement->submissions(std::move(known)));
      });
}

}  // namespace tutti::api
