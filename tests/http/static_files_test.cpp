// Files for browsers: what is served, and above all what is not.
#include "api/http/static_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "api/http/confined_file.h"

namespace tutti::http {
namespace {

namespace fs = std::filesystem;

class StaticFilesTest : public testing::Test {
 protected:
  StaticFilesTest() {
    std::string pattern = (fs::temp_directory_path() / "tutti-static-XXXXXX").string();
    top_ = ::mkdtemp(pattern.data());
    fs::create_directories(site() / "assets");
    write("secret.txt", "SECRET");
    write("site/index.html", "<html>");
    write("site/assets/app.js", "console.log(1)");
    write("site/assets/app.js.gz", "COMPRESSED");
    write("site/.env", "SECRET");
    write("site/plain.js", "x");
  }
  ~StaticFilesTest() override { fs::remove_all(top_); }

  fs::path site() const { return top_ / "site"; }
  void write(const std::string& name, const std::string& text) const { std::ofstream(top_ / name) << text; }
  static Response ask(const StaticFiles& files, std::string_view name, Headers headers = {}) {
    return files.answer(Request::make(Method::get, "/x", {}, std::move(headers)), name);
  }
  static std::string header(const Response& response, std::string_view name) {
    const auto* value = find_header(response.headers, name);
    return value == nullptr ? "" : *value;
  }

