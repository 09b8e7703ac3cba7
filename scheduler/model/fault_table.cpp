#include "scheduler/model/fault_table.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <optional>

#include "scheduler/model/assert.h"
#include "scheduler/model/fault_table_text.h"

namespace tutti {
namespace {

constexpr std::string_view kHeader = "fault,job,gpu,scope,blame,weight,mode,meaning";
constexpr std::size_t kColumns = 8;
constexpr double kLeastWeight = 0.001;  // its inverse is stored as a whole number
using Cells = std::array<std::string_view, kColumns>;

template <class E>
struct Word {
  std::string_view word;
  E value;
};
constexpr auto kJobs = std::to_array<Word<FaultJob>>(
    {{"none", FaultJob::none}, {"leave", FaultJob::leave}, {"stop", FaultJob::stop}});
constexpr auto kGpus = std::to_array<Word<FaultGpu>>(
    {{"none", FaultGpu::none}, {"watch", FaultGpu::watch}, {"quarantine", FaultGpu::quarantine}});
constexpr auto kScopes = std::to_array<Word<bool>>({{"gpu", false}, {"island", true}});
constexpr auto kModes = std::to_array<Word<bool>>({{"on", false}, {"shadow", true}});
constexpr auto kBlames = std::to_array<Word<FaultBlame>>({{"hardware", FaultBlame::hardware},
                                                          {"user", FaultBlame::user},
                                                          {"infra", FaultBlame::infra},
                                                          {"unknown", FaultBlame::unknown},
                                                          {"symptom", FaultBlame::symptom}});

Error at_line(int line, std::string column, std::string message, std::string hint = "") {
  return Error{.code = Errc::invalid_argument,
               .message = "fault table, line " + std::to_string(line) + ": " + std::move(message),
               .hint = std::move(hint),
               .field = std::move(column)};
}

// The value of a word; otherwise `problem` says which words there are.
template <class E, std::size_t N>
E read_word(std::string_view cell, const std::array<Word<E>, N>& words, std::string_view column, int line,
            std::optional<Error>& problem) {
  std::string known;
  for (const auto& w : words) {
    if (w.word == cell) return w.value;
    known += (known.empty() ? "" : ", ") + std::string(w.word);
  }
  if (!problem)
    problem = at_line(line, std::string(column),
                      std::string(column) + " '" + std::string(cell) + "' is not known", "one of: " + known);
  return words[0].value;
}

// The last cell takes the rest of the line, commas and all.
std::optional<Cells> cells_of(std::string_view line) {
  Cells cells;
  for (std::size_t i = 0; i + 1 < kColumns; ++i) {
    const auto comma = line.find(',');
    if (comma == std::string_view::npos) return std::nullopt;
    cells[i] = line.substr(0, comma);
    line.remove_prefix(comma + 1);
  }
  cells.back() = line;
  return cells;
}

Result<FaultRule> rule_of(const Cells& cells, int line) {
  std::optional<Error> problem;
  FaultRule rule;
  rule.fault = std::string(cells[0]);
  rule.job = read_word(cells[1], kJobs, "job", line, problem);
  rule.gpu = read_word(cells[2], kGpus, "gpu", line, problem);
  rule.whole_island = read_word(cells[3], kScopes, "scope", line, problem);
  rule.blame = read_word(cells[4], kBlames, "blame", line, problem);
  const auto [end, bad] = std::from_chars(cells[5].data(), cells[5].data() + cells[5].size(), rule.weight);
  if (!problem && (bad != std::errc() || end != cells[5].data() + cells[5].size() ||
                   !(rule.weight == 0 || (rule.weight >= kLeastWeight && rule.weight <= 1))))
    problem = at_line(line, "weight",
                      "weight '" + std::string(cells[5]) + "' is neither 0 nor a number from 0.001 to 1");
  rule.shadow = read_word(cells[6], kModes, "mode", line, problem);
  rule.meaning = std::string(cells[7]);
  if (!problem && (rule.fault.empty() || rule.meaning.empty()))
    problem = at_line(line, "fault", "fault and meaning may not be empty");
  if (problem) return *std::move(problem);
  return rule;
}

std::string fnv1a(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(h));
  return hex;
}

}  // namespace

