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

void draw_cluster(Session& session) {
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
}

}  // namespace

int run_cluster(Session& session, bool watching) {
  return draw_or_watch(session, watching, [&] { draw_cluster(session); });
}

std::string client_version() { return TUTTI_VERSION; }

int run_version(const Printer& printer, const ConnectionFlags& flags, std::chrono::milliseconds timeout) {
  json::object body{{"client", client_version()}, {"server", nullptr}};
  std::string server;
  try {
    // Once, without patience: the client's version is of use without a server.
    Client client(find_connection(flags), {std::chrono::milliseconds(0), timeout}, [](const std::string&) {});
    const Document cluster = client.get("/v1/cluster");
    body["server"] = text_of(as_object(cluster.tree), "version");
    server = text_of(as_object(cluster.tree), "version") + " at " + client.connection().server;
  } catch (const Failure& failure) {
    server = failure.what();
  }
  printer.print(
      body, [&] { return "tutti   " + client_version() + "\nserver  " + clean(server) + "\n"; },
      [&] { return Table{{{"client"}, {"server"}}, {{{client_version()}, {text_of(body, "server")}}}}; });
  return 0;
}

}  // namespace tutti::cli
