#include "cli/render.h"

#include <algorithm>
#include <cstdio>

#include "api/wire/text_values.h"
#include "cli/failure.h"

namespace tutti::cli {
namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kNarrowest = 4;

std::string_view escape_of(Tone tone) {
  switch (tone) {
    case Tone::plain: return "";
    case Tone::good: return "\033[32m";
    case Tone::busy: return "\033[36m";
    case Tone::warn: return "\033[33m";
    case Tone::bad: return "\033[31m";
    case Tone::dim: return "\033[2m";
  }
  return "";
}

std::string pad(std::string text, std::size_t width, bool right) {
  const std::size_t have = display_width(text);
  if (have >= width) return text;
  const std::string space(width - have, ' ');
  return right ? space + text : text + space;
}

std::vector<std::size_t> shown_columns(const Table& table, const Look& look) {
  std::vector<std::size_t> shown;
  for (std::size_t i = 0; i < table.columns.size(); ++i)
    if (look.wide || !table.columns[i].wide_only) shown.push_back(i);
  return shown;
}

// Takes one character after the other from the widest column that may shrink, until the table fits.
void shrink_to_fit(std::vector<std::size_t>& widths, const std::vector<bool>& shrinks, std::size_t width) {
  const auto total = [&] {
    std::size_t sum = widths.empty() ? 0 : kGap * (widths.size() - 1);
    for (const auto w : widths) sum += w;
    return sum;
  };
  // Columns that need not be cut come last: only when nothing else is left.
  for (const bool any : {false, true})
    for (std::size_t over = total(); over > width; over = total()) {
      std::size_t widest = widths.size();
      for (std::size_t i = 0; i < widths.size(); ++i)
        if ((any || shrinks[i]) && widths[i] > kNarrowest &&
            (widest == widths.size() || widths[i] > widths[widest]))
          widest = i;
      if (widest == widths.size()) break;
      --widths[widest];
    }
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

// "NOT BEFORE", "not-before" and "notbefore" are the same column.
std::string folded(std::string_view title) {
  std::string out;
  for (const char c : title)
    if (c != ' ' && c != '-' && c != '_') out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return out;
}

}  // namespace

Table choose_columns(const Table& table, const std::vector<std::string>& titles) {
  Table chosen;
  chosen.rows.resize(table.rows.size());
  for (const auto& title : titles) {
    const auto at = std::find_if(table.columns.begin(), table.columns.end(),
                                 [&](const Column& column) { return folded(column.title) == folded(title); });
    if (at == table.columns.end()) {
      std::string known;
      for (const auto& column : table.columns) known += (known.empty() ? "" : ", ") + folded(column.title);
      throw Failure(Exit::usage, "--columns: there is no column '" + title + "'", "there are: " + known);
    }
    chosen.columns.push_back(*at);
    chosen.columns.back().wide_only = false;
    const auto index = static_cast<std::size_t>(at - table.columns.begin());
    for (std::size_t row = 0; row < table.rows.size(); ++row)
      chosen.rows[row].push_back(table.rows[row][index]);
  }
  return chosen;
}

std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string clean(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == '\n' || byte == '\t' || byte == '\r') {
      out += ' ';
    } else if (byte < 0x20 || byte == 0x7f) {
      out += '?';
    } else if (byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0) {
      out += '?';  // C1 controls: some terminals obey them
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string cut(std::string_view text, std::size_t width) {
  if (display_width(text) <= width) return std::string(text);
  std::string out;
  std::size_t taken = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80 && ++taken >= width) break;
    out += text[i];
  }
  return out + "…";
}

std::string paint(std::string_view text, Tone tone, const Look& look) {
  const auto escape = escape_of(tone);
  if (!look.colour || escape.empty() || text.empty()) return std::string(text);
  return std::string(escape) + std::string(text) + "\033[0m";
}

