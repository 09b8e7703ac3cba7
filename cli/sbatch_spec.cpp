#include "cli/sbatch_spec.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <cstdint>
#include <optional>
#include <utility>

#include "api/wire/text_values.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostHosts = 4096;  // as the server's bound of exclude_nodes

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

class Job {
 public:
  Job(const SbatchInput& input, SbatchWords& words) : in_(input), words_(words) {}

  json::object build() {
    name();
    ownership();
    size();
    memory();
    places();
    times();
    dependencies();
    array();
    stop_and_retry();
    environment();
    note_ignored();
    return std::move(spec_);
  }

 private:
  const Given* given(std::string_view option) const {
    const auto at = words_.given.find(option);
    return at == words_.given.end() ? nullptr : &at->second;
  }
  bool has(std::string_view option) const { return given(option) != nullptr; }
  void warn(const Given& at, std::string text) { words_.warnings.push_back({at.line, std::move(text)}); }
  void warn(std::string_view option, const std::string& why) {
    warn(*given(option), "--" + std::string(option) + ": " + why);
  }
  void error(std::string_view option, const std::string& expected) {
    const Given& at = *given(option);
    words_.errors.push_back(
        {at.line, "--" + std::string(option) + "=" + at.value.substr(0, 200) + ": " + expected});
  }

  // A whole number of the option; nothing when it is not given or wrong (which is said).
  std::optional<std::int64_t> number(std::string_view option, std::int64_t least, std::int64_t most) {
    const Given* at = given(option);
    if (at == nullptr) return std::nullopt;
    const auto n = slurm::parse_number(at->value);
    if (n && *n >= least && *n <= most) return n;
    error(option, "expected a number from " + std::to_string(least) + " to " + std::to_string(most));
    return std::nullopt;
  }

  std::optional<slurm::Count> gpu_count(std::string_view option) {
    const Given* at = given(option);
    if (at == nullptr) return std::nullopt;
    std::string_view text = at->value;
    if (const auto comma = text.find(','); comma != std::string_view::npos) {
      warn(option, "one kind of GPU per job; the first is taken");
      text = text.substr(0, comma);
    }
    auto count = slurm::parse_count(text, false);
    if (!count) error(option, "expected a number or KIND:NUMBER, like 4 or a100:4");
    return count;
  }

  void name() {
    const Given* at = given("job-name");
    std::string text = at != nullptr ? at->value : in_.name;
    if (text.empty()) text = has("wrap") ? "wrap" : "sbatch";
    spec_["name"] = text;
  }

  void ownership() {
    if (const Given* at = given("account"); at != nullptr) spec_["project"] = at->value;
    if (const Given* at = given("partition"); at != nullptr) {
      const auto comma = at->value.find(',');
      spec_["queue"] = at->value.substr(0, comma);
      if (comma != std::string::npos) warn("partition", "a job waits in one queue; the first is taken");
    }
    if (const Given* at = given("comment"); at != nullptr) spec_["labels"] = {{"comment", at->value}};
  }

