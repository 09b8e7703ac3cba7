// The report of a day for people: the same numbers as its JSON form, in the same order.
#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cstdio>
#include <map>

#include "api/handlers/report.h"

namespace tutti {
namespace {

namespace json = boost::json;

constexpr const char* kUnknown = "not recorded";

std::string text_of(const json::value& v) {
  if (v.is_null()) return kUnknown;
  if (v.is_string()) return std::string(v.as_string());
  return json::serialize(v);
}
std::string printed(const char* format, double value) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}
std::string hours(const json::value& seconds) {
  return seconds.is_number() ? printed("%.1f h", seconds.to_number<double>() / 3600) : kUnknown;
}
std::string share(const json::value& ratio) {
  return ratio.is_number() ? printed("%.1f %%", ratio.to_number<double>() * 100) : kUnknown;
}
std::string wait(const json::value& seconds) {
  if (!seconds.is_number()) return "none";
  const double s = seconds.to_number<double>();
  return s < 120    ? printed("%.0f s", s)
         : s < 7200 ? printed("%.0f min", s / 60)
                    : printed("%.1f h", s / 3600);
}

// Seconds count here, and their parts.
std::string recovery(const json::value& seconds) {
  if (!seconds.is_number()) return "none";
  const double s = seconds.to_number<double>();
  return s < 10 ? printed("%.2f s", s) : s < 120 ? printed("%.1f s", s) : wait(seconds);
}

std::string stage_in_words(std::string_view stage) {
  static const std::map<std::string_view, const char*> words{
      {"decided", "stop decided"},    {"fenced", "every old rank proven dead"},
      {"placed", "new GPUs"},         {"running", "all ranks up"},
      {"restored", "first new step"}, {"caught_up", "as far as before"}};
  const auto found = words.find(stage);
  return found == words.end() ? std::string(stage) : found->second;
}

// One line of a cell: a name that people chose must not end the table.
std::string cell(std::string text, ReportStyle style) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  if (style == ReportStyle::text) return text;
  std::string out;
  for (const char c : text) {
    if (c == '|' || c == '\\' || c == '<' || c == '`' || c == '*' || c == '_' || c == '[') out += '\\';
    out += c;
  }
  return out;
}

class Page {
 public:
  explicit Page(ReportStyle style) : style_(style) {}
  using Row = std::vector<std::string>;

  void heading(int level, const std::string& text) {
    if (!out_.empty()) out_ += '\n';
    if (style_ == ReportStyle::markdown)
      out_ += std::string(static_cast<std::size_t>(level), '#') + " " + text + "\n\n";
    else
      out_ += text + "\n" + std::string(text.size(), level == 1 ? '=' : '-') + "\n";
  }
  void line(const std::string& text) { out_ += text + "\n"; }
  void table(const Row& head, const std::vector<Row>& rows) {
    if (rows.empty()) return line("none");
    style_ == ReportStyle::markdown ? piped(head, rows) : spaced(head, rows);
  }
  std::string take() { return std::move(out_); }

 private:
  void piped(const Row& head, const std::vector<Row>& rows) {
    const auto add = [&](const Row& row) {
      out_ += "|";
      for (const auto& text : row) out_ += " " + cell(text, style_) + " |";
      out_ += "\n";
    };
    add(head);
    out_ += "|";
    for (std::size_t i = 0; i < head.size(); ++i) out_ += "---|";
    out_ += "\n";
    for (const auto& row : rows) add(row);
  }
  void spaced(const Row& head, const std::vector<Row>& rows) {
    std::vector<std::size_t> width(head.size());
    const auto measure = [&](const Row& row) {
      for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
    };
    measure(head);
    for (const auto& row : rows) measure(row);
    const auto add = [&](const Row& row) {
      std::string text;
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string word = cell(row[i], style_);
        text += word + std::string(width[i] + 2 - std::min(word.size(), width[i]), ' ');
      }
      out_ += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
    };
    add(head);
    for (const auto& row : rows) add(row);
  }
  ReportStyle style_;
  std::string out_;
};

