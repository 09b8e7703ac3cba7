// Part of cluster.h: what tests ask of jobs, and the processes that jobs have on the nodes.
#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "tests/e2e/cluster.h"

namespace tutti::e2e {

json::object Cluster::spec(const std::string& name, const std::string& run, int nodes, int gpus) const {
  return {{"name", name},
          {"run", run},
          {"nodes", nodes},
          {"resources", {{"gpus", gpus}}},
          {"procs_per_node", std::max(gpus, 1)},
          {"stop", {{"grace", "5s"}}},
          {"env",
           {{"TUTTI_INTERVAL_FILE", intervals()}, {"E2E_STAMPS", stamps()}, {"E2E_GPU_LOCKS", gpu_locks()}}}};
}

std::int64_t Cluster::submit(const json::object& spec) {
  return number_of(rest_->post("/v1/jobs", spec).as_object(), "id");
}

json::object Cluster::job(std::int64_t id) {
  return rest_->get("/v1/jobs/" + std::to_string(id)).as_object();
}

json::object Cluster::await_job(std::int64_t id, const std::string& what,
                                const std::function<bool(const json::object&)>& condition) {
  json::object last;
  await_true(
      "job " + std::to_string(id) + " " + what, kPatience,
      [&] {
        last = job(id);
        return condition(last);
      },
      [&] {
        last.erase("spec");
        return json::serialize(last) + "\n  " + explain(id);
      });
  return last;
}

json::object Cluster::await_state(std::int64_t id, const std::string& state) {
  return await_job(id, "is " + state, [&](const json::object& j) {
    const std::string now = text_of(j, "state");
    if (now != state && (now == "failed" || now == "cancelled" || now == "succeeded" || now == "held"))
      throw Failure("job " + std::to_string(id) + " is " + now + " and will not be " + state + ": " +
                    text_of(j, "reason") + " " + text_of(j, "cause"));
    return now == state;
  });
}

json::object Cluster::await_running(std::int64_t id, std::int64_t epoch) {
  return await_job(id, "runs at epoch " + std::to_string(epoch), [&](const json::object& j) {
    const std::string now = text_of(j, "state");
    if (now == "failed" || now == "cancelled" || now == "succeeded" || now == "held")
      throw Failure("job " + std::to_string(id) + " is " + now + ": " + text_of(j, "reason"));
    return now == "running" && number_of(j, "epoch") == epoch;
  });
}

std::vector<json::object> Cluster::attempts(std::int64_t id) {
  std::vector<json::object> out;
  const auto all = rest_->get("/v1/jobs/" + std::to_string(id) + "/attempts");
  for (const auto& a : all.at("attempts").as_array()) out.push_back(a.as_object());
  return out;
}

std::vector<json::object> Cluster::events(std::int64_t id) {
  std::vector<json::object> out;
  const auto all = rest_->get("/v1/jobs/" + std::to_string(id) + "/events");
  for (const auto& e : all.at("events").as_array()) out.push_back(e.as_object());
  return out;
}

std::string Cluster::log_of(std::int64_t id, int attempt, int rank) {
  return rest_->text("/v1/jobs/" + std::to_string(id) + "/attempts/" + std::to_string(attempt) +
                     "/logs?rank=" + std::to_string(rank));
}

json::object Cluster::node(const std::string& name) { return rest_->get("/v1/nodes/" + name).as_object(); }

std::string Cluster::explain(std::int64_t id) {
  std::string out = json::serialize(rest_->get("/v1/jobs/" + std::to_string(id) + "/explain"));
  for (const auto& a : attempts(id)) out += "\n  " + json::serialize(a);
  return out;
}

std::vector<std::string> Cluster::gang(std::int64_t id) {
  std::vector<std::string> nodes;
  const auto all = attempts(id);
  if (all.empty()) return nodes;
  for (const auto& member : all.back().at("gang").as_array())
    nodes.push_back(text_of(member.as_object(), "node"));
  return nodes;
}

// ---------------------------------------------------------------- processes of jobs

std::vector<Seen> Cluster::attempt_processes(std::int64_t id, std::int64_t epoch) {
  auto all = find_processes("TUTTI_ATTEMPT_DIR", directory_ + "/");
  const std::string key = std::to_string(id) + "-" + std::to_string(epoch);
  std::erase_if(all, [&](const Seen& s) { return s.value("TUTTI_ATTEMPT_KEY") != key; });
  return all;
}

std::vector<Seen> Cluster::ranks(std::int64_t id, std::int64_t epoch, const std::string& program) {
  auto all = attempt_processes(id, epoch);
  std::erase_if(all, [&](const Seen& s) { return s.program != program; });
  std::ranges::sort(all, {}, [](const Seen& s) { return std::atoi(s.value("RANK").c_str()); });
  return all;
}

std::vector<Seen> Cluster::await_ranks(std::int64_t id, std::int64_t epoch, std::size_t count,
                                       const std::string& program) {
  std::vector<Seen> found;
  await_true(
      std::to_string(count) + " ranks of job " + std::to_string(id), kPatience,
      [&] {
        found = ranks(id, epoch, program);
        return found.size() == count;
      },
      [&] { return std::to_string(found.size()) + " of them; " + explain(id); });
  return found;
}

std::pair<std::int64_t, std::int64_t> Cluster::stamp(std::int64_t id, std::int64_t epoch, int rank) const {
  std::int64_t page[2] = {};
  std::ifstream in(
      shared_ + "/stamps/" + std::to_string(id) + "-" + std::to_string(epoch) + "-" + std::to_string(rank),
      std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(page), sizeof page)) return {0, 0};
  return {page[0], page[1]};
}

std::int64_t Cluster::await_started(std::int64_t id, std::int64_t epoch, int rank) const {
  return await("the start of rank " + std::to_string(rank), [&] { return stamp(id, epoch, rank).first; });
}

void Cluster::await_alive(std::int64_t id, std::int64_t epoch, int rank, std::int64_t after_us) const {
  await_true("a sign of life of rank " + std::to_string(rank), kPatience,
             [&] { return stamp(id, epoch, rank).second > after_us; });
}

Seen Cluster::supervisor(std::int64_t id, std::int64_t epoch, const std::string& node) {
  const std::string dir =
      worker(node).directory() + "/state/attempts/" + std::to_string(id) + "-" + std::to_string(epoch);
  for (auto& seen : find_processes("E2E_ROOT", worker(node).directory() + "/"))
    if (seen.program == "tutti-supervisor" && seen.command.find(dir) != std::string::npos)
      return std::move(seen);
  throw Failure("no supervisor for " + dir);
}

}  // namespace tutti::e2e
