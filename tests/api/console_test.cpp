// The console's files: pages, assets, and nothing else of the disk.
#include "api/handlers/console.h"

#include <filesystem>
#include <fstream>

#include "api/http/static_files.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace fs = std::filesystem;

class Console : public ::testing::Test {
 protected:
  Console() {
    char name[] = "/tmp/tutti-console-XXXXXX";
    folder = mkdtemp(name);
    fs::create_directories(folder / "dist/assets");
    write("secret.txt", "not yours");
    write("dist/assets/app-1a2b.js", "run()");
    write("dist/logo.svg", "<svg/>");
  }
  ~Console() override { fs::remove_all(folder); }
  void write(const std::string& name, const std::string& text) { std::ofstream(folder / name) << text; }
  http::Response get(const std::string& target, http::Headers headers = {}) {
    auto request = http::Request::make(http::Method::get, target, {}, std::move(headers));
    std::optional<http::Response> answer = rig.before(request);
    if (!answer)
      router.dispatch(std::move(request),
                      http::Responder::to([&](http::Response r) { answer = std::move(r); }));
    return answer ? *answer : http::Response{.status = 0, .headers = {}, .body = {}};
  }
  std::string header(const http::Response& r, std::string_view name) {
    const auto found = http::find_header(r.headers, name);
    return found ? std::string(*found) : "";
  }

  fs::path folder;
  ApiRig rig;
  http::Router router;
};

TEST_F(Console, AFolderWithoutPagesIsRefused) {
  EXPECT_THROW(add_console(router, (folder / "nowhere").string()), std::runtime_error);
  EXPECT_THROW(add_console(router, (folder / "dist").string()), std::runtime_error);
}

TEST_F(Console, PagesAndAssets) {
  write("dist/index.html", "<!doctype html>");
  add_console(router, (folder / "dist").string());
  for (const auto path : {"/", "/console"}) {
    EXPECT_EQ(get(path).status, 302) << path;
    EXPECT_EQ(header(get(path), "Location"), "/console/");
  }
  for (const auto path :
       {"/console/", "/console/jobs/42?tab=logs", "/console/nodes/n1", "/console/index.html"}) {
    const auto page = get(path);
    EXPECT_EQ(page.status, 200) << path;
    EXPECT_EQ(page.body, "<!doctype html>");
    EXPECT_EQ(header(page, "Cache-Control"), "no-cache");
    EXPECT_EQ(header(page, "Content-Security-Policy"), http::kPagePolicy);
  }
  const auto script = get("/console/assets/app-1a2b.js");
  EXPECT_EQ(script.body, "run()");
  EXPECT_EQ(header(script, "Cache-Control"), "public, max-age=31536000, immutable");
  EXPECT_EQ(get("/console/logo.svg").status, 200);
  EXPECT_EQ(get("/console/assets/gone.js").status, 404) << "never a page instead of a script";
  EXPECT_EQ(get("/console/gone.svg").status, 404);
  EXPECT_EQ(get("/console/nodes/gpu01.example.com", {{"Accept", "text/html,*/*"}}).body, "<!doctype html>");
  EXPECT_EQ(get("/console/nodes/gpu01.example.com", {{"Accept", "image/*"}}).status, 404);
  EXPECT_NE(get("/console/..%2Fsecret.txt", {{"Accept", "text/html"}}).body, "not yours");
  EXPECT_EQ(get("/console/..%2Fsecret.txt").status, 404);
  EXPECT_EQ(get("/console/assets/..%2F..%2Fsecret.txt").status, 404);
  EXPECT_EQ(get("/v1/jobs").status, 401) << "the data has its own door";
  EXPECT_EQ(get("/consoles").status, 401);
}

}  // namespace
}  // namespace tutti::testing
