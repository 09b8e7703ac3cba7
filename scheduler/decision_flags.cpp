#include "scheduler/decision_flags.h"

#include <fstream>
#include <iterator>
#include <string_view>

namespace tutti {

void add_decision_flags(CLI::App& app, DecisionFlags& f) {
  app.add_option("--decision-log", f.directory,
                 "directory for what `tutti replay` decides again (DATA: of --data); \"\" = none")
      ->capture_default_str();
  app.add_option("--decision-log-mib", f.mib, "the decision log is never larger; its oldest part goes")
      ->check(CLI::Range(1, 16 << 20))
      ->capture_default_str();
  app.add_option("--decision-log-days", f.days, "and its parts are kept for so long after their end")
      ->check(CLI::Range(0.01, 3650.0))
      ->capture_default_str();
}

std::optional<decisions::DecisionLogSettings> decision_log_settings(const DecisionFlags& f,
                                                                    const std::filesystem::path& data,
                                                                    const std::string& fault_table) {
  if (f.directory.empty()) return std::nullopt;
  constexpr std::string_view kBelowData = "DATA/";
  decisions::DecisionLogSettings settings;
  settings.directory = f.directory.starts_with(kBelowData) ? data / f.directory.substr(kBelowData.size())
                                                           : std::filesystem::path(f.directory);
  settings.max_bytes = static_cast<std::uint64_t>(f.mib) << 20;
  settings.keep = from_seconds(f.days * 86'400);
  settings.version = TUTTI_VERSION;
  if (!fault_table.empty()) {
    std::ifstream in(fault_table);
    settings.fault_table.assign(std::istreambuf_iterator<char>(in), {});
  }
  return settings;
}

}  // namespace tutti