Result<FaultTable> FaultTable::parse(std::string_view csv) {
  constexpr std::string_view kVersionMark = "# version ";
  FaultTable table;
  table.hash_ = fnv1a(csv);
  bool headed = false;
  int number = 0;
  while (!csv.empty()) {
    std::string_view line = csv.substr(0, csv.find('\n'));
    csv.remove_prefix(std::min(csv.size(), line.size() + 1));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with(kVersionMark)) table.version_ = std::string(line.substr(kVersionMark.size()));
    if (line.empty() || line.starts_with('#')) continue;
    if (!headed) {
      if (line != kHeader) return at_line(number, "", "the first row must be '" + std::string(kHeader) + "'");
      headed = true;
      continue;
    }
    const auto cells = cells_of(line);
    if (!cells) return at_line(number, "", "has fewer than " + std::to_string(kColumns) + " columns");
    auto rule = rule_of(*cells, number);
    if (!rule) return rule.error();
    const std::string fault = rule->fault;
    if (!table.rules_.emplace(fault, *std::move(rule)).second)
      return at_line(number, "fault", "'" + fault + "' stands there twice");
  }
  if (table.version_.empty()) return at_line(1, "", "has no line '# version …'");
  for (const char* fallback : {"xid:*", "*"})
    if (!table.rules_.contains(fallback))
      return at_line(number, "fault", std::string("the row '") + fallback + "' is missing");
  return table;
}

const FaultTable& FaultTable::built_in() {
  static const FaultTable table = [] {
    auto parsed = parse(fault_table_text());
    TUTTI_ASSERT(parsed.has_value(), "the built-in fault table is in order");
    return *std::move(parsed);
  }();
  return table;
}

const FaultRule& FaultTable::judge(std::string_view kind, std::int32_t xid) const {
  const auto known = rules_.find(fault_key(kind, xid));
  return known != rules_.end() ? known->second : rules_.find(kind == "xid" ? "xid:*" : "*")->second;
}

const FaultRule& FaultTable::judge_reason(std::string_view reason) const {
  constexpr std::string_view kXid = "Xid ";
  const std::string_view word = reason.substr(0, reason.find(':'));
  if (!word.starts_with(kXid)) return judge(word, 0);
  std::int32_t xid = 0;
  std::from_chars(word.data() + kXid.size(), word.data() + word.size(), xid);
  return judge("xid", xid);
}

std::string fault_action(const FaultRule& rule, bool braked, bool folded) {
  std::string action(name(rule.gpu));
  if (rule.job != FaultJob::none) action += ", " + std::string(name(rule.job));
  if (rule.shadow) return "shadow: " + action;
  if (braked) return "brake: " + action;
  return folded && rule.acts() ? "folded: " + action : action;
}

std::set<std::pair<std::string, std::string>> FaultTable::outcomes() const {
  std::set<std::pair<std::string, std::string>> out;
  for (const auto& [fault, rule] : rules_) {
    if (fault == "*") continue;
    const std::string kind = fault.substr(0, fault.find(':'));
    for (const bool folded : {false, true}) out.emplace(kind, fault_action(rule, false, folded));
    if (rule.acts()) out.emplace(kind, fault_action(rule, true, false));
  }
  return out;
}

std::vector<std::string> FaultTable::shadow_rows() const {
  std::vector<std::string> out;
  for (const auto& [fault, rule] : rules_)
    if (rule.shadow) out.push_back(id() + " " + fault);
  return out;
}

std::vector<std::string> FaultTable::quarantining() const {
  const auto takes = [](const FaultRule& rule) { return rule.gpu == FaultGpu::quarantine && !rule.shadow; };
  const bool unknown_xids = takes(rules_.at("xid:*")), unknown_kinds = takes(rules_.at("*"));
  std::vector<std::string> out;
  for (const auto& [fault, rule] : rules_) {
    const bool by_fallback = fault.starts_with("xid:") ? unknown_xids : unknown_kinds;
    if (takes(rule))
      out.push_back(fault);
    else if (by_fallback)
      out.push_back("!" + fault);
  }
  return out;
}

bool is_listed(const std::set<std::string, std::less<>>& quarantining, std::string_view kind,
               std::int32_t xid) {
  const std::string key = fault_key(kind, xid);
  if (quarantining.contains(key)) return true;
  return quarantining.contains(kind == "xid" ? "xid:*" : "*") && !quarantining.contains("!" + key);
}

std::string fault_key(std::string_view kind, std::int32_t xid) {
  return kind == "xid" ? "xid:" + std::to_string(xid) : std::string(kind);
}

std::string_view name(FaultJob v) { return kJobs[static_cast<std::size_t>(v)].word; }
std::string_view name(FaultGpu v) { return kGpus[static_cast<std::size_t>(v)].word; }
std::string_view name(FaultBlame v) { return kBlames[static_cast<std::size_t>(v)].word; }

}  // namespace tutti
