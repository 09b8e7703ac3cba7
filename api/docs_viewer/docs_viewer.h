// The files of the page at /docs, compiled in (README.md beside this).
#pragma once

#include <span>

#include "api/http/static_files.h"

namespace tutti::api {

std::span<const http::EmbeddedFile> docs_viewer_files();

}  // namespace tutti::api
