// Part of cluster.h: the end of a test, when everything stops in order and all oracles are asked.
#include <filesystem>
#include <fstream>

#include "tests/e2e/cluster.h"
#include "tests/e2e/intervals.h"
#include "tests/e2e/log_files.h"

namespace tutti::e2e {
namespace {

namespace fs = std::filesystem;

const char* const kTrouble[] = {"AddressSanitizer", "LeakSanitizer", "runtime error:", "TUTTI_ASSERT",
                                "assertion failed"};

}  // namespace

void Cluster::stop_jobs() {
  const auto live = rest_->get("/v1/jobs?state=pending,active&page_size=1000");
  for (const auto& j : live.at("jobs").as_array())
    rest_->raw("POST", "/v1/jobs/" + std::to_string(number_of(j.as_object(), "id")) + ":cancel", "{}");
  await_true(
      "every job has ended", kPatience,
      [&] { return rest_->get("/v1/jobs?state=pending,active").at("jobs").as_array().empty(); },
      [&] { return json::serialize(rest_->get("/v1/jobs?state=pending,active")); });
}

void Cluster::check_gpus() {
  if (const std::string line = first_line(gpu_locks() + "/doubles"); !line.empty())
    throw Failure("two ranks on one GPU: " + line);
  const auto nodes = rest_->get("/v1/nodes");
  for (const auto& node : nodes.at("nodes").as_array())
    for (const auto& gpu : node.at("gpus").as_array()) {
      const std::string state = text_of(gpu.as_object(), "state");
      if (state != "free" && state != "quarantined" && state != "absent")
        throw Failure("a GPU was not given back: " + json::serialize(node));
    }
  if (const auto open = sql("SELECT count(*) FROM allocation WHERE until_at IS NULL"); open.at(0) != "0")
    throw Failure(open.at(0) + " allocations are still open");
  const auto doubled = sql(
      "SELECT count(*) FROM allocation a JOIN allocation b ON a.gpu = b.gpu AND (a.job, a.epoch) < (b.job, "
      "b.epoch) AND tstzrange(a.from_at, a.until_at) && tstzrange(b.from_at, b.until_at)");
  if (doubled.at(0) != "0") throw Failure(doubled.at(0) + " times a GPU had two owners");
}

void Cluster::check_logs() const {
  std::vector<std::string> files = {directory_ + "/scheduler.log"};
  if (options_.standby) files.push_back(directory_ + "/standby.log");
  for (const auto& worker : workers_) {
    files.push_back(worker->log());
    std::error_code ec;
    for (const auto& attempt : fs::directory_iterator(worker->directory() + "/state/attempts", ec))
      files.push_back(attempt.path() / "supervisor.log");
  }
  for (const auto& file : files) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);)
      for (const auto* word : kTrouble)
        if (line.find(word) != std::string::npos)
          throw Failure(file + ": " + line + "\n" + end_of(file, 6000));
  }
}

void Cluster::finish() {
  stop_jobs();
  check_gpus();
  if (const auto left = find_processes("TUTTI_ATTEMPT_DIR", directory_ + "/"); !left.empty())
    throw Failure("a process outlived its attempt: " + std::to_string(left[0].pid) + " " + left[0].command);
  if (const auto why = find_overlap(read_intervals(shared_ + "/intervals", shared_ + "/stamps"));
      !why.empty())
    throw Failure("two epochs at a time: " + why);
  for (auto& worker : workers_) worker->process().signal(SIGTERM);
  for (auto& worker : workers_) {
    if (worker->process().pid() == 0) continue;
    const auto status = worker->process().wait(kPatience);
    if (!status) throw Failure("worker " + worker->name() + " does not stop");
    if (*status != 0 && *status != SIGKILL)
      throw Failure("worker " + worker->name() + ": " + describe_status(*status) + "\n" +
                    end_of(worker->log(), 4000));
  }
  if (options_.standby) {
    standby_.signal(SIGTERM);
    const auto ended = standby_.wait(kPatience);
    if (!ended || *ended != 0)
      throw Failure("the standby " + (ended ? "ended with " + describe_status(*ended) : "does not stop") +
                    "\n" + end_of(directory_ + "/standby.log", 4000));
  }
  scheduler_.signal(SIGTERM);
  const auto status = scheduler_.wait(kPatience);
  if (!status || *status != 0)
    throw Failure("the scheduler " + (status ? "ended with " + describe_status(*status) : "does not stop") +
                  "\n" + end_of(directory_ + "/scheduler.log", 4000));
  check_logs();
  check_decisions(directory_ + "/data");
  if (options_.standby) check_decisions(directory_ + "/standby");
}

// A scheduler that never led has decided nothing.
void Cluster::check_decisions(const std::string& data) const {
  std::error_code ec;
  if (fs::is_empty(data + "/decisions", ec) || ec) return;
  run({Site::instance().program("tutti"), "replay", data + "/decisions", "--prove"});
}

json::object Cluster::replay(const std::vector<std::string>& words) const {
  std::vector<std::string> argv{Site::instance().program("tutti"), "-o", "json", "replay",
                                directory_ + "/data/decisions"};
  argv.insert(argv.end(), words.begin(), words.end());
  return json::parse(run(argv)).as_object();
}

std::string Cluster::logs() const {
  std::string out = "---- scheduler\n" + end_of(directory_ + "/scheduler.log", 6000);
  if (options_.standby) out += "---- standby\n" + end_of(directory_ + "/standby.log", 6000);
  for (const auto& worker : workers_) {
    out += "---- " + worker->name() + "\n" + end_of(worker->log(), 3000);
    std::error_code ec;
    for (const auto& attempt : fs::directory_iterator(worker->directory() + "/state/attempts", ec))
      for (const auto* name : {"supervisor.log", "logs/launcher.log", "logs/rank-0.log"})
        if (const std::string text = end_of(attempt.path() / name, 1000); !text.empty())
          out += "-- " + attempt.path().string() + "/" + name + "\n" + text;
  }
  return out;
}

}  // namespace tutti::e2e
