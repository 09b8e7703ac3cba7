// The page at /docs: what is served, and that it needs nothing that our policy forbids.
#include <openssl/evp.h>

#include <fstream>
#include <regex>

#include "api/docs_viewer/docs_viewer.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

std::string file(std::string_view name) {
  for (const auto& f : api::docs_viewer_files())
    if (f.name == name) return std::string(f.content);
  ADD_FAILURE() << "no " << name;
  return {};
}

std::string sha256(const std::string& bytes) {
  unsigned char sum[32];
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), sum, &size, EVP_sha256(), nullptr);
  std::string out;
  for (const unsigned char c : sum) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", c);
    out += two;
  }
  return out;
}

TEST(Docs, ThePageAndItsPartsAreServedToEverybody) {
  ApiRig rig;
  const auto page = rig.get("/docs");
  EXPECT_EQ(page.status(), 200);
  EXPECT_EQ(page.header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_NE(page.header("Content-Security-Policy").find("script-src 'self';"), std::string::npos);
  EXPECT_EQ(page.response->body, file("index.html"));
  const std::regex used("(src|href)=\"(/[^\"]+)\"");
  int parts = 0;
  for (std::sregex_iterator it(page.response->body.begin(), page.response->body.end(), used), end; it != end;
       ++it) {
    const auto part = rig.get((*it)[2].str());
    EXPECT_EQ(part.status(), 200) << (*it)[2];
    EXPECT_FALSE(part.response->body.empty());
    ++parts;
  }
  EXPECT_GE(parts, 3);
  EXPECT_EQ(rig.get("/docs/nothing.js").status(), 404);
  EXPECT_EQ(rig.get("/docs/..%2findex.html").status(), 404);
  auto stranger = http::Request::make(http::Method::get, "/docs/rapidoc-min.js");
  EXPECT_FALSE(rig.before(stranger)) << "no token is needed";
}

TEST(Docs, ThePageNeedsNeitherInlineScriptsNorAnotherHost) {
  const auto page = file("index.html");
  EXPECT_EQ(page.find("http"), std::string::npos);
  EXPECT_FALSE(std::regex_search(page, std::regex("<script(?![^>]*src=)|\\son[a-z]+=|javascript:")));
  EXPECT_NE(page.find("load-fonts=\"false\""), std::string::npos)
      << "the viewer would ask another host for fonts";
}

TEST(Docs, CompressedPartsAreTheSameParts) {
  ApiRig rig;
  const auto plain = rig.get("/docs/rapidoc-min.js");
  const auto gzip = rig.get("/docs/rapidoc-min.js", {{"Accept-Encoding", "gzip"}});
  EXPECT_EQ(gzip.header("Content-Encoding"), "gzip");
  EXPECT_LT(gzip.response->body.size(), plain.response->body.size() / 3);
  EXPECT_TRUE(gzip.response->body.starts_with("\x1f\x8b"));
}

TEST(Docs, TheViewerIsTheOneThatTheReadmeNames) {
  const char* root = std::getenv("TUTTI_SOURCE");
  ASSERT_NE(root, nullptr) << "run by ctest";
  std::ifstream in(std::string(root) + "/api/docs_viewer/README.md");
  const std::string readme{std::istreambuf_iterator<char>(in), {}};
  EXPECT_NE(readme.find(sha256(file("rapidoc-min.js"))), std::string::npos);
}

}  // namespace
}  // namespace tutti::testing