  // Nodes, processes per node, GPUs and processors of a node: each depends on the others, as in Slurm.
  void size() {
    const auto tasks = number("ntasks", 1, 1'000'000);
    per_node_ = number("ntasks-per-node", 1, 1024);
    count_nodes(tasks);
    auto gpus = gpus_per_node();
    count_processes(tasks, gpus ? gpus->count : 0);
    if (const auto per_task = gpu_count("gpus-per-task"); per_task && !gpus) {
      gpus = *per_task;
      gpus->count = static_cast<int>(std::min<std::int64_t>(per_task->count * processes_, 100'000));
    }
    spec_["nodes"] = nodes_;
    json::object& resources = (spec_["resources"] = json::object()).get_object();
    if (gpus) {
      gpus_ = gpus->count;
      if (gpus->kind.empty())
        resources["gpus"] = gpus->count;
      else if (gpus->count > 0)
        resources["gpus"] = gpus->kind + ":" + std::to_string(gpus->count);
    }
    processors(tasks.has_value(), resources);
    spec_["launcher"] = "script";
    spec_["procs_per_node"] = processes_;
    spec_["compat"] = "slurm";
    if (const std::int64_t ranks = tasks.value_or(processes_ * nodes_);
        has("ntasks") || has("ntasks-per-node")) {
      set("SLURM_NTASKS", std::to_string(ranks));
      set("SLURM_NPROCS", std::to_string(ranks));
    }
  }

  void count_nodes(const std::optional<std::int64_t>& tasks) {
    if (const Given* at = given("nodes"); at != nullptr) {
      const auto count = slurm::parse_nodes(at->value);
      if (!count) return error("nodes", "expected a number like 4, or 2-4");
      nodes_ = count->least;
      if (count->most != count->least)
        warn("nodes", "a script runs on a fixed number of nodes; " + std::to_string(nodes_) + " are taken");
    } else if (tasks && per_node_) {
      nodes_ = divide_up(*tasks, *per_node_);
    } else if (const Given* gpus = given("gpus"); gpus != nullptr && !has("gpus-per-node")) {
      const auto count = slurm::parse_count(gpus->value, false);
      if (count && count->count > 8)
        warn("gpus", "without --nodes all of them are looked for on one node; give --nodes");
    }
    if (tasks && *tasks < nodes_) {
      warn("ntasks", "fewer tasks than nodes; " + std::to_string(*tasks) + " nodes are taken");
      nodes_ = *tasks;
    }
    if (nodes_ > 4096) {
      error(has("nodes") ? "nodes" : "ntasks", "at most 4096 nodes");
      nodes_ = 1;
    }
  }

  std::optional<slurm::Count> gpus_per_node() {
    auto found = gpu_count("gpus-per-node");
    if (const auto gres = gres_gpus(); gres && !found) found = gres;
    if (const auto total = gpu_count("gpus"); total && !found) {
      found = slurm::Count{total->kind, static_cast<int>(divide_up(total->count, nodes_))};
      if (total->count % nodes_ != 0)
        warn("gpus", "does not divide by the number of nodes; each gets " + std::to_string(found->count));
    }
    if (found && found->count > 64) {
      const auto* option = has("gpus-per-node") ? "gpus-per-node" : has("gres") ? "gres" : "gpus";
      error(option, "a job has at most 64 GPUs per node");
    }
    return found;
  }

  // "gpu:a100:4,nvme:1": other generic resources are not known here.
  std::optional<slurm::Count> gres_gpus() {
    const Given* at = given("gres");
    if (at == nullptr) return std::nullopt;
    std::optional<slurm::Count> found;
    std::string_view rest = at->value;
    while (!rest.empty()) {
      const auto comma = std::min(rest.find(','), rest.size());
      auto item = rest.substr(0, comma);
      rest.remove_prefix(std::min(comma + 1, rest.size()));
      if (item.starts_with("gres/") || item.starts_with("gres:")) item.remove_prefix(5);
      if (item == "none" || item.empty()) continue;
      if (item != "gpu" && !item.starts_with("gpu:") && !item.starts_with("gpu=")) {
        warn("gres", "'" + std::string(item.substr(0, 80)) + "': only GPUs are known here");
        continue;
      }
      const auto count = item == "gpu" ? slurm::Count{"", 1} : slurm::parse_count(item.substr(4), true);
      if (!count)
        error("gres", "expected gpu:NUMBER or gpu:KIND:NUMBER");
      else if (found)
        warn("gres", "one kind of GPU per job; the first is taken");
      else
        found = count;
    }
    return found;
  }

  void count_processes(const std::optional<std::int64_t>& tasks, std::int64_t gpus) {
    const auto per_gpu = number("ntasks-per-gpu", 1, 1024);
    if (per_node_) {
      processes_ = *per_node_;
      if (tasks) processes_ = std::min(processes_, divide_up(*tasks, nodes_));
    } else if (tasks) {
      processes_ = divide_up(*tasks, nodes_);
      if (*tasks % nodes_ != 0)
        warn("ntasks", "does not divide by the number of nodes; the host file has room for " +
                           std::to_string(processes_) + " on each");
    } else if (per_gpu && gpus > 0) {
      processes_ = *per_gpu * gpus;
    }
    if (processes_ > 1024) {
      error(tasks ? "ntasks" : "ntasks-per-gpu", "at most 1024 processes per node; give --nodes");
      processes_ = 1;
    }
    if (per_node_) set("SLURM_NTASKS_PER_NODE", std::to_string(*per_node_));
  }

  void processors(bool tasks_given, json::object& resources) {
    const auto per_task = number("cpus-per-task", 1, 4096);
    const auto per_gpu = number("cpus-per-gpu", 1, 4096);
    if (per_task) {
      cpus_ = *per_task * processes_;
      set("SLURM_CPUS_PER_TASK", std::to_string(*per_task));
    } else if (per_gpu && gpus_ > 0) {
      cpus_ = *per_gpu * gpus_;
    } else if (gpus_ == 0 && (tasks_given || per_node_)) {
      cpus_ = processes_;  // one each, as Slurm does
    }
    if (cpus_ > 4096)
      error(per_task ? "cpus-per-task" : "cpus-per-gpu",
            "together these are " + std::to_string(cpus_) + " processors per node; at most 4096");
    else if (cpus_ > 0)
      resources["cpus"] = cpus_;
  }

  void memory() {
    std::optional<std::int64_t> bytes;
    for (const auto& [option, times] : std::initializer_list<std::pair<std::string_view, std::int64_t>>{
             {"mem-per-cpu", cpus_ > 0 ? cpus_ : processes_}, {"mem-per-gpu", gpus_}, {"mem", 1}}) {
      const Given* at = given(option);
      if (at == nullptr) continue;
      const auto one = slurm::parse_memory(at->value);
      if (!one || (times > 0 && *one > (std::int64_t{1} << 60) / times)) {
        error(option, "expected a size like 64G or 512M");
      } else if (*one == 0) {
        warn(option, "all memory of a node cannot be asked for; say how much");
      } else if (times == 0) {
        warn(option, "the job asks for no GPU");
      } else {
        bytes = *one * times;
      }
    }
    if (bytes) spec_["resources"].get_object()["memory"] = wire::format_bytes(*bytes);
  }

  void places() {
    json::array constraints;
    features(constraints);
    if (const Given* at = given("nodelist"); at != nullptr) {
      const auto hosts = slurm::expand_hosts(at->value, kMostHosts);
      if (!hosts)
        error("nodelist", "expected host names like n1 or n[01-04]");
      else if (hosts->size() == 1 && nodes_ == 1)
        constraints.emplace_back("name=" + hosts->front());
      else
        warn("nodelist", "one named node can be asked for, not several; the scheduler chooses");
    }
    if (!constraints.empty()) spec_["constraints"] = std::move(constraints);
    if (const Given* at = given("exclude"); at != nullptr) {
      const auto hosts = slurm::expand_hosts(at->value, kMostHosts);
      if (!hosts) return error("exclude", "expected at most 4096 host names like n1 or n[01-04]");
      spec_["exclude_nodes"] = json::array(hosts->begin(), hosts->end());
    }
    if (has("spread-job")) spec_["topology"] = {{"spread", true}};
  }

  // Features become labels that a node has to have: "ib&a100".
  void features(json::array& constraints) {
    const Given* at = given("constraint");
    if (at == nullptr) return;
    std::string_view rest = at->value;
    if (rest.find_first_of("|[]*()") != std::string_view::npos)
      return warn("constraint", "only features joined by & are supported; it is not looked at");
    while (!rest.empty()) {
      const auto end = std::min(rest.find_first_of("&,"), rest.size());
      const auto feature = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (feature.empty() || feature.find_first_of("!<>= \t") != std::string_view::npos)
        return error("constraint", "expected features joined by &");
      constraints.emplace_back(feature);
    }
  }

  void times() {
    if (const Given* at = given("time"); at != nullptr) {
      const auto limit = slurm::parse_time_limit(at->value);
      if (!limit)
        error("time", "expected minutes, hours:minutes:seconds or days-hours:minutes:seconds");
      else if (!limit->unlimited)
        spec_["time_limit"] = wire::format_duration(limit->value);
    }
    for (const auto& [option, field] :
         {std::pair{"begin", "begin_time"}, std::pair{"deadline", "deadline"}}) {
      const Given* at = given(option);
      if (at == nullptr) continue;
      const auto moment = slurm::parse_moment(at->value, in_.calendar);
      if (!moment)
        error(option, "expected a time like now+2hours, 16:00 or 2026-12-24T08:00");
      else if (!moment->empty())
        spec_[field] = *moment;
      else if (std::string_view(option) == "deadline")
        error(option, "is over");
    }
  }

  void dependencies() {
    const Given* at = given("dependency");
    if (at == nullptr) return;
    const auto parsed = slurm::parse_dependencies(at->value);
    if (!parsed) return error("dependency", "expected something like afterok:12:13,afterany:14");
    if (parsed->any_will_do)
      warn("dependency", "'?' (one is enough) is not supported; all of them are waited for");
    json::array list;
    for (const auto& one : parsed->all) {
      if (one.kind == "singleton" || one.kind == "afterburstbuffer") {
        warn("dependency", one.kind + " is not supported; it is not looked at");
        continue;
      }
      if (one.kind == "aftercorr")
        warn("dependency", "aftercorr waits for all tasks of the array, as afterok");
      if (one.delayed) warn("dependency", "a delay after the start is not supported; --begin is");
      const std::string_view when = one.kind == "after"        ? "started"
                                    : one.kind == "afterany"   ? "any"
                                    : one.kind == "afternotok" ? "failed"
                                                               : "ok";
      const auto id = slurm::parse_number(one.job);
      list.emplace_back(json::object{{"job", id ? json::value(*id) : json::value(one.job)}, {"when", when}});
    }
    if (!list.empty()) spec_["depends_on"] = std::move(list);
  }

  // "0-31:2%4"
  void array() {
    const Given* at = given("array");
    if (at == nullptr) return;
    const auto percent = at->value.find('%');
    const std::string range = at->value.substr(0, percent);
    json::object array{{"range", range}};
    const auto digits = range.find_first_not_of("0123456789,-:");
    if (range.empty() || digits != std::string::npos)
      return error("array", "expected a range like 0-31, 0,3,7-9 or 0-30:2, and %N after it");
    if (percent != std::string::npos) {
      const auto most = slurm::parse_number(std::string_view(at->value).substr(percent + 1));
      if (!most || *most > 1'000'000) return error("array", "expected a number after %");
      if (*most > 0) array["max_parallel"] = *most;
    }
    spec_["array"] = std::move(array);
  }

  void stop_and_retry() {
    if (const Given* at = given("signal"); at != nullptr) {
      const auto signal = slurm::parse_signal(at->value);
      if (!signal) return error("signal", "expected a signal like USR1@90, TERM or B:USR1@90");
      spec_["stop"] = {{"signal", signal->name},
                       {"grace", wire::format_duration(std::chrono::seconds(signal->seconds))}};
      if (signal->batch_only)
        warn("signal", "B: the command that the shell is waiting for gets the signal, too");
      if (signal->reservation) warn("signal", "R: nobody is stopped by a reservation that comes later");
    }
    const Given *off = given("no-requeue"), *on = given("requeue");
    if (off == nullptr || (on != nullptr && on->order > off->order)) return;
    json::object budget;
    for (const char* cause :
         {"gpu", "node_lost", "fabric", "network", "storage", "launch", "hang", "unknown"})
      budget[cause] = 0;
    spec_["retry"] = {{"budget", std::move(budget)}};
    warn("no-requeue", "a preempted job is started again all the same");
  }

  void environment() {
    exported();
    const Given* folder = given("chdir");
    std::string where = folder != nullptr ? folder->value : in_.folder;
    if (!where.starts_with('/')) where = in_.folder + "/" + where;
    spec_["workdir"] = where;
    set("SLURM_SUBMIT_DIR", in_.folder);
    set("SLURM_JOB_NAME", std::string(spec_["name"].get_string()));
    set("SLURM_JOB_NUM_NODES", std::to_string(nodes_));
    for (const auto& [option, variable] :
         {std::pair{"partition", "SLURM_JOB_PARTITION"}, std::pair{"account", "SLURM_JOB_ACCOUNT"},
          std::pair{"gpus-per-node", "SLURM_GPUS_PER_NODE"}})
      if (const Given* at = given(option); at != nullptr) set(variable, at->value);
    spec_["env"] = std::move(env_);
  }

  void exported() {
    const Given* at = given("export");
    if (at == nullptr) return;
    std::string_view rest = at->value;
    while (!rest.empty()) {
      const auto comma = std::min(rest.find(','), rest.size());
      const auto item = rest.substr(0, comma);
      rest.remove_prefix(std::min(comma + 1, rest.size()));
      const auto equals = item.find('=');
      const std::string name(item.substr(0, equals));
      if (equals != std::string_view::npos) {
        env_[name] = item.substr(equals + 1);
      } else if (item == "ALL") {
        warn("export", "the submitting environment is not carried over; name what is needed: --export=A,B=2");
      } else if (item != "NONE" && item != "NIL" && !item.empty()) {
        const auto value = in_.environment.find(name);
        if (value == in_.environment.end())
          warn("export", "the variable " + name.substr(0, 80) + " is not set here");
        else
          env_[name] = value->second;
      }
    }
  }

  // As a value of the user's: the worker knows less about the script than we do, and leaves it alone.
  void set(const char* variable, std::string value) {
    if (!env_.contains(variable)) env_[variable] = std::move(value);
  }

  void note_ignored() {
    for (const auto& option : sbatch_options())
      if (!option.ignored.empty() && has(option.name)) warn(option.name, std::string(option.ignored));
  }

  const SbatchInput& in_;
  SbatchWords& words_;
  json::object spec_, env_;
  std::int64_t nodes_ = 1, processes_ = 1, gpus_ = 0, cpus_ = 0;
  std::optional<std::int64_t> per_node_;
};

}  // namespace

json::object build_spec(const SbatchInput& input, SbatchWords& words) { return Job(input, words).build(); }

}  // namespace tutti::cli
