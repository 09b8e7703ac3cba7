#include "worker/node/kernel_log.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace tutti::node {
namespace {

constexpr std::size_t kMaxText = 1024;  // a record's text; the kernel's own bound is about that
constexpr std::size_t kMaxDetail = 300;
constexpr std::size_t kMaxAddresses = 64;
constexpr int kReportLines = 4;  // a loss of a GPU is told in one to three lines
constexpr std::int64_t kSameLossUs = 5'000'000;

template <class Number>
bool read_number(std::string_view& text, Number& out, int base = 10) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), out, base);
  if (parsed.ec != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(parsed.ptr - text.data()));
  return true;
}

bool eat(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == ',')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

// "\x0a" and the like, as the kernel writes bytes that cannot be printed.
std::string unescape(std::string_view text) {
  std::string out;
  while (!text.empty() && out.size() < kMaxText) {
    unsigned byte = 0;
    if (text.size() >= 4 && text.starts_with("\\x")) {
      auto digits = text.substr(2, 2);
      if (read_number(digits, byte, 16) && digits.empty()) {
        out.push_back(byte < 32 || byte == 127 ? ' ' : static_cast<char>(byte));
        text.remove_prefix(4);
        continue;
      }
    }
    out.push_back(text.front());
    text.remove_prefix(1);
  }
  return out;
}

std::string bounded(std::string_view text) { return std::string(trim(text).substr(0, kMaxDetail)); }

// At `text`: the address in brackets and what follows the colon. "PCI:0000:3b:00): 79, rest"
struct Report {
  std::string pci;
  std::int32_t number = 0;
  std::string_view rest;
};
std::optional<Report> read_report(std::string_view text) {
  const auto end = text.find(')');
  if (end == std::string_view::npos) return std::nullopt;
  const auto pci = normal_pci(text.substr(0, end));
  text.remove_prefix(end + 1);
  Report r;
  if (!pci || !eat(text, ":")) return std::nullopt;
  r.pci = *pci;
  text = trim(text);
  if (!read_number(text, r.number) || r.number <= 0) return std::nullopt;
  if (!text.empty() && text.front() != ',' && text.front() != ' ') return std::nullopt;
  r.rest = trim(text);
  return r;
}

// The sub-code of NVLink errors is bits 20 to 25 of the first word in the brackets.
std::optional<std::int32_t> nvlink_subcode(std::string_view text) {
  const auto at = text.find("(0x");
  if (at == std::string_view::npos) return std::nullopt;
  text.remove_prefix(at + 3);
  std::uint32_t word = 0;
  if (!read_number(text, word, 16)) return std::nullopt;
  return static_cast<std::int32_t>((word >> 20) & 0x3F);
}

// "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)": the last bracket.
std::string recovery_action(std::string_view text) {
  const auto to = text.find(" to ");
  if (to == std::string_view::npos) return {};
  const auto open = text.find('(', to), close = text.find(')', to);
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return {};
  return bounded(text.substr(open + 1, close - open - 1));
}

KernelFinding finding(KernelFinding::Kind kind, const KernelRecord& record, std::string_view detail) {
  KernelFinding f;
  f.kind = kind;
  f.boot_us = record.boot_us;
  f.detail = bounded(detail);
  return f;
}

std::optional<KernelFinding> read_switch(const KernelRecord& record, std::string_view text) {
  if (!eat(text, "nvidia-nvswitch")) return std::nullopt;
  constexpr std::string_view kMark = ": SXid (";
  const auto at = text.find(kMark);
  if (at == std::string_view::npos || at > 4) return std::nullopt;
  const auto report = read_report(text.substr(at + kMark.size()));
  if (!report) return std::nullopt;
  auto f = finding(KernelFinding::Kind::sxid, record, report->rest);
  f.pci = report->pci;
  f.xid = report->number;
  f.fatal = report->rest.starts_with("Fatal");
  return f;
}

std::optional<KernelFinding> read_oom(const KernelRecord& record, std::string_view text) {
  const bool node = text.starts_with("Out of memory: Kill");
  const bool group = text.starts_with("Memory cgroup out of memory: Kill");
  if (!node && !group) return std::nullopt;
  auto f = finding(KernelFinding::Kind::oom_kill, record, text);
  f.fatal = node;
  return f;
}

std::optional<KernelFinding> read_aer(const KernelRecord& record, std::string_view text) {
  // "DRIVER ADDRESS: AER: … error … received" or "DRIVER ADDRESS: PCIe Bus Error: severity=…"
  const auto aer = text.find(": AER: ");
  const auto bus = text.find(": PCIe Bus Error: severity=");
  const auto at = std::min(aer, bus);
  if (at == std::string_view::npos || at > 64) return std::nullopt;
  if (aer != std::string_view::npos && bus == std::string_view::npos &&
      text.find("rror", at) == std::string_view::npos)
    return std::nullopt;
  auto f = finding(KernelFinding::Kind::aer, record, text);
  const auto space = text.substr(0, at).rfind(' ');
  if (space != std::string_view::npos)
    f.pci = normal_pci(text.substr(space + 1, at - space - 1)).value_or("");
  f.fatal =
      text.find("(Fatal)") != std::string_view::npos ||
      (text.find("ncorrected") != std::string_view::npos && text.find("Non-Fatal") == std::string_view::npos);
  return f;
}

