// audit and usage: what was done, and what was used.
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <ostream>

#include "cli/access.h"
#include "cli/documents.h"
#include "cli/listing.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr int kPage = 500;

class Query {
 public:
  Query& add(const char* key, const std::string& value) {
    if (!value.empty()) text_ += (text_.empty() ? "?" : "&") + std::string(key) + "=" + percent_encode(value);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

Document fetch_audit(Session& session, const AuditOptions& options) {
  Query query;
  query.add("who", options.who).add("action", options.action).add("target", options.target);
  if (!options.since.empty()) query.add("since", instant_of(options.since, session.look.now, "--since"));
  const auto limit = static_cast<std::size_t>(options.limit);
  json::array entries;
  std::string token;
  while (entries.size() < limit) {
    Query page = query;
    page.add("page_size", std::to_string(std::min<std::size_t>(kPage, limit - entries.size())));
    const Document document = session.client.get("/v1/audit" + page.add("page_token", token).text());
    const json::array& items = array_of(as_object(document.tree), "entries");
    for (const auto& item : items)
      if (entries.size() < limit) entries.push_back(item);
    token = items.empty() ? "" : text_of(as_object(document.tree), "next_page_token");
    if (token.empty()) break;
  }
  Document all;
  all.tree = json::object{{"entries", std::move(entries)}, {"next_page_token", token}};
  all.text = json::serialize(all.tree);
  return all;
}

// Key columns first, as the server has them, then numbers; hours are what people compare.
Cell usage_cell(const json::object& row, const std::string& field) {
  const auto number = number_of(row, field);
  if (number && (field.ends_with("gpu_seconds") || field.ends_with("node_seconds"))) {
    char hours[32];
    std::snprintf(hours, sizeof hours, "%.1f", *number / 3600);
    return {.text = hours, .raw = hours};
  }
  if (number && field.ends_with("_seconds")) return seconds_cell(number);
  return {text_of(row, field)};
}

std::string usage_title(std::string field) {
  if (field.ends_with("_seconds"))
    field.replace(field.size() - 8, 8,
                  field.ends_with("gpu_seconds") || field.ends_with("node_seconds") ? "_hours" : "");
  for (char& c : field) c = c == '_' ? ' ' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  return field;
}

// `total`: a last line for people.
Table usage_table(const json::object& body, bool total) {
  Table table;
  const json::array& rows = array_of(body, "rows");
  const json::object& sums = object_of(body, "total");
  const json::object& model = rows.empty() ? sums : as_object(rows.front());
  std::vector<std::string> fields;
  for (const auto& member : model) {
    if (member.value().is_structured()) continue;  // lost_by_cause: in JSON
    const std::string field(member.key());
    const bool text = member.value().is_string();
    const bool detail = field == "node_seconds" || field == "wait_p90_seconds" || field == "cancelled";
    fields.push_back(field);
    table.columns.push_back(
        {.title = usage_title(field), .right = !text, .shrinks = text, .wide_only = detail});
  }
  const auto add = [&](const json::object& row) {
    auto& cells = table.rows.emplace_back();
    for (const auto& field : fields) cells.push_back(usage_cell(row, field));
  };
  for (const auto& row : rows) add(as_object(row));
  if (total && rows.size() > 1 && !sums.empty()) {
    add(sums);
    if (!table.rows.back().empty()) table.rows.back()[0] = {.text = "total", .tone = Tone::dim};
  }
  return table;
}

}  // namespace

int run_audit(Session& session, const AuditOptions& options) {
  const Document document = fetch_audit(session, options);
  session.print(document, [&] {
    return list_table(array_of(as_object(document.tree), "entries"),
                      {{"ID", "id", Show::number},
                       {"AGE", "at", Show::time},
                       {"WHO", "who"},
                       {"ACTION", "action"},
                       {"TARGET", "target"},
                       {"STATUS", "status", Show::number},
                       {"FROM", "from"},
                       {"CREDENTIAL", "credential", Show::detail},
                       {"BEFORE", "before", Show::detail},
                       {"AFTER", "after", Show::detail}},
                      session.look);
  });
  if (session.human() && !text_of(as_object(document.tree), "next_page_token").empty())
    session.err << "tutti: there are more; -n N shows more than " << options.limit << "\n";
  return 0;
}

int run_usage(Session& session, const UsageOptions& options) {
  std::string groups;
  for (const auto& group : options.group_by) groups += (groups.empty() ? "" : ",") + group;
  Query query;
  query.add("project", options.project)
      .add("user", options.user)
      .add("queue", options.queue)
      .add("group_by", groups);
  if (!options.since.empty()) query.add("since", instant_of(options.since, session.look.now, "--since"));
  if (!options.until.empty()) query.add("until", instant_of(options.until, session.look.now, "--until"));
  const Document document = session.client.get("/v1/usage" + query.text());
  const json::object& body = as_object(document.tree);
  if (session.human())
    session.err << "from " << text_of(body, "since").substr(0, 16) << " to "
                << text_of(body, "until").substr(0, 16) << " UTC\n";
  if (flag_of(body, "cut")) session.err << "tutti: there are more rows than the server shows; ask for less\n";
  session.print(document, [&] { return usage_table(body, session.human()); });
  return 0;
}

}  // namespace tutti::cli
