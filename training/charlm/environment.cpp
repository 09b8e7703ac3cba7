#include "training/charlm/environment.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "training/charlm/exit_codes.h"

namespace tutti::charlm {

namespace {

template <typename Integer>
Integer parse_integer(const char* name, std::string_view text) {
  Integer value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw Failure(Exit::usage, std::string(name) + "=" + std::string(text) + " is not a whole number");
  }
  return value;
}

}  // namespace

std::string environment_text(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::optional<int> environment_int(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const std::string text = environment_text(name);
    if (!text.empty()) return parse_integer<int>(name, text);
  }
  return std::nullopt;
}

Environment load_environment(int rank) {
  Environment env;
  env.checkpoint_dir = environment_text("CHECKPOINT_DIR");
  env.resume_checkpoint = environment_text("RESUME_CHECKPOINT");
  env.stop_file = environment_text("TUTTI_STOP_FILE");

  std::string progress = environment_text("TUTTI_PROGRESS_FILE");
  const std::string digits = std::to_string(rank);
  for (auto at = progress.find("%r"); at != std::string::npos; at = progress.find("%r", at + digits.size())) {
    progress.replace(at, 2, digits);
  }
  env.progress_file = progress;

  const std::string epoch = environment_text("TUTTI_EPOCH");
  if (!epoch.empty()) env.epoch = parse_integer<std::int64_t>("TUTTI_EPOCH", epoch);
  return env;
}

}  // namespace tutti::charlm
