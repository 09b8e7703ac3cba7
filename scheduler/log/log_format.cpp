#include "scheduler/log/log_format.h"

#include <spdlog/formatter.h>
#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>

#include "api/wire/utf8.h"

namespace tutti {
namespace {

std::atomic<bool> json_lines{false};

// Between the members of a line with fields and its text. A message of others that begins with it is text: no
// format string of ours does, and what strangers say never stands first.
constexpr char kFields = '\x1e';

void add_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : wire::to_utf8(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      std::array<char, 8> escaped{};
      std::snprintf(escaped.data(), escaped.size(), "\\u%04x", byte);
      out += escaped.data();
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string instant_text(spdlog::log_clock::time_point at) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(at.time_since_epoch()).count();
  const std::time_t seconds = micros / 1'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  const auto n = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text.data() + n, text.size() - n, ".%06ldZ", static_cast<long>(micros % 1'000'000));
  return text.data();
}

class JsonFormatter final : public spdlog::formatter {
 public:
  explicit JsonFormatter(std::string program) : program_(std::move(program)) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& to) override {
    std::string_view text(message.payload.data(), message.payload.size()), members;
    if (!text.empty() && text.front() == kFields) {
      const auto end = text.find(kFields, 1);
      members = text.substr(1, end - 1);
      text.remove_prefix(end + 1);
    }
    const auto level = spdlog::level::to_string_view(message.level);
    std::string line = "{\"at\":\"" + instant_text(message.time) + "\",\"level\":\"" +
                       std::string(level.data(), level.size()) + "\",\"program\":";
    add_string(line, program_);
    line.append(members).append(",\"message\":");
    add_string(line, text);
    line += "}\n";
    to.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<formatter> clone() const override { return std::make_unique<JsonFormatter>(program_); }

 private:
  std::string program_;
};

std::string members_of(const LogFields& fields) {
  std::string out;
  for (const auto& [name, value] : fields) {
    const auto* number = std::get_if<std::int64_t>(&value);
    const auto* text = std::get_if<std::string>(&value);
    if (number != nullptr ? *number == 0 : text->empty()) continue;
    out += ",\"" + std::string(name) + "\":";
    if (number != nullptr)
      out += std::to_string(*number);
    else
      add_string(out, *text);
  }
  return out;
}

}  // namespace

void set_log_format(std::string_view format, std::string program) {
  json_lines = format == "json";
  if (json_lines) spdlog::set_formatter(std::make_unique<JsonFormatter>(std::move(program)));
}

bool logs_json() { return json_lines; }

void log_change(spdlog::level::level_enum level, const std::string& text, const LogFields& fields) {
  if (!spdlog::should_log(level)) return;
  if (!logs_json()) return spdlog::log(level, "{}", text);
  spdlog::log(level, "{}", kFields + members_of(fields) + kFields + text);
}

}  // namespace tutti
