// What the verbs share: printing in the format asked for, ids, and --watch.
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <istream>
#include <ostream>
#include <thread>

#include "api/wire/text_values.h"
#include "cli/documents.h"
#include "cli/event_stream.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kQuietest(500);  // between two drawings
constexpr milliseconds kOldest(5000);   // ages move on even when nothing happens

}  // namespace

void Printer::print(const Document& document, const std::function<std::string()>& text,
                    const std::function<Table()>& table) const {
  const auto chosen = [&] { return columns.empty() ? table() : choose_columns(table(), columns); };
  switch (format) {
    case Format::table:
    case Format::wide: out << (columns.empty() ? text() : render_table(chosen(), look)); break;
    case Format::csv: out << render_csv(chosen()); break;
    case Format::yaml: out << to_yaml(document.tree); break;
    case Format::json: out << document.text << (document.text.ends_with('\n') ? "" : "\n"); break;
  }
  out.flush();
}

void Printer::print(const Document& document, const std::function<Table()>& table) const {
  print(document, [&] { return render_table(table(), look); }, table);
}

void Printer::print(boost::json::value tree, const std::function<std::string()>& text,
                    const std::function<Table()>& table) const {
  Document document;
  document.text = boost::json::serialize(tree);
  document.tree = std::move(tree);
  print(document, text, table);
}

void Printer::print_one(const Document& document, const std::string& text) const {
  if (format == Format::json)
    out << document.text << (document.text.ends_with('\n') ? "" : "\n");
  else if (format == Format::yaml)
    out << "---\n" << to_yaml(document.tree);
  else
    out << text;
}

void Session::refresh_now() {
  look.now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
}

std::string resolve_job(const Session& session, const std::string& id_or_name) {
  if (id_or_name.empty()) throw Failure(Exit::usage, "the id of a job is empty");
  if (std::all_of(id_or_name.begin(), id_or_name.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return id_or_name;
  const Document document = session.client.get("/v1/jobs/" + percent_encode(id_or_name));
  const std::string id = text_of(as_object(document.tree), "id");
  if (id.empty()) throw Failure(Exit::failed, "the server's answer is not a job");
  if (const auto several = document.head.header("Tutti-Ambiguous"); !several.empty())
    session.err << "tutti: " << clean(several) << " jobs are named '" << clean(id_or_name)
                << "'; taking the newest, " << id << "\n";
  return id;
}

std::vector<std::string> expand_ids(const Session& session, const std::vector<std::string>& ids) {
  std::vector<std::string> all;
  for (const auto& id : ids) {
    if (id != "-") {
      all.push_back(id);
      continue;
    }
    for (std::string word; session.in >> word;) {
      if (all.size() >= 100'000) throw Failure(Exit::usage, "more than 100000 ids on standard input");
      all.push_back(word);
    }
  }
  if (all.empty()) throw Failure(Exit::usage, "no job is named");
  return all;
}

std::string number_or_dash(const boost::json::object& object, std::string_view key) {
  const std::string text = text_of(object, key);
  return text.empty() ? "-" : text;
}

void ask_yes(const Session& session, const std::string& what) {
  if (!session.input_is_terminal) throw Failure(Exit::usage, what + ": needs -y when nobody can be asked");
  session.err << what << "? [y/N] " << std::flush;
  std::string answer;
  std::getline(session.in, answer);
  if (answer != "y" && answer != "Y" && answer != "yes") throw Failure(Exit::failed, "nothing was changed");
}

std::string instant_of(const std::string& text, Instant now, const char* flag) {
  if (const auto at = wire::parse_instant(text)) return wire::format_instant(*at);
  const auto ago = wire::parse_duration(text);
  if (!ago)
    throw Failure(Exit::usage, std::string(flag) + " " + text +
                                   ": expected 7d, 12h or an instant such as 2026-10-01T02:00:00Z");
  return wire::format_instant(now - *ago);
}

int draw_or_watch(Session& session, bool watching, const std::function<void()>& draw) {
  if (watching) return watch(session, draw);
  draw();
  return 0;
}

int watch(Session& session, const std::function<void()>& draw) {
  EventStream events(session.client, "/v1/events");
  while (true) {
    const auto drawn_at = std::chrono::steady_clock::now();
    session.refresh_now();
    if (session.output_is_terminal) session.out << "\033[H\033[2J";
    draw();
    session.out.flush();
    if (!session.out) return static_cast<int>(Exit::failed);  // nobody looks any more
    ServerEvent event;
    (void)events.next(event, kOldest);
    // Many events at once are one drawing.
    const auto next_at = drawn_at + kQuietest;
    for (auto left = std::chrono::ceil<milliseconds>(next_at - std::chrono::steady_clock::now());
         left.count() > 0; left = std::chrono::ceil<milliseconds>(next_at - std::chrono::steady_clock::now()))
      (void)events.next(event, left);
    while (events.next(event, milliseconds(0)) == EventStream::Next::event) {
    }
    if (!session.output_is_terminal && session.human()) session.out << "\n";
  }
}

}  // namespace tutti::cli
