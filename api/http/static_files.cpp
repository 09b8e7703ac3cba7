#include "api/http/static_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

#include "api/http/confined_file.h"

namespace tutti::http {
namespace {

struct TypeOf {
  std::string_view ending, type;
};
constexpr auto kTypes = std::to_array<TypeOf>({
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".map", "application/json"},
    {".webmanifest", "application/manifest+json"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".jpg", "image/jpeg"},
    {".ico", "image/x-icon"},
    {".woff2", "font/woff2"},
    {".wasm", "application/wasm"},
    {".txt", "text/plain; charset=utf-8"},
    {".md", "text/plain; charset=utf-8"},
    {".yaml", "application/yaml"},
});

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Calls f(item) for each item of a comma list until it returns true.
template <class F>
bool any_item(std::string_view list, F f) {
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    if (f(trim(list.substr(0, comma)))) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

std::string hex(std::uint64_t number) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.begin(), digits.end(), number, 16).ptr;
  return {digits.begin(), end};
}

std::string hash_of(std::string_view bytes) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hex(h);
}

/// What has been found under a name, before its bytes are looked at.
struct Found {
  std::string etag;  // without quotes, of the plain one
  bool has_gzip = false;
};

template <class Bytes>
Response respond(const Request& request, std::string_view name, const Found& found,
                 const StaticOptions& options, Bytes bytes) {
  const bool compressed = found.has_gzip && accepts_gzip(request);
  const auto etag = "\"" + found.etag + (compressed ? "-gz" : "") + "\"";
  Response response;
  response.set("ETag", etag);
  response.set("Cache-Control", options.cache_control);
  if (found.has_gzip) response.set("Vary", "Accept-Encoding");
  if (has_current(request, etag)) {
    response.status = 304;
    return response;
  }
  auto body = bytes(compressed);
  if (!body) return problem(404, "not_found", "there is no such file");
  const auto type = content_type_of(name);
  response.set("Content-Type", std::string(type));
  if (type.starts_with("text/html")) response.set("Content-Security-Policy", options.page_policy);
  if (compressed) response.set("Content-Encoding", "gzip");
  response.body = std::move(*body);
  return response;
}

Response not_there(std::string_view name) {
  return problem(404, "not_found", "there is no file " + std::string(name.substr(0, 200)));
}

class Embedded final : public StaticFiles {
 public:
  Embedded(std::span<const EmbeddedFile> files, StaticOptions options) : options_(std::move(options)) {
    for (const auto& file : files)
      files_.emplace(file.name, Entry{&file, Found{hash_of(file.content), !file.gzip.empty()}});
  }

  Response answer(const Request& request, std::string_view name) const override {
    const auto at = files_.find(name);
    if (at == files_.end()) return not_there(name);
    const auto& [file, found] = at->second;
    return respond(request, name, found, options_, [file = file](bool compressed) {
      return std::optional<std::string>(compressed ? file->gzip : file->content);
    });
  }

 private:
  struct Entry {
    const EmbeddedFile* file;
    Found found;
  };
  StaticOptions options_;
  std::map<std::string_view, Entry, std::less<>> files_;
};

class Folder final : public StaticFiles {
 public:
  Folder(const std::string& folder, StaticOptions options) : folder_(folder), options_(std::move(options)) {}

  Response answer(const Request& request, std::string_view name) const override {
    const auto file = folder_.open(name);
    if (!file) return not_there(name);
    const auto twin = folder_.open(std::string(name) + ".gz");
    // A twin that is older than the file is not the same any more.
    const bool has_gzip = twin && newer_or_same(twin->info, file->info);
    const auto& info = file->info;
    const Found found{hex(static_cast<std::uint64_t>(info.st_size)) + "-" +
                          hex(static_cast<std::uint64_t>(info.st_mtim.tv_sec)) +
                          hex(static_cast<std::uint64_t>(info.st_mtim.tv_nsec)) + "-" +
                          hex(static_cast<std::uint64_t>(info.st_ino)),
                      has_gzip};
    return respond(request, name, found, options_, [&](bool compressed) {
      return read_file(compressed ? *twin : *file, options_.most_bytes);
    });
  }

 private:
  static bool newer_or_same(const struct stat& a, const struct stat& b) {
    return std::pair(a.st_mtim.tv_sec, a.st_mtim.tv_nsec) >= std::pair(b.st_mtim.tv_sec, b.st_mtim.tv_nsec);
  }

  ConfinedFolder folder_;
  StaticOptions options_;
};

}  // namespace

std::unique_ptr<StaticFiles> embedded_files(std::span<const EmbeddedFile> files, StaticOptions options) {
  return std::make_unique<Embedded>(files, std::move(options));
}

std::unique_ptr<StaticFiles> folder_files(const std::string& folder, StaticOptions options) {
  return std::make_unique<Folder>(folder, std::move(options));
}

std::string_view content_type_of(std::string_view name) {
  for (const auto& [ending, type] : kTypes)
    if (name.ends_with(ending)) return type;
  return "application/octet-stream";
}

bool accepts_gzip(const Request& request) {
  const auto header = request.header("Accept-Encoding");
  if (!header) return false;
  std::optional<bool> gzip, any;
  any_item(*header, [&](std::string_view item) {
    const auto semicolon = item.find(';');
    const auto coding = trim(item.substr(0, semicolon));
    const auto weight =
        semicolon == std::string_view::npos ? std::string_view("q=1") : trim(item.substr(semicolon + 1));
    const bool wanted = weight.find_first_of("123456789") != std::string_view::npos;
    if (equal_ignoring_case(coding, "gzip")) gzip = wanted;
    if (coding == "*") any = wanted;
    return false;
  });
  return gzip.value_or(any.value_or(false));
}

bool has_current(const Request& request, std::string_view etag) {
  const auto header = request.header("If-None-Match");
  return header && any_item(*header, [etag](std::string_view item) {
           if (item.starts_with("W/")) item.remove_prefix(2);
           return item == "*" || item == etag;
         });
}

}  // namespace tutti::http
