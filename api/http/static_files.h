// Files for browsers: out of a folder, confined to it (confined_file.h), or out of the binary. With content
// types, ETag, and the compressed twin "x.js.gz" for whoever takes gzip.
//
// Who uses it: handlers, with the part of the path that names the file. Any thread; files of a folder are
// read while the caller waits, so it is for small files on a local disk.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "api/http/message.h"

namespace tutti::http {

/// What a page of ours may do: use what comes from here, run no script that stands in a page.
inline constexpr std::string_view kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

struct EmbeddedFile {
  std::string_view name, content;
  std::string_view gzip = {};  // the same compressed; "" = not
};

struct StaticOptions {
  std::string page_policy = std::string(kPagePolicy);
  std::string cache_control = "no-cache";  // kept, and asked for again by ETag
  std::size_t most_bytes = 16 << 20;       // longer files are not served
};

class StaticFiles {
 public:
  virtual ~StaticFiles() = default;
  /// `name` is decoded and relative: "assets/app.js". 200, 304, or a 404 problem.
  virtual Response answer(const Request& request, std::string_view name) const = 0;
};

/// The files live as long as the program.
std::unique_ptr<StaticFiles> embedded_files(std::span<const EmbeddedFile> files, StaticOptions options = {});
/// Throws std::runtime_error when the folder cannot be opened.
std::unique_ptr<StaticFiles> folder_files(const std::string& folder, StaticOptions options = {});

std::string_view content_type_of(std::string_view name);
bool accepts_gzip(const Request& request);
/// One of the entity tags of If-None-Match is this one.
bool has_current(const Request& request, std::string_view etag);

}  // namespace tutti::http