  fs::path top_;
};

TEST_F(StaticFilesTest, ServesAFolderWithTypesAndPolicies) {
  const auto files = folder_files(site().string());
  const auto page = ask(*files, "index.html");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.body, "<html>");
  EXPECT_EQ(header(page, "Content-Type"), "text/html; charset=utf-8");
  EXPECT_EQ(header(page, "Content-Security-Policy"), kPagePolicy);
  EXPECT_EQ(header(page, "Cache-Control"), "no-cache");
  const auto script = ask(*files, "assets/app.js");
  EXPECT_EQ(header(script, "Content-Type"), "text/javascript; charset=utf-8");
  EXPECT_EQ(header(script, "Content-Security-Policy"), "") << "the closed policy of every other answer";
  EXPECT_EQ(ask(*files, "nowhere.html").status, 404);
  EXPECT_EQ(ask(*files, "assets").status, 404) << "a folder is no file";
}

TEST_F(StaticFilesTest, AnswersFromTheCacheOfTheBrowser) {
  const auto files = folder_files(site().string());
  const auto etag = header(ask(*files, "index.html"), "ETag");
  ASSERT_FALSE(etag.empty());
  for (const auto& known : {etag, "W/" + etag, "\"other\", " + etag, std::string("*")}) {
    const auto again = ask(*files, "index.html", {{"If-None-Match", known}});
    EXPECT_EQ(again.status, 304) << known;
    EXPECT_EQ(again.body, "");
    EXPECT_EQ(header(again, "ETag"), etag);
  }
  EXPECT_EQ(ask(*files, "index.html", {{"If-None-Match", "\"other\""}}).status, 200);
  write("site/index.html", "<html>new");
  EXPECT_EQ(ask(*files, "index.html", {{"If-None-Match", etag}}).status, 200);
}

TEST_F(StaticFilesTest, TheCompressedTwinIsForThoseWhoTakeIt) {
  const auto files = folder_files(site().string());
  const auto get = [&](const std::string& accepted) {
    return ask(*files, "assets/app.js", {{"Accept-Encoding", accepted}});
  };
  for (const char* yes : {"gzip", "br, gzip;q=0.5", "GZIP", "*", "gzip;q=1.0, *;q=0"}) {
    const auto answer = get(yes);
    EXPECT_EQ(answer.body, "COMPRESSED") << yes;
    EXPECT_EQ(header(answer, "Content-Encoding"), "gzip");
    EXPECT_EQ(header(answer, "Vary"), "Accept-Encoding");
    EXPECT_EQ(header(answer, "Content-Type"), "text/javascript; charset=utf-8");
  }
  for (const char* no : {"", "br", "gzip;q=0", "gzip;q=0.0, *", "identity"}) {
    const auto answer = get(no);
    EXPECT_EQ(answer.body, "console.log(1)") << no;
    EXPECT_EQ(header(answer, "Content-Encoding"), "");
    EXPECT_EQ(header(answer, "Vary"), "Accept-Encoding");
  }
  EXPECT_NE(header(get("gzip"), "ETag"), header(get(""), "ETag"));
  EXPECT_EQ(header(ask(*files, "plain.js", {{"Accept-Encoding", "gzip"}}), "Vary"), "");
}

TEST_F(StaticFilesTest, AnOldTwinIsNotTheFileAnyMore) {
  const auto files = folder_files(site().string());
  fs::last_write_time(site() / "assets/app.js.gz", fs::file_time_type::clock::now() - std::chrono::hours(1));
  EXPECT_EQ(ask(*files, "assets/app.js", {{"Accept-Encoding", "gzip"}}).body, "console.log(1)");
}

TEST_F(StaticFilesTest, NothingOutsideIsServed) {
  fs::create_symlink("../secret.txt", site() / "leaves.txt");
  fs::create_symlink(top_ / "secret.txt", site() / "absolute.txt");
  fs::create_symlink("..", site() / "up");
  fs::create_symlink("/", site() / "root");
  fs::create_symlink("/proc/self/root", site() / "magic");
  ASSERT_EQ(::mkfifo((site() / "fifo").c_str(), 0600), 0);
  const auto files = folder_files(site().string());
  const ConfinedFolder folder(site().string());
  std::vector<std::string> names = {"../secret.txt",
                                    "assets/../../secret.txt",
                                    "assets/../index.html",
                                    "./index.html",
                                    "assets//app.js",
                                    "/etc/passwd",
                                    (top_ / "secret.txt").string(),
                                    "leaves.txt",
                                    "absolute.txt",
                                    "up/secret.txt",
                                    "root/etc/passwd",
                                    "magic/etc/passwd",
                                    "fifo",
                                    ".env",
                                    "assets/",
                                    "",
                                    ".",
                                    "..",
                                    "...",
                                    "..\\secret.txt",
                                    "assets\\..\\..\\secret.txt",
                                    "%2e%2e/secret.txt",
                                    "..%2fsecret.txt",
                                    std::string(5000, 'a'),
                                    std::string("index.html\0.js", 14),
                                    "index.html\n"};
  for (const auto& name : names) {
    const auto answer = ask(*files, name);
    EXPECT_EQ(answer.status, 404) << name;
    EXPECT_EQ(answer.body.find("SECRET"), std::string::npos) << name;
    EXPECT_FALSE(folder.open_by_parts(name)) << name;
  }
  std::cout << "[inputs] " << names.size() << " names of files that must not be served\n";
}

TEST_F(StaticFilesTest, ALinkThatStaysInsideIsFollowedWhereTheKernelCanTell) {
  fs::create_symlink("assets/app.js", site() / "inside.js");
  const auto files = folder_files(site().string());
  const auto status = ask(*files, "inside.js").status;
  EXPECT_TRUE(status == 200 || status == 404) << status;
  EXPECT_FALSE(ConfinedFolder(site().string()).open_by_parts("inside.js"))
      << "without the kernel's help: no links";
  EXPECT_TRUE(ConfinedFolder(site().string()).open_by_parts("assets/app.js"));
}

TEST_F(StaticFilesTest, TooLongFilesAreNotServed) {
  StaticOptions options;
  options.most_bytes = 3;
  EXPECT_EQ(ask(*folder_files(site().string(), options), "index.html").status, 404);
  EXPECT_EQ(ask(*folder_files(site().string(), options), "plain.js").status, 200);
}

TEST_F(StaticFilesTest, AFolderThatIsNotThereIsAnError) {
  EXPECT_THROW(folder_files((top_ / "nowhere").string()), std::runtime_error);
}

TEST_F(StaticFilesTest, ServesWhatIsCompiledIn) {
  static constexpr EmbeddedFile kFiles[] = {{"index.html", "<html>", "GZ"}, {"app.js", "x"}};
  const auto files = embedded_files(kFiles);
  EXPECT_EQ(ask(*files, "index.html").body, "<html>");
  EXPECT_EQ(ask(*files, "index.html", {{"Accept-Encoding", "gzip"}}).body, "GZ");
  EXPECT_EQ(ask(*files, "app.js", {{"Accept-Encoding", "gzip"}}).body, "x");
  EXPECT_EQ(ask(*files, "../app.js").status, 404);
  const auto etag = header(ask(*files, "app.js"), "ETag");
  EXPECT_EQ(ask(*files, "app.js", {{"If-None-Match", etag}}).status, 304);
}

}  // namespace
}  // namespace tutti::http