std::string render_table(const Table& table, const Look& look) {
  const auto shown = shown_columns(table, look);
  std::vector<std::size_t> widths;
  std::vector<bool> shrinks;
  for (const auto i : shown) {
    std::size_t width = display_width(table.columns[i].title);
    for (const auto& row : table.rows) width = std::max(width, display_width(clean(row[i].text)));
    widths.push_back(width);
    shrinks.push_back(table.columns[i].shrinks);
  }
  if (!look.wide) shrink_to_fit(widths, shrinks, look.width);

  const auto line = [&](auto text_at, auto tone_at) {
    std::string out;
    for (std::size_t n = 0; n < shown.size(); ++n) {
      const bool last = n + 1 == shown.size();
      const bool right = table.columns[shown[n]].right;
      const std::string text = cut(clean(text_at(shown[n])), widths[n]);
      const std::string padded = last && !right ? text : pad(text, widths[n], right);
      out += paint(padded, tone_at(shown[n]), look);
      if (!last) out += std::string(kGap, ' ');
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out + "\n";
  };
  std::string out =
      line([&](std::size_t i) { return table.columns[i].title; }, [](std::size_t) { return Tone::dim; });
  for (const auto& row : table.rows)
    out += line([&](std::size_t i) { return row[i].text; }, [&](std::size_t i) { return row[i].tone; });
  return out;
}

std::string render_csv(const Table& table) {
  std::string out;
  for (std::size_t i = 0; i < table.columns.size(); ++i)
    out += (i == 0 ? "" : ",") + csv_field(table.columns[i].title);
  out += "\r\n";
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      out += (i == 0 ? "" : ",") + csv_field(row[i].raw.value_or(row[i].text));
    out += "\r\n";
  }
  return out;
}

std::string render_fields(const std::vector<std::pair<std::string, Cell>>& fields, const Look& look) {
  std::size_t width = 0;
  for (const auto& [name, cell] : fields)
    if (!cell.text.empty()) width = std::max(width, display_width(name));
  const std::size_t room = look.width > width + kGap + kNarrowest ? look.width - width - kGap : kNarrowest;
  std::string out;
  for (const auto& [name, cell] : fields) {
    if (cell.text.empty()) continue;
    const std::string text = clean(cell.text);
    out += paint(pad(name, width, false), Tone::dim, look) + "  " +
           paint(look.wide ? text : cut(text, room), cell.tone, look) + "\n";
  }
  return out;
}

std::string short_duration(Duration d) {
  using namespace std::chrono;
  const auto total = duration_cast<seconds>(d < Duration::zero() ? -d : d).count();
  const auto unit = [](long long n, const char* u) { return std::to_string(n) + u; };
  if (total < 90) return unit(total, "s");
  if (total < 3600) return unit(total / 60, "m");
  if (total < 10 * 3600) {
    const auto minutes = total % 3600 / 60;
    return unit(total / 3600, "h") + (minutes == 0 ? std::string() : unit(minutes, "m"));
  }
  if (total < 48 * 3600) return unit(total / 3600, "h");
  return unit(total / 86400, "d");
}

std::string short_bytes(std::int64_t bytes) {
  double value = static_cast<double>(bytes);
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit > 0 && value < 10 ? "%.1f%s" : "%.0f%s", value, units[unit]);
  return text;
}

Cell time_cell(std::string_view instant, const Look& look) {
  if (instant.empty()) return {};
  Cell cell{.text = std::string(instant), .raw = std::string(instant)};
  const auto at = wire::parse_instant(instant);
  if (!at) return cell;
  if (look.utc) {
    cell.text = wire::format_instant(*at).substr(0, 19) + "Z";
  } else {
    const Duration ago = look.now - *at;
    cell.text = (ago < -std::chrono::seconds(1) ? "in " : "") + short_duration(ago);
  }
  return cell;
}

Cell seconds_cell(std::optional<double> seconds) {
  if (!seconds) return {};
  char raw[32];
  std::snprintf(raw, sizeof raw, "%.3f", *seconds);
  std::string text = short_duration(from_seconds(*seconds));
  if (*seconds < 10) {
    char exact[32];
    std::snprintf(exact, sizeof exact, "%.1fs", *seconds);
    text = exact;
  }
  return {.text = text, .raw = raw};
}

Cell span_cell(std::string_view from, std::string_view to, const Look& look) {
  const auto begin = wire::parse_instant(from);
  if (!begin) return {};
  const auto end = to.empty() ? std::optional<Instant>(look.now) : wire::parse_instant(to);
  if (!end) return {};
  return seconds_cell(std::max(0.0, to_seconds(*end - *begin)));
}

Tone tone_of(std::string_view state) {
  for (const std::string_view s : {"succeeded", "reachable", "free", "healthy", "schedulable"})
    if (state == s) return Tone::good;
  for (const std::string_view s : {"running", "starting", "stopping", "allocated", "placed", "preflight"})
    if (state == s) return Tone::busy;
  for (const std::string_view s :
       {"held", "delayed", "blocked", "unreachable", "cordoned", "draining", "dirty", "probation", "suspect"})
    if (state == s) return Tone::warn;
  for (const std::string_view s : {"failed", "dead", "quarantined", "absent", "lost"})
    if (state == s) return Tone::bad;
  return state == "cancelled" ? Tone::dim : Tone::plain;
}

Cell state_cell(const std::string& state) { return {.text = state, .tone = tone_of(state)}; }

}  // namespace tutti::cli
