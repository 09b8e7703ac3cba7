// nodes, gpus, node drain/resume and faults: the machines.
#include <boost/json/serialize.hpp>
#include <chrono>
#include <map>
#include <ostream>
#include <stdexcept>
#include <thread>

#include "cli/documents.h"
#include "cli/status_line.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string count_gpus(const json::object& node) {
  std::size_t usable = 0, taken = 0, other = 0;
  for (const auto& item : array_of(node, "gpus")) {
    const std::string state = text_of(as_object(item), "state");
    usable += state == "free" ? 1 : 0;
    taken += state == "allocated" ? 1 : 0;
    other += state != "free" && state != "allocated" ? 1 : 0;
  }
  std::string text = std::to_string(taken) + "/" + std::to_string(usable + taken + other);
  if (other > 0) text += " (" + std::to_string(other) + " out)";
  return text;
}

std::string model_of(const json::object& node) {
  const json::array& gpus = array_of(node, "gpus");
  std::string model = gpus.empty() ? std::string() : text_of(as_object(gpus.front()), "model");
  // First, so that no narrow terminal cuts it off.
  return (flag_of(node, "simulated_gpus") ? "simulated " : "") + model;
}

std::string list_of(const json::array& items) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ",") + scalar_text(item);
  return text;
}

// Why it takes no work, or what else is wrong: what a person said, then its conditions.
std::string why_of(const json::object& node) {
  std::string text = text_of(node, "service_reason");
  for (const auto& item : array_of(node, "conditions")) {
    const json::object& c = as_object(item);
    const std::string subject = text_of(c, "subject");
    text += (text.empty() ? "" : "; ") + text_of(c, "kind") + (subject.empty() ? "" : " " + subject) + ": " +
            text_of(c, "detail");
  }
  return text;
}

bool is_closed(const json::object& node) {
  for (const auto& item : array_of(node, "conditions"))
    if (text_of(as_object(item), "effect") == "close") return true;
  return false;
}

Table nodes_table(const Session& session, const Document& document) {
  Table table{{{"ID", true, false, true},
               {"NODE", false, true},
               {"STATE"},
               {"SERVICE"},
               {"GPUS", true},
               {"MODEL", false, true},
               {"CPUS", true},
               {"MEMORY", true},
               {"QUEUE", false, true},
               {"SINCE", true},
               {"JOBS", false, true},
               {"ADDRESS", false, true, true},
               {"DRIVER", false, true, true},
               {"WORKER", false, true, true},
               {"WHY", false, true}},
              {}};
  for (const auto& item : array_of(as_object(document.tree), "nodes")) {
    const json::object& node = as_object(item);
    const auto memory = integer_of(node, "memory_bytes");
    const std::string used = text_of(node, "cpus_used");
    Cell state = state_cell(text_of(node, "state"));
    if (const auto* linked = node.if_contains("linked");
        linked != nullptr && linked->is_bool() && !linked->get_bool() && state.text == "reachable")
      state = {.text = "unlinked", .tone = Tone::warn, .raw = "reachable"};
    else if (state.text == "reachable" && is_closed(node))
      state = {.text = "unfit", .tone = Tone::warn, .raw = "reachable"};
    table.rows.push_back(
        {{text_of(node, "id")},
         {text_of(node, "name")},
         state,
         state_cell(text_of(node, "service")),
         {count_gpus(node)},
         {model_of(node)},
         {used.empty() ? text_of(node, "cpus") : used + "/" + text_of(node, "cpus")},
         {memory && *memory > 0 ? short_bytes(*memory) : "", Tone::plain, text_of(node, "memory_bytes")},
         {text_of(node, "queue")},
         time_cell(text_of(node, "state_at"), session.look),
         {list_of(array_of(node, "jobs"))},
         {text_of(node, "address")},
         {text_of(node, "driver")},
         {text_of(node, "worker_version")},
         {why_of(node)}});
  }
  return table;
}

// /v1/gpus, whose entries may lack the node's name when they come inside a node.
Table gpus_table(const Document& document) {
  Table table{{{"NODE", false, true},
               {"GPU", true},
               {"STATE"},
               {"HEALTH"},
               {"JOB", true},
               {"MODEL", false, true},
               {"MEMORY", true},
               {"UUID", false, true},
               {"PCI", false, false, true},
               {"WHY", false, true}},
              {}};
  for (const auto& item : array_of(as_object(document.tree), "gpus")) {
    const json::object& gpu = as_object(item);
    const auto memory = integer_of(gpu, "memory_bytes");
    table.rows.push_back({{text_of(gpu, "node")},
                          {text_of(gpu, "index")},
                          state_cell(text_of(gpu, "state")),
                          state_cell(text_of(gpu, "health")),
                          {text_of(gpu, "job_id")},
                          {text_of(gpu, "model")},
                          {memory ? short_bytes(*memory) : "", Tone::plain, text_of(gpu, "memory_bytes")},
                          {text_of(gpu, "uuid")},
                          {text_of(gpu, "pci")},
                          {text_of(gpu, "health_reason")}});
  }
  return table;
}

