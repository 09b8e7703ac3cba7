// The readable page of the API: /docs, from files compiled in (api/docs_viewer).
#include "api/docs_viewer/docs_viewer.h"
#include "api/handlers/answer.h"
#include "api/http/static_files.h"

namespace tutti::api {
namespace {

/// The viewer puts style attributes into its own elements; scripts come from here or not at all.
constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const http::StaticFiles& files() {
  static const auto kFiles = [] {
    http::StaticOptions options;
    options.page_policy = kPolicy;
    return http::embedded_files(docs_viewer_files(), std::move(options));
  }();
  return *kFiles;
}

void get_page(const ApiPtr&, const http::Request& request, Answer answer) {
  answer.send(files().answer(request, "index.html"));
}

void get_file(const ApiPtr&, const http::Request& request, Answer answer) {
  answer.send(files().answer(request, request.param("file")));
}

}  // namespace

void add_docs_routes(const Routes& routes) {
  routes.get("/docs", "docs.page", Need::nothing, get_page);
  routes.get("/docs/{file}", "docs.file", Need::nothing, get_file);
}

}  // namespace tutti::api
