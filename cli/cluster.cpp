// cluster and version: the whole.
#include <boost/json/serialize.hpp>
#include <ostream>

#include "cli/documents.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string counts(const json::object& by_word, bool with_zero) {
  std::string text;
  for (const auto& member : by_word) {
    const std::string n = scalar_text(member.value());
    if (n == "0" && !with_zero) continue;
    text += (text.empty() ? "" : ", ") + n + " " + std::string(member.key());
  }
  return text;
}

}  // namespace

int run_cluster(Session& session) {
  const Document document = session.client.get("/v1/cluster");
  const json::object& cluster = as_object(document.tree);
  const json::object& gpus = object_of(cluster, "gpus");
  const json::object& nodes = object_of(cluster, "nodes");
  std::string leader = text_of(cluster, "leader");
  if (const std::string term = text_of(cluster, "term"); !leader.empty() && !term.empty())
    leader += " (term " + term + ")";
  const std::string gpu_text = counts(gpus, true) + (flag_of(cluster, "simulated_gpus") ? "; simulated" : "");
  const std::string jobs = counts(object_of(cluster, "jobs"), false);
  const std::vector<std::pair<std::string, Cell>> fields = {
      {"server", {session.client.connection().server}},
      {"version", {text_of(cluster, "version")}},
      {"leader", {leader}},
      {"nodes", {nodes.empty() ? text_of(cluster, "nodes") : counts(nodes, true)}},
      {"GPUs", {gpu_text}},
      {"jobs", {jobs.empty() ? "none" : jobs}},
      {"lease", {seconds_cell(number_of(cluster, "lease_seconds"))}},
      {"kill margin", {seconds_cell(number_of(cluster, "kill_margin_seconds"))}}};
  session.print(
      document, [&] { return render_fields(fields, session.look); },
      [&] {
        Table table{{}, {{}}};
        for (const auto& [name, cell] : fields) {
          table.columns.push_back({name});
          table.rows[0].push_back(cell);
        }
        return table;
      });
  return 0;
}

std::string client_version() { return TUTTI_VERSION; }

int run_version(Session& session) {
  Document document;
  json::object body{{"client", client_version()}, {"server", nullptr}};
  std::string server = "none is known";
  try {
    if (session.client.connection().server.empty()) throw Failure(Exit::usage, "none is known");
    const Document cluster = session.client.get("/v1/cluster");
    body["server"] = text_of(as_object(cluster.tree), "version");
    server = text_of(as_object(cluster.tree), "version") + " at " + session.client.connection().server;
  } catch (const Failure& failure) {
    server = failure.what();
  }
  document.tree = body;
  document.text = json::serialize(document.tree);
  const auto table = [&] {
    return Table{{{"client"}, {"server"}}, {{{client_version()}, {text_of(body, "server")}}}};
  };
  session.print(
      document, [&] { return "tutti   " + client_version() + "\nserver  " + clean(server) + "\n"; }, table);
  return 0;
}

}  // namespace tutti::cli
