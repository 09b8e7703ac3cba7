// queue, project and reservation settings: list, set, remove.
#include <ostream>

#include "cli/documents.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string held_of(const json::object& row) {
  const json::object& use = object_of(row, "use");
  return text_of(use, "gpus") + " GPUs, " + text_of(use, "active_jobs") + " + " +
         text_of(use, "pending_jobs") + " jobs";
}
std::string or_dash(std::string text) { return text.empty() ? "-" : text; }

std::string joined(const json::array& items) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ", ") + clean(scalar_text(item));
  return or_dash(out);
}

Table table_of(const std::string& kind, const json::array& rows, const Look& look) {
  Table table;
  if (kind == "queue")
    table.columns = {{"QUEUE"}, {"NODES OF"}, {"QUOTA", true}, {"BORROW", true}, {"LEND", true}, {"USE"}};
  if (kind == "project")
    table.columns = {{"PROJECT"}, {"PARENT"}, {"WEIGHT", true}, {"MAX GPUS", true}, {"USE"}};
  if (kind == "reservation")
    table.columns = {{"RESERVATION"},        {"FROM"},     {"UNTIL"},
                     {"NODES", false, true}, {"PROJECTS"}, {"REASON", false, true}};
  for (const auto& item : rows) {
    const json::object& r = as_object(item);
    if (kind == "queue")
      table.rows.push_back({{text_of(r, "name")},
                            {or_dash(text_of(r, "nodes_of"))},
                            {or_dash(text_of(r, "quota_gpus"))},
                            {or_dash(text_of(r, "borrow_gpus"))},
                            {or_dash(text_of(r, "lend_gpus"))},
                            {held_of(r)}});
    if (kind == "project")
      table.rows.push_back({{text_of(r, "name")},
                            {or_dash(text_of(r, "parent"))},
                            {text_of(r, "weight")},
                            {or_dash(text_of(r, "max_gpus"))},
                            {held_of(r)}});
    if (kind == "reservation")
      table.rows.push_back({{text_of(r, "name")},
                            time_cell(text_of(r, "from"), look),
                            time_cell(text_of(r, "until"), look),
                            {joined(array_of(r, "nodes"))},
                            {joined(array_of(r, "projects"))},
                            {text_of(r, "reason")}});
  }
  return table;
}

}  // namespace

int run_shares(Session& session, const std::string& kind) {
  const Document document = session.client.get("/v1/" + kind + "s");
  session.print(document,
                [&] { return table_of(kind, array_of(as_object(document.tree), kind + "s"), session.look); });
  return 0;
}

int run_share_set(Session& session, const ShareSet& set, bool dry_run) {
  if (dry_run) {
    session.print(
        set.body, [&] { return "would set " + set.kind + " " + set.name + ":\n" + to_yaml(set.body); },
        [&] { return table_of(set.kind, json::array{set.body}, session.look); });
    return 0;
  }
  const Document document = session.client.put("/v1/" + set.kind + "s/" + percent_encode(set.name), set.body);
  const json::object& row = as_object(document.tree);
  for (const auto& warning : array_of(row, "warnings"))
    session.err << "warning: " << clean(scalar_text(warning)) << "\n";
  session.print(document, [&] { return table_of(set.kind, json::array{row}, session.look); });
  return 0;
}

int run_share_remove(Session& session, const std::string& kind, const std::string& name, bool dry_run) {
  const std::string path = "/v1/" + kind + "s/" + percent_encode(name);
  const Document document = dry_run ? session.client.get(path) : session.client.remove(path);
  session.print(
      document,
      [&] { return (dry_run ? "would remove " + kind + " " + name : kind + " " + name + " removed") + "\n"; },
      [&] { return Table{{{"REMOVED"}}, {{{name}}}}; });
  return 0;
}

}  // namespace tutti::cli