void add_figures(Page& page, const json::object& r) {
  const auto& use = r.at("utilisation").as_object();
  const auto& jobs = r.at("jobs").as_object();
  const auto& goodput = r.at("goodput").as_object();
  const auto& waits = r.at("waits").as_object();
  const auto& spare = r.at("spare").as_object();
  page.table({"Figure", "Value"},
             {{"GPU time held", hours(use.at("gpu_seconds"))},
              {"of the GPUs there were", share(use.at("ratio"))},
              {"lost (to be done again)", hours(goodput.at("lost_gpu_seconds"))},
              {"of the time held", share(goodput.at("lost_ratio"))},
              {"jobs submitted", text_of(jobs.at("submitted"))},
              {"attempts placed", text_of(jobs.at("placed"))},
              {"jobs succeeded, failed, cancelled", text_of(jobs.at("succeeded")) + ", " +
                                                        text_of(jobs.at("failed")) + ", " +
                                                        text_of(jobs.at("cancelled"))},
              {"wait until the first start, half", wait(waits.at("p50_seconds"))},
              {"nine of ten", wait(waits.at("p90_seconds"))},
              {"faults", text_of(r.at("faults").at("faults"))},
              {"set aside at the end of the day", text_of(r.at("set_aside_count"))},
              {"fewest idle GPUs at a full hour", text_of(spare.at("least_idle_gpus"))},
              {"most GPUs asked for by ready jobs", text_of(spare.at("most_asked_gpus"))}});
}

template <class Each>
std::vector<Page::Row> rows_of(const json::value& list, Each each) {
  std::vector<Page::Row> rows;
  for (const auto& item : list.as_array()) rows.push_back(each(item.as_object()));
  return rows;
}

void add_tables(Page& page, const json::object& r) {
  using Item = const json::object&;
  page.heading(2, "Lost by cause");
  std::vector<Page::Row> lost;
  for (const auto& [cause, seconds] : r.at("goodput").at("lost_by_cause").as_object())
    lost.push_back({std::string(cause), hours(seconds)});
  page.table({"Cause", "GPU time"}, lost);
  page.heading(2, "Waits by queue");
  page.table({"Queue", "Placed", "Half", "Nine of ten"}, rows_of(r.at("waits").at("by_queue"), [](Item q) {
               return Page::Row{text_of(q.at("queue")), text_of(q.at("placed")), wait(q.at("p50_seconds")),
                                wait(q.at("p90_seconds"))};
             }));
  page.heading(2, "Recoveries, from the first evidence of a fault");
  page.table({"Stage", "Attempts", "Half", "99 of 100"}, rows_of(r.at("recoveries"), [](Item s) {
               return Page::Row{stage_in_words(s.at("stage").as_string()), text_of(s.at("attempts")),
                                recovery(s.at("p50_seconds")), recovery(s.at("p99_seconds"))};
             }));
  page.heading(2, "Faults");
  for (const auto& [list, key, title] : {std::tuple{"by_class", "class", "Class"},
                                         {"by_action", "action", "What was done"},
                                         {"by_node", "node", "Node"}}) {
    page.table({title, "Faults", "Jobs hit"}, rows_of(r.at("faults").at(list), [&](Item f) {
                 return Page::Row{text_of(f.at(key)), text_of(f.at("faults")), text_of(f.at("jobs_hit"))};
               }));
    page.line("");
  }
  page.heading(2, "Set aside");
  page.table({"Node", "GPU", "What", "Why"}, rows_of(r.at("set_aside"), [](Item a) {
               return Page::Row{text_of(a.at("node")), a.at("gpu").is_null() ? "all" : text_of(a.at("gpu")),
                                text_of(a.at("what")), text_of(a.at("why"))};
             }));
  page.heading(2, "Room and need, by the hour");
  page.table({"At (UTC)", "GPUs", "Used", "Idle", "Unhealthy", "Closed", "Away", "Asked for"},
             rows_of(r.at("spare").at("samples"), [](Item s) {
               return Page::Row{text_of(s.at("at")).substr(11, 5),
                                text_of(s.at("gpus")),
                                text_of(s.at("used")),
                                text_of(s.at("idle")),
                                text_of(s.at("unhealthy")),
                                text_of(s.at("closed")),
                                text_of(s.at("away")),
                                text_of(s.at("asked_for"))};
             }));
  page.heading(2, "Projects");
  page.table({"Project", "Jobs", "GPU time", "Lost"}, rows_of(r.at("projects"), [](Item p) {
               return Page::Row{text_of(p.at("project")), text_of(p.at("jobs")), hours(p.at("gpu_seconds")),
                                hours(p.at("lost_gpu_seconds"))};
             }));
}

}  // namespace

std::string report_text(const json::object& report, ReportStyle style) {
  Page page(style);
  page.heading(1, "Report of " + text_of(report.at("day")));
  const bool complete = report.at("complete").as_bool();
  page.line("From " + text_of(report.at("from")).substr(0, 16) + " to " +
            text_of(report.at("until")).substr(0, 16) + " UTC" + (complete ? "." : "; the day is not over.") +
            " Made at " + text_of(report.at("made_at")).substr(0, 16) + ".");
  page.line("");
  add_figures(page, report);
  add_tables(page, report);
  return page.take();
}

}  // namespace tutti
