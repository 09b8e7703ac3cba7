#include "api/handlers/console.h"

#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "api/http/static_files.h"

namespace tutti {
namespace {

/// Of these the name changes with the contents.
bool is_asset(std::string_view path) { return path.starts_with("assets/"); }

bool names_a_file(std::string_view path) {
  const auto slash = path.rfind('/');
  return path.substr(slash == path.npos ? 0 : slash + 1).find('.') != path.npos;
}

bool wants_page(const http::Request& request) {
  const auto accept = request.header("Accept");
  return accept && accept->find("text/html") != accept->npos;
}

http::Response to_console(const http::Request&) {
  http::Response answer;
  answer.status = 302;
  return answer.set("Location", "/console/");
}

}  // namespace

void add_console(http::Router& router, const std::string& folder) {
  http::StaticOptions lasting;
  lasting.cache_control = "public, max-age=31536000, immutable";
  std::shared_ptr<const http::StaticFiles> pages = http::folder_files(folder),
                                           assets = http::folder_files(folder, std::move(lasting));
  const auto index = http::Request::make(http::Method::get, "/console/");
  if (pages->answer(index, "index.html").status != 200)
    throw std::runtime_error("--console-dir " + folder + ": there is no index.html; npm run build makes it");
  router.get("/", http::SyncHandler(to_console), "console.root");
  router.get("/console", http::SyncHandler(to_console), "console.enter");
  router.get("/console/{path*}", http::SyncHandler([pages, assets](const http::Request& request) {
               const std::string& path = request.param("path");
               if (is_asset(path)) return assets->answer(request, path);
               if (!names_a_file(path)) return pages->answer(request, "index.html");
               auto file = pages->answer(request, path);
               const bool none = file.status == 404 && wants_page(request);  // of node gpu01.example.com, say
               return none ? pages->answer(request, "index.html") : file;
             }),
             "console.file");
}

}  // namespace tutti
