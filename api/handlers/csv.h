// Comma-separated values (RFC 4180): lines end in CRLF, cells are quoted where they have to be. Text that a
// spreadsheet would take for a formula gets an apostrophe in front (OWASP, "CSV injection"): names of
// projects and users are other people's words.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace tutti::api {

class Csv {
 public:
  void text(std::string_view cell) {
    begin_cell();
    std::string_view rest = cell;
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    const bool formula = !rest.empty() && std::string_view("=+-@\t\r\n|%").find(rest.front()) != rest.npos;
    if (!formula && cell.find_first_of("\",\r\n") == std::string_view::npos && cell == trimmed(cell)) {
      out_ += cell;
      return;
    }
    out_ += formula ? "\"'" : "\"";
    for (const char c : cell) {
      if (c == '"') out_ += '"';
      out_ += c;
    }
    out_ += '"';
  }
  void number(std::string_view digits) {
    begin_cell();
    out_ += digits;
  }
  void end_row() {
    out_ += "\r\n";
    first_ = true;
  }
  std::string take() { return std::move(out_); }

 private:
  void begin_cell() {
    if (!first_) out_ += ',';
    first_ = false;
  }
  static std::string_view trimmed(std::string_view s) {
    const auto from = s.find_first_not_of(' '), to = s.find_last_not_of(' ');
    return from == s.npos ? std::string_view() : s.substr(from, to - from + 1);
  }

  std::string out_;
  bool first_ = true;
};

}  // namespace tutti::api
