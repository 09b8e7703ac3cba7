#include "scheduler/model/secret_mask.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace tutti {
namespace {

constexpr std::size_t kShortestLine = 16;  // of a value of several lines: else "}" would be a secret
constexpr std::string_view kHex = "0123456789ABCDEF";
constexpr std::string_view kStandard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kForUrls = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string as_json(std::string_view value) {
  std::string out;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"':
      case '\\': out += {'\\', c}; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (byte < 0x20)
          out += {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
        else
          out += c;
    }
  }
  return out;
}

std::string as_url(std::string_view value) {
  std::string out;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain)
      out += c;
    else
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return out;
}

// Those characters of the base64 of "…value…" that depend on the value alone, when `before` bytes (modulo 3)
// stand before it.
std::string as_base64(std::string_view value, std::size_t before, std::string_view alphabet) {
  std::string out;
  const std::size_t bits = value.size() * 8, skip = before * 8;
  const std::size_t first = (skip + 5) / 6;  // the first character that begins inside of the value
  const auto bit = [&](std::size_t at) {
    return static_cast<unsigned>(static_cast<unsigned char>(value[at / 8])) >> (7 - at % 8) & 1U;
  };
  for (std::size_t c = first; (c + 1) * 6 <= skip + bits; ++c) {
    unsigned six = 0;
    for (std::size_t i = 0; i < 6; ++i) six = six << 1 | bit(c * 6 + i - skip);
    out += alphabet[six];
  }
  return out;
}

std::vector<std::uint32_t> borders_of(std::string_view text) {
  std::vector<std::uint32_t> border(text.size());
  for (std::size_t i = 1, length = 0; i < text.size(); ++i) {
    while (length > 0 && text[length] != text[i]) length = border[length - 1];
    if (text[length] == text[i]) ++length;
    border[i] = static_cast<std::uint32_t>(length);
  }
  return border;
}

std::set<std::string> forms_of(std::string_view value) {
  std::set<std::string> out;
  const auto add = [&](std::string form) {
    if (form.size() >= kShortestSecret) out.insert(std::move(form));
  };
  const auto add_all = [&](std::string_view v) {
    if (v.size() < kShortestSecret) return;
    add(std::string(v));
    add(as_json(v));
    add(as_url(v));
    for (std::size_t before = 0; before < 3; ++before)
      for (const auto alphabet : {kStandard, kForUrls}) add(as_base64(v, before, alphabet));
  };
  while (value.ends_with('\n') || value.ends_with('\r')) value.remove_suffix(1);  // as `$(cat file)` gives it
  add_all(value);
  if (value.find('\n') == std::string_view::npos) return out;
  for (std::string_view rest = value; !rest.empty();) {
    const auto end = std::min(rest.find('\n'), rest.size());
    auto line = rest.substr(0, end);
    while (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() >= kShortestLine) add(std::string(line));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

}  // namespace

SecretMask::SecretMask(const std::map<std::string, std::string>& secrets) {
  for (const auto& [name, value] : secrets) {
    names_.push_back(name);
    for (const auto& form : forms_of(value)) {
      reach_ = std::max(reach_, form.size());
      forms_.push_back({form, names_.size() - 1, borders_of(form)});
    }
  }
  std::ranges::sort(forms_, [](const Form& a, const Form& b) {
    return a.bytes.size() != b.bytes.size() ? a.bytes.size() > b.bytes.size() : a.bytes < b.bytes;
  });
}

std::vector<std::size_t> SecretMask::cover(std::string_view window) const {
  std::vector<std::size_t> covered(window.size());
  for (const auto& form : forms_) {
    const std::size_t n = form.bytes.size(), period = n - form.border.back();
    std::size_t done = 0;  // covered up to here
    for (std::size_t from = 0; from + n <= window.size();) {
      // memmem takes linear time whatever the needle is; so a job cannot make us slow by its own secret.
      const void* found = memmem(window.data() + from, window.size() - from, form.bytes.data(), n);
      if (found == nullptr) break;
      const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - window.data());
      std::size_t end = at + n;
      if (period < n) {  // it may stand there again, one period on, and overlap with itself
        while (end < window.size() && window[end] == window[end - period]) ++end;
        end -= (end - at - n) % period;
      }
      for (std::size_t i = std::max(at, done); i < end; ++i)
        if (covered[i] == 0) covered[i] = form.name + 1;
      done = end;
      from = end - n + 1;
    }
  }
  return covered;
}

std::string SecretMask::text(std::string_view window, std::size_t from, std::size_t to, bool ended) const {
  to = std::min(to, window.size());
  if (empty()) return std::string(window.substr(from, to - from));
  auto covered = cover(window);
  if (const auto tail = ended ? open_tail(window) : 0; tail >= kShortestSecret)
    for (std::size_t i = window.size() - tail; i < window.size(); ++i)
      if (covered[i] == 0) covered[i] = names_.size() + 1;
  std::string out;
  out.reserve(to - from);
  for (std::size_t i = from; i < to; ++i) {
    if (covered[i] == 0) {
      out += window[i];
    } else if (i == 0 || covered[i - 1] == 0) {
      out += kMaskBegins;
      if (covered[i] <= names_.size()) out += " " + names_[covered[i] - 1];
      out += "›";
    }
  }
  return out;
}

std::string SecretMask::binary(std::string_view whole) const {
  std::string out(whole);
  if (empty()) return out;
  const auto covered = cover(whole);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (covered[i] != 0) out[i] = '*';
  return out;
}

std::size_t SecretMask::open_tail(std::string_view window) const {
  std::size_t longest = 0;
  for (const auto& form : forms_) {
    const auto most = std::min(form.bytes.size() - 1, window.size());
    std::size_t length = 0;
    for (const char c : window.substr(window.size() - most)) {
      while (length > 0 && form.bytes[length] != c) length = form.border[length - 1];
      if (form.bytes[length] == c) ++length;
    }
    longest = std::max(longest, length);
  }
  return longest;
}

}  // namespace tutti
