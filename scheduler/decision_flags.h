// The flags of tutti-scheduler about the decision log. Used by flags.h and parts.cpp only.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "scheduler/decisions/decision_log.h"

namespace tutti {

struct DecisionFlags {
  std::string directory = "DATA/decisions";  // "" = off; DATA/… is below --data
  int mib = 1024;
  double days = 14;
};

void add_decision_flags(CLI::App& app, DecisionFlags& flags);
/// nullopt: it is off. `fault_table`: the file of --fault-table, "" = none.
std::optional<decisions::DecisionLogSettings> decision_log_settings(const DecisionFlags& flags,
                                                                    const std::filesystem::path& data,
                                                                    const std::string& fault_table);

}  // namespace tutti
