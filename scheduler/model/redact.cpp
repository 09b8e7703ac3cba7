#include "scheduler/model/redact.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace tutti {
namespace {

constexpr std::size_t kShortestToken = 16;  // in the place of a user's name
constexpr std::size_t kLongestName = 128;
constexpr std::string_view kRedacted = "[redacted]";

bool is_name_char(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
}

// Ends of a value that stands bare: quotes, separators, control characters.
bool ends_value(char c) {
  return static_cast<unsigned char>(c) <= ' ' || c == '"' || c == '\'' || c == ',' || c == ';' || c == '&' ||
         c == '}' || c == ')';
}

bool same_word(std::string_view a, std::string_view lower) {
  return std::ranges::equal(
      a, lower, {}, [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
}

// "Authorization: Bearer …": the secret is the word after it.
bool is_scheme(std::string_view word) { return same_word(word, "bearer") || same_word(word, "basic"); }

std::string as_json(std::string_view value) {  // how it stands inside a JSON string
  std::string out;
  for (const char c : value) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

// What stood there has been taken out by name already.
bool is_masked(std::string_view text, std::size_t at) {
  return at < text.size() && text.substr(at).starts_with(kMaskBegins);
}

void replace_all(std::string& text, const std::string& what, std::string_view by) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

// "--hf-token VALUE", also as two words of a JSON list: what stands between is copied, the value left out.
// Returns where it goes on, or `at` when no value follows.
std::size_t skip_argument(std::string_view text, std::size_t at, std::string& out) {
  const auto skip = [&](std::size_t i, std::string_view any) {
    while (i < text.size() && any.find(text[i]) != std::string_view::npos) ++i;
    return i;
  };
  const std::size_t begin = skip(at, "\\\"', ");
  if (is_masked(text, begin)) return at;
  const auto between = text.substr(at, begin - at);
  if (between.find(' ') == std::string_view::npos && between.find(',') == std::string_view::npos) return at;
  std::size_t end = begin;
  while (end < text.size() && !ends_value(text[end]) && text[end] != '\\') ++end;
  if (end == begin || text[begin] == '-') return at;  // another option
  out.append(between).append(kRedacted);
  return end;
}

// "//user:password@host" and "//token@host": `text[at]` follows "://". Where the '@' is, or `at`.
std::size_t end_of_user_info(std::string_view text, std::size_t at) {
  for (std::size_t i = at; i < text.size(); ++i) {
    if (text[i] == '@') return i;
    if (text[i] == '/' || text[i] == '\\' || text[i] == '?' || ends_value(text[i])) break;
  }
  return at;
}

// `text[at]` follows a secret name. Copies the separator, leaves the value out; returns where it goes on, or
// `at` when this is no assignment.
std::size_t skip_value(std::string_view text, std::size_t at, std::string& out) {
  std::size_t i = at;
  if (i < text.size() && text[i] == '\\') ++i;  // JSON inside of JSON
  if (i < text.size() && (text[i] == '"' || text[i] == '\'')) ++i;
  const std::string_view name_quote = text.substr(at, i - at);
  while (i < text.size() && text[i] == ' ') ++i;
  if (i >= text.size() || (text[i] != '=' && text[i] != ':')) return at;
  ++i;
  while (i < text.size() && text[i] == ' ') ++i;
  if (is_masked(text, i) || is_masked(text, i + 1) || is_masked(text, i + 2)) return at;  // behind its quote
  const bool nested = i < text.size() && text[i] == '\\';
  if (nested) ++i;
  char quote = 0;
  if (i < text.size() && (text[i] == '"' || text[i] == '\'')) quote = text[i++];
  std::size_t end = i;
  while (end < text.size() && text[end] != '\n' && text[end] != '\0') {
    if (quote == 0 ? ends_value(text[end]) : text[end] == quote) break;
    if (quote != 0 && text[end] == '\\') {
      if (nested) break;  // its closing quote is escaped as the opening one was
      ++end;
    }
    ++end;
  }
  end = std::min(end, text.size());
  const bool scheme =
      quote == 0 && end < text.size() && text[end] == ' ' && is_scheme(text.substr(i, end - i));
  if (scheme && is_masked(text, end + 1)) return at;
  if (scheme)
    while (++end < text.size() && !ends_value(text[end])) {
    }
  if (end == i) return at;
  const std::string_view value = text.substr(i, end - i);
  const bool json_word = quote == 0 && !nested && name_quote.ends_with('"');
  // What is no text in JSON: a list or another object is looked at by itself, a number becomes a text.
  if (json_word && (value.front() == '{' || value.front() == '[' || value == "null" || value == "true" ||
                    value == "false"))
    return at;
  out.append(text.substr(at, i - at));
  if (json_word)
    out.append(name_quote).append(kRedacted).append(name_quote);
  else
    out.append(kRedacted);
  return end;
}

}  // namespace

bool is_secret_name(std::string_view name) {
  std::string upper;
  for (const char c : name)
    upper += c == '-' || c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string_view part : {"SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY"})
    if (upper.find(part) != std::string::npos) return true;
  constexpr auto kWords =
      std::to_array<std::string_view>({"TOKEN", "KEY", "PAT", "PWD", "AUTH", "AUTHORIZATION", "COOKIE"});
  for (const std::string_view word : kWords) {  // whole words: not TOKENIZERS, KEYBOARD, PATH
    if (word == "PWD" && (upper == "PWD" || upper == "OLDPWD")) continue;
    for (auto at = upper.find(word); at != std::string::npos; at = upper.find(word, at + 1)) {
      const auto end = at + word.size();
      if ((at == 0 || upper[at - 1] == '_') &&
          (end == upper.size() || upper[end] == '_' || upper[end] == 'S')) {
        if (end < upper.size() && upper[end] == 'S' && (end + 1 != upper.size() || word == "TOKEN"))
          continue;                                                    // "max_tokens" is a number
        if (upper == "KEY" || upper == "TUTTI_ATTEMPT_KEY") continue;  // a dictionary's; ours is "7-3"
        return true;
      }
    }
  }
  return false;
}

Redactor::Redactor(const std::map<std::string, std::string>& env, const std::vector<std::string>& values,
                   SecretMask secrets)
    : secrets_(std::move(secrets)) {
  const auto add = [&](const std::string& value) {
    if (value.size() < kShortestSecret) return;
    values_.push_back(value);
    if (const auto json = as_json(value); json != value) values_.push_back(json);
  };
  for (const auto& [name, value] : env)
    if (is_secret_name(name)) add(value);
  for (const auto& value : values) add(value);
  std::ranges::sort(values_, [](const auto& a, const auto& b) { return a.size() > b.size(); });
}

std::string Redactor::text(std::string_view original, std::size_t before) const {
  std::string known = secrets_.text(original, before);
  for (const auto& value : values_) replace_all(known, value, kRedacted);
  std::string out;
  out.reserve(known.size());
  const std::string_view text = known;
  std::size_t name_begins = 0;
  bool in_name = false;
  for (std::size_t i = 0; i < text.size();) {
    if (is_name_char(text[i])) {
      if (!in_name) name_begins = i;
      in_name = true;
      out += text[i++];
      continue;
    }
    const std::string_view name = in_name ? text.substr(name_begins, i - name_begins) : std::string_view();
    in_name = false;
    if (same_word(name, "bearer") && text[i] == ' ' && !is_masked(text, i + 1)) {
      std::size_t end = i + 1;
      while (end < text.size() && !ends_value(text[end])) ++end;
      if (end > i + 1) {
        out.append(" ").append(kRedacted);
        i = end;
        continue;
      }
    }
    if (text.substr(i, 3) == "://") {
      const auto at = i + 3, end = end_of_user_info(text, at);
      if (end != at) {
        const auto colon = text.substr(at, end - at).find(':');
        const bool known_user = colon != std::string_view::npos;
        const bool token = !known_user && end - at >= kShortestToken;  // "git@" is none
        out.append("://").append(known_user ? text.substr(at, colon + 1)
                                 : token    ? std::string_view()
                                            : text.substr(at, end - at));
        if (known_user || token) out.append(kRedacted);
        i = end;
        continue;
      }
    }
    if (!name.empty() && name.size() <= kLongestName && is_secret_name(name)) {
      auto next = skip_value(text, i, out);
      if (next == i && name.front() == '-') next = skip_argument(text, i, out);
      if (next != i) {
        i = next;
        continue;
      }
    }
    out += text[i++];
  }
  return out;
}

std::string Redactor::binary(std::string_view original, std::size_t before) const {
  std::string out = secrets_.binary(original).substr(before);
  for (const auto& value : values_) replace_all(out, value, std::string(value.size(), '*'));
  return out;
}

}  // namespace tutti
