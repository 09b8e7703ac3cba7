// What we write is read by the tar that people have.
#include "api/wire/tar_gz.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace tutti::wire {
namespace {

std::string run(const std::string& command) {
  std::string out;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer{};
  while (const auto n = fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), n);
  pclose(pipe);
  return out;
}

struct Folder {
  Folder() {
    char name[] = "/tmp/tar_gz_test.XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { run("rm -r " + path); }
  std::string path;
};

TEST(TarGz, SeveralPartsInARowAreOneArchive) {
  TarGz a, b, end;
  ASSERT_TRUE(a.add("one/x.txt", "hello\n", 1'700'000'000));
  ASSERT_TRUE(a.add("one/empty", "", 0));
  ASSERT_TRUE(b.add("two/big", std::string(100'000, 'q'), -5));
  end.add_end();
  const Folder folder;
  std::ofstream(folder.path + "/a.tar.gz", std::ios::binary) << a.finish() << b.finish() << end.finish();
  EXPECT_EQ(run("cd " + folder.path + " && tar tzf a.tar.gz"), "one/x.txt\none/empty\ntwo/big\n");
  EXPECT_EQ(run("cd " + folder.path + " && tar xzf a.tar.gz && cat one/x.txt && wc -c < two/big"),
            "hello\n100000\n");
}

TEST(TarGz, RefusesANameThatDoesNotFit) {
  TarGz a;
  EXPECT_FALSE(a.add(std::string(100, 'n'), "x", 0));
  EXPECT_FALSE(a.add("", "x", 0));
  EXPECT_TRUE(a.add(std::string(99, 'n'), "x", 0));
}

TEST(Base64, GoesThereAndBack) {
  for (std::size_t n = 0; n < 300; ++n) {
    std::string bytes;
    for (std::size_t i = 0; i < n; ++i) bytes += static_cast<char>(i * 37 + n);
    EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
  }
  EXPECT_EQ(from_base64("####"), std::nullopt);
}

}  // namespace
}  // namespace tutti::wire
