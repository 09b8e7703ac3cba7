// checkpoints: those of one job, what is known of them, and how often to save.
#include "cli/documents.h"
#include "cli/pages.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

Cell state_of(const json::object& checkpoint) {
  const std::string state = text_of(checkpoint, "state");
  if (!text_of(checkpoint, "deleted_at").empty()) return {.text = "deleted", .tone = Tone::dim};
  const Tone tone = state == "good" ? Tone::good : state == "suspect" ? Tone::warn : Tone::plain;
  Cell cell{.text = state, .tone = state == "bad" ? Tone::bad : tone};
  if (!text_of(checkpoint, "retired_at").empty()) cell.text += ", to be deleted";
  return cell;
}

Table checkpoints_table(const json::object& body, const Look& look) {
  Table table{{{"STEP", true},
               {"EPOCH", true},
               {"STATE"},
               {"SIZE", true},
               {"SHARDS", true},
               {"AGE", true},
               {"COST", true},
               {"PATH", false, true},
               {"DETAIL", false, true}},
              {}};
  for (const auto& item : array_of(body, "checkpoints")) {
    const json::object& c = as_object(item);
    const auto bytes = integer_of(c, "bytes").value_or(0);
    table.rows.push_back({{text_of(c, "step")},
                          {text_of(c, "epoch")},
                          state_of(c),
                          {.text = bytes > 0 ? short_bytes(bytes) : "", .raw = std::to_string(bytes)},
                          {text_of(c, "shards")},
                          time_cell(text_of(c, "at"), look),
                          seconds_cell(number_of(c, "cost_seconds")),
                          {text_of(c, "path")},
                          {text_of(c, "detail")}});
  }
  return table;
}

std::string checkpoints_text(const json::object& body, const Look& look) {
  const json::object& advice = object_of(body, "advice");
  std::string text = render_table(checkpoints_table(body, look), look);
  if (const auto bytes = integer_of(body, "bytes").value_or(0); bytes > 0)
    text += "in all " + short_bytes(bytes) + "\n";
  const auto* overdue = advice.if_contains("overdue");
  if (overdue != nullptr && overdue->is_bool() && overdue->get_bool())
    text += paint("overdue: no new one within max_interval", Tone::warn, look) + "\n";
  return text + clean(text_of(advice, "text")) + "\n";
}

}  // namespace

int run_checkpoints(Session& session, const std::string& id, bool watching) {
  const std::string path = "/v1/jobs/" + resolve_job(session, id) + "/checkpoints";
  return draw_or_watch(session, watching, [&] {
    const Document document = get_pages(session.client, path, "checkpoints");
    const json::object& body = as_object(document.tree);
    session.print(
        document, [&] { return checkpoints_text(body, session.look); },
        [&] { return checkpoints_table(body, session.look); });
  });
}

}  // namespace tutti::cli