// The first address in the line.
std::optional<std::string> find_pci(std::string_view text) {
  for (std::size_t from = 0; from < text.size();) {
    const auto end = std::min(text.find_first_of(" ,()[]", from), text.size());
    auto word = text.substr(from, end - from);
    while (word.ends_with(':')) word.remove_suffix(1);
    if (auto pci = normal_pci(word)) return pci;
    from = end + 1;
  }
  return std::nullopt;
}

}  // namespace

std::optional<KernelRecord> parse_record(std::string_view record) {
  const auto semicolon = record.find(';');
  if (semicolon == std::string_view::npos) return std::nullopt;
  auto head = record.substr(0, semicolon);
  KernelRecord out;
  unsigned priority = 0;
  if (!read_number(head, priority) || !eat(head, ",")) return std::nullopt;
  if (!read_number(head, out.number) || !eat(head, ",")) return std::nullopt;
  if (!read_number(head, out.boot_us) || out.boot_us < 0) return std::nullopt;
  if (!head.empty() && head.front() != ',') return std::nullopt;  // flags and later fields: not looked at
  out.priority = static_cast<int>(priority & 7);
  out.facility = priority >> 3;
  auto text = record.substr(semicolon + 1);
  out.text = unescape(text.substr(0, text.find('\n')));
  return out;
}

std::optional<std::string> normal_pci(std::string_view text) {
  eat(text, "PCI:");
  text = text.substr(0, text.find(" GPU-"));  // "0000:01:00 GPU-I:05 GPU-CI:00": a slice of that GPU
  unsigned domain = 0, bus = 0, device = 0;
  const auto part = [&text](unsigned& out, std::size_t most) {
    const auto before = text.size();
    return read_number(text, out, 16) && before - text.size() <= most;
  };
  if (!part(domain, 8) || !eat(text, ":") || !part(bus, 2) || !eat(text, ":") || !part(device, 2))
    return std::nullopt;
  if (!text.empty()) {
    unsigned function = 0;
    if (!eat(text, ".") || !part(function, 1) || !text.empty()) return std::nullopt;
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  const auto put = [&out](unsigned value, int digits) {
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out.push_back(kDigits[(value >> shift) & 0xF]);
  };
  put(domain, domain > 0xFFFF ? 8 : 4);
  out.push_back(':');
  put(bus, 2);
  out.push_back(':');
  put(device, 2);
  return out;
}

std::optional<KernelFinding> KernelLogParser::take(const KernelRecord& record) {
  if (record.facility != 0) return std::nullopt;
  const std::string_view text = record.text;
  if (auto f = read_switch(record, text)) return f;
  if (auto f = read_oom(record, text)) return f;
  std::string_view driver = text;
  if (!eat(driver, "NVRM:")) return read_aer(record, text);
  driver = trim(driver);
  if (!eat(driver, "Xid (")) return off_the_bus(record, driver);
  const auto report = read_report(driver);
  if (!report) return std::nullopt;
  auto f = finding(KernelFinding::Kind::xid, record, report->rest);
  f.pci = report->pci;
  f.xid = report->number;
  if (f.xid >= 144 && f.xid <= 150) f.subcode = nvlink_subcode(report->rest);
  if (f.xid == 154) f.action = recovery_action(report->rest);
  if (f.xid == 79 && !is_news_79(f.pci, f.boot_us)) return std::nullopt;
  return f;
}

// Without a number, in one line ("GPU 0000:3b:00.0: GPU has fallen off the bus") or in several ("The NVIDIA
// GPU 0000:3b:00.0 …", "installed in this system has", "fallen off the bus and is not responding …").
std::optional<KernelFinding> KernelLogParser::off_the_bus(const KernelRecord& record, std::string_view text) {
  if (auto pci = find_pci(text)) {
    waiting_pci_ = *pci;
    waiting_lines_ = kReportLines;
  }
  const bool over = text.find("allen off the bus") != std::string_view::npos;
  if (!over) {
    if (waiting_lines_ > 0 && --waiting_lines_ == 0) waiting_pci_.clear();
    return std::nullopt;
  }
  waiting_lines_ = 0;
  const auto pci = std::exchange(waiting_pci_, {});
  if (pci.empty() || !is_news_79(pci, record.boot_us)) return std::nullopt;
  auto f = finding(KernelFinding::Kind::xid, record, text);
  f.pci = pci;
  f.xid = 79;
  f.deduced = true;
  return f;
}

bool KernelLogParser::is_news_79(const std::string& pci, std::int64_t boot_us) {
  const auto known = last_79_.find(pci);
  if (known != last_79_.end() && boot_us >= known->second && boot_us - known->second <= kSameLossUs)
    return false;
  if (known == last_79_.end() && last_79_.size() >= kMaxAddresses) last_79_.erase(last_79_.begin());
  last_79_[pci] = boot_us;
  return true;
}

}  // namespace tutti::node