Table faults_table(const Session& session, const Document& document) {
  Table table{{{"ID", true},
               {"AGE", true},
               {"NODE", false, true},
               {"CLASS"},
               {"XID", true},
               {"JOB", true},
               {"ACTION", false, true},
               {"GPU", false, false, true},
               {"EPOCH", true, false, true},
               {"DETAIL", false, true}},
              {}};
  for (const auto& item : array_of(as_object(document.tree), "faults")) {
    const json::object& fault = as_object(item);
    table.rows.push_back({{text_of(fault, "id")},
                          time_cell(text_of(fault, "at"), session.look),
                          {text_of(fault, "node")},
                          {text_of(fault, "class"), Tone::warn},
                          {integer_of(fault, "xid").value_or(0) > 0 ? text_of(fault, "xid") : ""},
                          {text_of(fault, "job_id")},
                          {text_of(fault, "action")},
                          {text_of(fault, "gpu_uuid")},
                          {text_of(fault, "epoch")},
                          {text_of(fault, "detail")}});
  }
  return table;
}

}  // namespace

int run_nodes(Session& session, bool watching) {
  const auto draw = [&] {
    const Document document = session.client.get("/v1/nodes");
    session.print(document, [&] { return nodes_table(session, document); });
  };
  return draw_or_watch(session, watching, draw);
}

int run_gpus(Session& session, bool watching) {
  return draw_or_watch(session, watching, [&] {
    const Document document = session.client.get("/v1/gpus");
    session.print(document, [&] { return gpus_table(document); });
  });
}

int run_node_change(Session& session, const NodeChange& change) {
  const std::string path = "/v1/nodes/" + percent_encode(change.node);
  json::object body;
  if (!change.reason.empty()) body["reason"] = change.reason;
  if (!change.until.empty()) body["until"] = change.until;
  const Document document =
      change.dry_run ? session.client.get(path) : session.client.post(path + ":" + change.verb, body);
  const json::object& node = as_object(document.tree);
  const auto table = [&] {
    return Table{{{"NODE"}, {"STATE"}, {"SERVICE"}},
                 {{{text_of(node, "name")}, {text_of(node, "state")}, {text_of(node, "service")}}}};
  };
  session.print(
      document,
      [&] {
        std::string line =
            "node " + clean(text_of(node, "name")) +
            (change.dry_run
                 ? ": would " + (change.verb == "off" ? "give it up" : change.verb + " it") + "; now "
             : change.verb == "report" ? " is reported; it is "
             : change.verb == "off"    ? " is given up; it is "
                                       : " is ") +
            text_of(node, change.verb == "off" ? "state" : "service");
        const std::string until = text_of(node, "service_until");
        if (change.verb == "drain" && !change.dry_run && !until.empty())
          line += " until " + time_cell(until, session.look).text;
        const std::string jobs = list_of(array_of(node, "jobs"));
        if (change.verb == "drain" && !jobs.empty()) line += "; still runs there: " + jobs;
        return line + "\n";
      },
      table);
  return 0;
}

int run_inspect(Session& session, const InspectOptions& options) {
  const std::string path = "/v1/nodes/" + percent_encode(options.node);
  Document document = options.last ? session.client.get(path + "/inspection")
                                   : session.client.post(path + ":inspect", json::object{});
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  StatusLine line(session);
  line.show("node " + options.node + " runs its checks");
  while (!options.last && flag_of(as_object(document.tree), "under_way") &&
         std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    document = session.client.get(path + "/inspection");
  }
  line.clear();
  const json::object& report = as_object(document.tree);
  if (!options.last && flag_of(report, "under_way"))
    throw std::runtime_error("node " + options.node + " has not sent its report within two minutes");
  Table table{
      {{"CHECK", false, true}, {"RESULT"}, {"TOOK", true}, {"OWNER", false, true}, {"DETAIL", false, true}},
      {}};
  for (const auto& item : array_of(report, "checks")) {
    const json::object& c = as_object(item);
    const std::string result = text_of(c, "result");
    table.rows.push_back({{text_of(c, "name")},
                          {.text = result, .tone = result == "failed" ? Tone::bad : Tone::plain},
                          {text_of(c, "took_seconds")},
                          {text_of(c, "owner")},
                          {text_of(c, "detail")}});
  }
  session.print(document, [&] { return table; });
  return options.last || flag_of(report, "passed") ? 0 : 1;
}

int run_faults(Session& session, const FaultOptions& options) {
  std::string path = "/v1/faults?limit=" + std::to_string(options.limit);
  if (!options.node.empty()) path += "&node=" + percent_encode(options.node);
  if (!options.job.empty()) path += "&job=" + resolve_job(session, options.job);
  return draw_or_watch(session, options.watch, [&] {
    const Document document = session.client.get(path);
    session.print(document, [&] { return faults_table(session, document); });
  });
}

}  // namespace tutti::cli
