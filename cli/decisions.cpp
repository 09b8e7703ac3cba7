#include "cli/decisions.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <filesystem>
#include <ostream>

#include "api/wire/text_values.h"
#include "cli/documents.h"
#include "cli/failure.h"
#include "cli/job_details.h"
#include "scheduler/decisions/replayer.h"

namespace tutti::cli {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using decisions::Replayer;
using decisions::Round;

constexpr std::size_t kShown = 1'000;  // jobs of the queue
constexpr std::size_t kEventsShown = 10;

std::vector<fs::path> segments_of(const std::string& path) {
  std::error_code ec;
  if (fs::is_regular_file(path, ec)) return {path};
  auto files = decisions::segments_in(path);
  if (files.empty())
    throw Failure(Exit::usage, path + " holds no decision log",
                  "the scheduler writes it into `decisions` in its --data, or where --decision-log says");
  return files;
}

void keep_until(std::vector<fs::path>& files, std::optional<Instant> until) {
  if (!until) return;
  const std::string first = files.front().string();
  std::erase_if(files, [&](const fs::path& f) {
    const auto began = decisions::began_at(f);
    return began && *began > *until;
  });
  if (files.empty())
    throw Failure(Exit::not_found, "nothing is recorded of " + wire::format_instant(*until),
                  "the oldest segment is " + first);
}

// ---------------------------------------------------------------- proof

struct Proof {
  std::int64_t decisions = 0, inputs = 0, segments = 0;
  std::vector<std::string> notes;
  std::optional<json::object> difference;
};

json::object difference_of(const fs::path& segment, const Round& round) {
  json::array inputs, events;
  for (const auto name : round.inputs) inputs.push_back(json::value(std::string(name)));
  for (const auto& e : round.output.batch.events)
    if (events.size() < kEventsShown)
      events.push_back(json::object{{"job_id", e.job ? json::value(e.job.value) : json::value(nullptr)},
                                    {"node_id", e.node ? json::value(e.node.value) : json::value(nullptr)},
                                    {"kind", e.kind},
                                    {"from", e.from},
                                    {"to", e.to},
                                    {"detail", e.detail}});
  const auto words = [](const auto& digest) { return digest ? decisions::hex(*digest) : "nothing"; };
  return {{"segment", segment.string()},
          {"round", round.number},
          {"at", wire::format_instant(round.now.wall)},
          {"inputs", std::move(inputs)},
          {"recorded", words(round.recorded)},
          {"replayed", words(round.replayed)},
          {"replayed_events", std::move(events)}};
}

void prove_segment(const fs::path& file, std::optional<Instant> until, Proof& proof) {
  Replayer replay(file);
  if (replay.empty()) {
    proof.notes.push_back(file.string() + ": breaks off before its first decision");
    return;
  }
  ++proof.segments;
  while (const auto round = replay.next(until)) {
    proof.inputs += static_cast<std::int64_t>(round->inputs.size());
    if (round->recorded || round->replayed) ++proof.decisions;
    if (round->same()) continue;
    proof.difference = difference_of(file, *round);
    if (replay.version() != client_version())
      proof.notes.push_back(file.string() + " was written by version " + replay.version() + ", this is " +
                            client_version() + ": what decides has changed between them");
    return;
  }
  if (replay.torn()) proof.notes.push_back(file.string() + ": its last part breaks off, and was left out");
  if (const auto inputs = replay.thrown_away())
    proof.notes.push_back(file.string() + ": a last round of " + std::to_string(*inputs) +
                          " inputs was not taken by the store");
}

Proof prove(const std::vector<fs::path>& files, std::optional<Instant> until) {
  Proof proof;
  for (const auto& file : files) {
    prove_segment(file, until, proof);
    if (proof.difference) break;
  }
  return proof;
}

std::string text_of_proof(const Proof& proof) {
  std::string text;
  const auto counted = [](std::int64_t n, const std::string& what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
  };
  for (const auto& note : proof.notes) text += "note: " + clean(note) + "\n";
  if (!proof.difference)
    return text + counted(proof.decisions, "decision") + " (" + counted(proof.inputs, "input") + ") in " +
           counted(proof.segments, "segment") + ", identical\n";
  const json::object& d = *proof.difference;
  text += "DIFFERENT: " + text_of(d, "segment") + ", round " + text_of(d, "round") + " of " +
          text_of(d, "at") + "\n  inputs:";
  for (const auto& input : array_of(d, "inputs")) text += " " + scalar_text(input);
  text += "\n  recorded " + text_of(d, "recorded") + ", replayed " + text_of(d, "replayed") + "\n";
  for (const auto& item : array_of(d, "replayed_events")) {
    const json::object& e = as_object(item);
    const std::string job = text_of(e, "job_id");
    text += "  the replay decides: " + (job.empty() ? "node " + text_of(e, "node_id") : "job " + job) + " " +
            clean(text_of(e, "kind") + " " + text_of(e, "from") + "->" + text_of(e, "to") + " " +
                  text_of(e, "detail")) +
            "\n";
  }
  text += counted(proof.decisions - 1, "decision") + " before it are identical\n";
  return text;
}

json::object view_of_proof(const Proof& proof) {
  json::array notes;
  for (const auto& note : proof.notes) notes.push_back(json::value(note));
  return {{"decisions", proof.decisions},
          {"inputs", proof.inputs},
          {"segments", proof.segments},
          {"identical", !proof.difference},
          {"difference", proof.difference ? json::value(*proof.difference) : json::value(nullptr)},
          {"notes", std::move(notes)}};
}

// ---------------------------------------------------------------- as it was

// The last segment that says anything, decided up to then.
std::unique_ptr<Replayer> at_the_end(const std::vector<fs::path>& files, std::optional<Instant> until) {
  for (auto file = files.rbegin(); file != files.rend(); ++file) {
    auto replay = std::make_unique<Replayer>(*file);
    if (replay->empty()) continue;
    while (replay->next(until)) {
    }
    return replay;
  }
  throw Failure(Exit::not_found, "no segment says how it begins", "");
}

json::object explained(const Explanation& e, const std::optional<Eta>& eta) {
  json::array reasons, blockers, would_help;
  for (const auto& r : e.reasons)
    reasons.push_back(json::object{{"code", r.code}, {"text", r.text}, {"need", r.need}, {"have", r.have}});
  for (const auto& b : e.blockers) blockers.push_back(json::object{{"code", b.code}, {"text", b.text}});
  for (const auto& c : e.would_help) would_help.push_back(json::object{{"field", c.field}, {"to", c.to}});
  json::object out{{"job_id", e.job.value},
                   {"state", name(e.state)},
                   {"never", e.never},
                   {"position", e.position ? json::value(*e.position) : json::value(nullptr)},
                   {"reasons", std::move(reasons)},
                   {"blockers", std::move(blockers)},
                   {"would_help", std::move(would_help)},
                   {"eta", nullptr}};
  if (eta)
    out["eta"] = json::object{{"at", wire::format_instant(eta->at)},
                              {"from", wire::format_instant(eta->from)},
                              {"to", wire::format_instant(eta->to)}};
  return out;
}

json::array queue_of(const Replayer& replay) {
  json::array out;
  const ControlPlane& plane = replay.plane();
  for (const JobId id : plane.waiting_in_order("", kShown)) {
    const Job& job = *plane.find_job(id);
    json::object row = explained(plane.explain(id, replay.now()), std::nullopt);
    row["name"] = job.spec->name;
    row["queue"] = job.row.queue.str();
    row["project"] = job.row.project.str();
    row["owner"] = job.row.owner.str();
    row["priority"] = job.row.priority;
    const auto planned = plane.planned_run(id, replay.now());
    row["planned_at"] = planned ? json::value(wire::format_instant(planned->start.at)) : json::value(nullptr);
    out.push_back(std::move(row));
  }
  return out;
}

json::array running_of(const Replayer& replay) {
  json::array out;
  for (const auto& [key, attempt] : replay.plane().attempts()) {
    json::array nodes;
    std::size_t gpus = 0;
    for (const auto& m : attempt.row.gang) {
      nodes.push_back(json::value(m.node_name));
      gpus += m.gpus.size();
    }
    out.push_back(json::object{{"job_id", key.job.value},
                               {"epoch", key.epoch.value},
                               {"state", name(attempt.row.state)},
                               {"nodes", std::move(nodes)},
                               {"gpus", gpus}});
  }
  return out;
}

std::string queue_text(const json::array& queue, const json::array& running, const Look& look) {
  Table waits{{{"#", true},
               {"JOB", true},
               {"NAME", false, true},
               {"QUEUE"},
               {"PROJECT"},
               {"OWNER"},
               {"STARTS"},
               {"WHY", false, true}},
              {}};
  for (std::size_t i = 0; i < queue.size(); ++i) {
    const json::object& row = as_object(queue[i]);
    const json::array& reasons = array_of(row, "reasons");
    waits.rows.push_back({{std::to_string(i)},
                          {text_of(row, "job_id")},
                          {clean(text_of(row, "name"))},
                          {text_of(row, "queue")},
                          {text_of(row, "project")},
                          {clean(text_of(row, "owner"))},
                          {text_of(row, "planned_at")},
                          {reasons.empty() ? "" : clean(text_of(as_object(reasons[0]), "text"))}});
  }
  Table runs{{{"JOB", true}, {"EPOCH", true}, {"STATE"}, {"GPUS", true}, {"NODES", false, true}}, {}};
  for (const auto& item : running) {
    const json::object& row = as_object(item);
    std::string nodes;
    for (const auto& node : array_of(row, "nodes")) nodes += (nodes.empty() ? "" : ",") + scalar_text(node);
    runs.rows.push_back({{text_of(row, "job_id")},
                         {text_of(row, "epoch")},
                         {text_of(row, "state")},
                         {text_of(row, "gpus")},
                         {nodes}});
  }
  return "waiting\n" + render_table(waits, look) + "placed and running\n" + render_table(runs, look);
}

void add_explanation(const Replayer& replay, JobId id, const Look& look, json::object& tree,
                     std::string& text) {
  const ControlPlane& plane = replay.plane();
  if (plane.find_job(id) == nullptr)
    throw Failure(
        Exit::not_found,
        "job " + to_string(id) + " neither waited nor ran at " + wire::format_instant(replay.now().wall),
        "it was not submitted yet, or it had ended: tutti events " + to_string(id));
  const json::object body =
      explained(plane.explain(id, replay.now(), true), plane.eta(id, replay.now(), true));
  text += explain_text(body, look);
  tree["explain"] = body;
}

// ---------------------------------------------------------------- what there is

Table segments_table(const json::array& segments) {
  Table table{{{"BEGAN"}, {"BYTES", true}, {"VERSION"}, {"FILE"}}, {}};
  for (const auto& item : segments) {
    const json::object& s = as_object(item);
    table.rows.push_back(
        {{text_of(s, "began_at")}, {text_of(s, "bytes")}, {text_of(s, "version")}, {text_of(s, "file")}});
  }
  return table;
}

json::array list_of(const std::vector<fs::path>& files) {
  json::array out;
  for (const auto& file : files) {
    const decisions::SegmentReader head(file);
    const auto began = decisions::began_at(file);
    out.push_back(
        json::object{{"file", file.string()},
                     {"began_at", began ? json::value(wire::format_instant(*began)) : json::value(nullptr)},
                     {"bytes", static_cast<std::int64_t>(fs::file_size(file))},
                     {"version", head.version()}});
  }
  return out;
}

int replay(const DecisionsOptions& o, const Printer& printer) {
  std::vector<fs::path> files = segments_of(o.path);
  std::optional<Instant> until;
  if (!o.until.empty()) until = wire::parse_instant(instant_of(o.until, printer.look.now, "--until"));
  keep_until(files, until);
  json::object tree;
  std::string text;
  bool different = false;
  const auto no_table = [] { return Table{}; };
  if (o.prove) {
    const Proof proof = prove(files, until);
    different = proof.difference.has_value();
    tree["proof"] = view_of_proof(proof);
    text += text_of_proof(proof);
  }
  if (o.queue || o.explain || (until && !o.prove)) {
    const auto then = at_the_end(files, until);
    tree["at"] = wire::format_instant(then->now().wall);
    text += "as of " + wire::format_instant(then->now().wall) + ", " + then->path().string() + "\n";
    if (o.queue || !o.explain) {
      tree["queue"] = queue_of(*then);
      tree["running"] = running_of(*then);
      text += queue_text(tree["queue"].as_array(), tree["running"].as_array(), printer.look);
    }
    if (o.explain) add_explanation(*then, JobId(*o.explain), printer.look, tree, text);
  }
  if (tree.empty()) {
    const json::array segments = list_of(files);
    printer.print(
        json::object{{"segments", segments}},
        [&] { return render_table(segments_table(segments), printer.look); },
        [&] { return segments_table(segments); });
    return 0;
  }
  printer.print(tree, [&] { return text; }, no_table);
  return different ? static_cast<int>(Exit::failed) : 0;
}

}  // namespace

int run_replay_decisions(const DecisionsOptions& options, const Printer& printer) {
  try {
    return replay(options, printer);
  } catch (const decisions::SegmentError& e) {
    throw Failure(Exit::failed, e.what());
  } catch (const decisions::BadBytes& e) {
    throw Failure(Exit::failed, options.path + " cannot be read: " + e.what());
  }
}

}  // namespace tutti::cli
