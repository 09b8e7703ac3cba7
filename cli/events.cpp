// events: what happened, page by page, and then live.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <ostream>

#include "cli/documents.h"
#include "cli/event_stream.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string change_of(const json::object& event) {
  const std::string from = text_of(event, "from"), to = text_of(event, "to");
  if (from.empty() || to.empty()) return from + to;
  return from + " > " + to;
}

Table events_table(const json::array& events, const Look& look) {
  Table table{{{"EVENT", true},
               {"AGE", true},
               {"JOB", true},
               {"NODE", false, true},
               {"EPOCH", true, false, true},
               {"KIND"},
               {"CHANGE"},
               {"CAUSE"},
               {"DETAIL", false, true}},
              {}};
  for (const auto& item : events) {
    const json::object& event = as_object(item);
    const json::value* detail = event.if_contains("detail");
    table.rows.push_back({{text_of(event, "id")},
                          time_cell(text_of(event, "at"), look),
                          {text_of(event, "job_id")},
                          {text_of(event, "node")},
                          {text_of(event, "epoch")},
                          {text_of(event, "kind")},
                          {change_of(event)},
                          {text_of(event, "cause")},
                          {detail != nullptr && detail->is_structured() ? json::serialize(*detail)
                                                                        : text_of(event, "detail")}});
  }
  return table;
}

// Everything there is so far, or its last `limit`.
json::array history(const Session& session, const std::string& path, int limit) {
  json::array events;
  std::string after;
  for (int page = 0; page < 10'000; ++page) {
    const Document document = session.client.get(path + (after.empty() ? "" : "?after=" + after));
    const json::array& items = array_of(as_object(document.tree), "events");
    const std::string last = items.empty() ? std::string() : text_of(as_object(items.back()), "id");
    if (last.empty() || last == after) break;
    after = last;
    for (const auto& item : items) events.push_back(item);
    if (limit > 0 && events.size() > static_cast<std::size_t>(limit))
      events.erase(events.begin(), events.end() - limit);
  }
  return events;
}

// One line per event; the columns of a live list cannot be fitted to what is still to come.
void print_live(const Session& session, const ServerEvent& event) {
  boost::system::error_code ec;
  const json::value tree = json::parse(event.data, ec);
  if (ec) return;
  switch (session.format) {
    case Format::json: session.out << event.data << "\n"; break;
    case Format::yaml: session.out << "---\n" << to_yaml(tree); break;
    case Format::csv:
    case Format::table:
    case Format::wide: {
      const json::object& e = as_object(tree);
      std::string line = text_of(e, "at").substr(0, 19) + "Z";
      for (const auto& [name, value] : {std::pair<std::string, std::string>{"job ", text_of(e, "job_id")},
                                        {"", text_of(e, "node")},
                                        {"", text_of(e, "kind")},
                                        {"", change_of(e)},
                                        {"cause ", text_of(e, "cause")},
                                        {"", text_of(e, "detail")}})
        if (!value.empty()) line += "  " + name + value;
      session.out << cut(clean(line), session.look.wide ? line.size() : session.look.width) << "\n";
    }
  }
  session.out.flush();
}

}  // namespace

int run_events(Session& session, const EventOptions& options) {
  const bool all = options.id.empty();
  const std::string path = all ? "/v1/events" : "/v1/jobs/" + resolve_job(session, options.id) + "/events";
  if (options.follow && session.format == Format::csv)
    throw Failure(Exit::usage, "-f has no CSV", "use -o json: one object per line");
  // Of the whole cluster only what is to come: its history may be long.
  std::string last_id;
  if (!all || !options.follow) {
    const json::array events = history(session, path, options.limit);
    if (!events.empty()) last_id = text_of(as_object(events.back()), "id");
    if (options.follow && session.format == Format::json) {
      for (const auto& event : events) session.out << json::serialize(event) << "\n";
    } else {
      Document document;
      document.tree = json::object{{"events", events}};
      document.text = json::serialize(document.tree);
      session.print(document, [&] { return events_table(events, session.look); });
    }
    session.out.flush();
  }
  if (!options.follow) return 0;
  EventStream stream(session.client, path, last_id);
  while (session.out) {
    ServerEvent event;
    switch (stream.next(event, std::chrono::hours(1))) {
      case EventStream::Next::event: print_live(session, event); break;
      case EventStream::Next::quiet: break;
      case EventStream::Next::reconnected:
        session.err << "tutti: the connection was lost; events may be missing here\n";
        break;
    }
  }
  return 0;
}

}  // namespace tutti::cli
