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
Table usage_table(const json::object& body) {
  Table table;
  const json::array& rows = array_of(body, "rows");
  if (rows.empty()) return {{{"NOTHING WAS USED"}}, {}};
  std::vector<std::string> fields;
  for (const auto& member : as_object(rows.front())) {
    const std::string field(member.key());
    std::string title = field;
    if (title.ends_with("gpu_seconds")) title.replace(title.size() - 11, 11, "gpu_hours");
    if (title.find("_seconds") != std::string::npos) title.erase(title.find("_seconds"), 8);
    for (char& c : title) c = c == '_' ? ' ' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    fields.push_back(field);
    table.columns.push_back(
        {.title = title, .right = !member.value().is_string(), .shrinks = member.value().is_string()});
  }
  for (const auto& item : rows) {
    auto& cells = table.rows.emplace_back();
    const json::object& row = as_object(item);
    for (const auto& field : fields) {
      const auto number = number_of(row, field);
      if (number && field.ends_with("gpu_seconds")) {
        char hours[32];
        std::snprintf(hours, sizeof hours, "%.1f", *number / 3600);
        cells.push_back({.text = hours, .raw = hours});
      } else if (number && field.find("_seconds") != std::string::npos) {
        cells.push_back(seconds_cell(number));
      } else {
        cells.push_back({text_of(row, field)});
      }
    }
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
  Query query;
  query.add("project", options.project).add("user", options.user).add("group_by", options.group_by);
  if (!options.since.empty()) query.add("since", instant_of(options.since, session.look.now, "--since"));
  if (!options.until.empty()) query.add("until", instant_of(options.until, session.look.now, "--until"));
  const Document document = session.client.get("/v1/usage" + query.text());
  const json::object& body = as_object(document.tree);
  if (session.human())
    session.err << "from " << text_of(body, "from").substr(0, 16) << " to "
                << text_of(body, "until").substr(0, 16) << " UTC, by " << clean(text_of(body, "group_by"))
                << "\n";
  session.print(document, [&] { return usage_table(body); });
  return 0;
}

}  // namespace tutti::cli
