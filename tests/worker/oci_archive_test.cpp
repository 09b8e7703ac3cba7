// Archives of images that are unpacked here: layers with their deletions, and what must not leave the root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "tests/worker/container_folder.h"
#include "worker/container/image_tools.h"
#include "worker/container/oci_archive.h"
#include "worker/container/run_tool.h"
#include "worker/supervisor/files.h"

namespace tutti::container {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string make_blob(const Folder& at, const std::string& digest, const std::string& text) {
  at.write("layout/blobs/sha256/" + digest, text);
  return "sha256:" + digest;
}

TEST(OciArchive, LayersAreAppliedWithTheirDeletions) {
  const Folder at;
  at.write("one/etc/kept", "1");
  at.write("one/etc/gone", "1");
  at.write("one/data/a", "1");
  at.write("two/etc/.wh.gone", "");
  at.write("two/data/.wh..wh..opq", "");
  at.write("two/data/b", "2");
  fs::create_directories(at / "layout/blobs/sha256");
  run_tool({"tar", "-C", at / "one", "-cf", at / "layout/blobs/sha256/l1", "."});
  run_tool({"tar", "-C", at / "two", "-czf", at / "layout/blobs/sha256/l2", "."});
  const auto config = make_blob(at, "c", R"({"config":{"Env":["PATH=/x","A=b"]}})");
  const auto manifest = make_blob(at, "m",
                                  R"({"config":{"digest":")" + config +
                                      R"("},"layers":[{"digest":"sha256:l1"},{"digest":"sha256:l2"}]})");
  at.write("layout/index.json", R"({"manifests":[{"digest":")" + manifest + R"("}]})");
  at.write("layout/oci-layout", "{}");
  ASSERT_TRUE(is_oci_layout(at / "layout"));
  run_tool({"tar", "-C", at / "layout", "-cf", at / "image.tar", "."});
  int n = 0;
  for (const auto& source : {at / "layout", at / "image.tar"}) {
    const auto root = at / ("root" + std::to_string(++n));
    fs::create_directories(at / "work" + std::to_string(n));
    EXPECT_THAT(unpack_image(source, at / "work" + std::to_string(n), root), ElementsAre("PATH=/x", "A=b"));
    EXPECT_TRUE(fs::exists(root + "/etc/kept"));
    EXPECT_FALSE(fs::exists(root + "/etc/gone"));
    EXPECT_FALSE(fs::exists(root + "/data/a"));
    EXPECT_TRUE(fs::exists(root + "/data/b"));
    EXPECT_FALSE(fs::exists(root + "/etc/.wh.gone"));
  }
}

// An image of the folders one/ and two/, or of those members of two/.
void make_two_layers(const Folder& at, const std::string& second = ".") {
  fs::create_directories(at / "layout/blobs/sha256");
  run_tool({"tar", "-C", at / "one", "-cf", at / "layout/blobs/sha256/l1", "."});
  run_tool({"tar", "-C", at / "two", "-cf", at / "layout/blobs/sha256/l2", second});
  make_blob(at, "c", "{}");
  make_blob(at, "m",
            R"({"config":{"digest":"sha256:c"},"layers":[{"digest":"sha256:l1"},{"digest":"sha256:l2"}]})");
  at.write("layout/index.json", R"({"manifests":[{"digest":"sha256:m"}]})");
  at.write("layout/oci-layout", "{}");
}

TEST(OciArchive, ADeletionDoesNotLeaveTheRoot) {
  const Folder at;
  at.write("outside/precious", "1");
  fs::create_directories(at / "one");
  fs::create_directory_symlink(at / "outside", at / "one/way");
  at.write("two/way/.wh.precious", "");
  make_two_layers(at, "way/.wh.precious");
  unpack_image(at / "layout", at / "work", at / "root");
  EXPECT_TRUE(fs::exists(at / "outside/precious"));
}

// As where /lib becomes usr/lib, or /opt/tool a link to its newest version.
TEST(OciArchive, AFolderThatALayerReplacesByALinkOrAFileGoesWithAllThatIsInIt) {
  const Folder at;
  for (const auto* file : {"lib/a/b", "opt/tool/x", "opt/kept", "usr/lib/c", "files/a -> b/x",
                           "files/q\"\\/x", "files/na\303\257ve/x", "files/new\nline/x"})
    at.write(std::string("one/") + file, "1");
  fs::create_directory_symlink("elsewhere", at / "one/was-a-link");
  fs::create_directories(at / "two/opt");
  fs::create_directory_symlink("usr/lib", at / "two/lib");
  fs::create_directory_symlink("tool-2", at / "two/opt/tool");
  at.write("two/opt/tool-2/y", "2");
  for (const auto* file : {"a -> b", "q\"\\", "na\303\257ve", "new\nline"})
    at.write(std::string("two/files/") + file, "2");
  at.write("two/was-a-link/z", "2");
  make_two_layers(at);
  const auto root = at / "root";
  unpack_image(at / "layout", at / "work", root);
  EXPECT_EQ(fs::read_symlink(root + "/lib"), "usr/lib");
  EXPECT_TRUE(fs::exists(root + "/lib/c"));
  EXPECT_FALSE(fs::exists(root + "/lib/a"));
  EXPECT_TRUE(fs::exists(root + "/opt/kept")) << "a folder that stays one keeps what is in it";
  EXPECT_TRUE(fs::exists(root + "/opt/tool/y"));
  EXPECT_FALSE(fs::exists(root + "/opt/tool/x"));
  for (const auto* file : {"a -> b", "q\"\\", "na\303\257ve", "new\nline"})
    EXPECT_TRUE(fs::is_regular_file(root + "/files/" + file)) << file;
  EXPECT_TRUE(fs::is_regular_file(root + "/was-a-link/z"));
}

TEST(OciArchive, AReplacementDoesNotLeaveTheRoot) {
  const Folder at;
  at.write("outside/precious/x", "1");
  fs::create_directories(at / "one");
  fs::create_directory_symlink(at / "outside", at / "one/way");
  fs::create_directories(at / "two/way");
  fs::create_directory_symlink("elsewhere", at / "two/way/precious");
  make_two_layers(at, "way/precious");
  EXPECT_THROW(unpack_image(at / "layout", at / "work", at / "root"), std::runtime_error);
  EXPECT_TRUE(fs::exists(at / "outside/precious/x"));
}

TEST(OciArchive, ATarballOfARootIsARoot) {
  const Folder at;
  at.write("one/bin/sh", "x");
  run_tool({"tar", "-C", at / "one", "-cf", at / "root.tar", "."});
  EXPECT_THAT(unpack_image(at / "root.tar", at / "work", at / "root"), IsEmpty());
  EXPECT_TRUE(fs::exists(at / "root/bin/sh"));
}

// One member of a tarball, as POSIX has it: without root none can be made of a real device node.
std::string device_member(const std::string& name) {
  std::string head(512, '\0');
  const auto put = [&](std::size_t at, const std::string& text) { head.replace(at, text.size(), text); };
  put(0, name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, "00000000000");
  put(136, "00000000000");
  put(148, "        ");  // counts as blanks
  put(156, "3");
  put(257, std::string("ustar\00000", 8));
  put(329, "0000001");
  put(337, "0000003");
  unsigned sum = 0;
  for (const char c : head) sum += static_cast<unsigned char>(c);
  char text[8];
  std::snprintf(text, sizeof text, "%06o", sum);
  head.replace(148, 7, text, 7);
  return head;
}

// As in the folder of a chroot: what cannot be made must not fail the image.
TEST(OciArchive, DeviceNodesAreLeftOutWhereverTheyLie) {
  const Folder at;
  at.write("one/srv/wx?/null", "a file");
  run_tool({"tar", "-C", at / "one", "-cf", at / "root.tar", "srv"});
  std::string all = *supervisor::read_file(at / "root.tar");
  std::string devices;
  for (const auto* name :
       {"srv/chroot/dev/null", "srv/w[*]x?/null", "./dev/zero", "dev/null", "srv/a\nb\"\\"})
    devices += device_member(name);
  std::ofstream(at / "root.tar", std::ios::binary) << devices << all;
  EXPECT_THAT(unpack_image(at / "root.tar", at / "work", at / "root"), IsEmpty());
  EXPECT_TRUE(fs::is_regular_file(at / "root/srv/wx?/null"));
  for (const auto& entry : fs::recursive_directory_iterator(at / "root"))
    EXPECT_FALSE(fs::is_character_file(entry.path())) << entry.path();
}

// As after a pull; there is no registry here.
TEST(Podman, AnImageThatItHasIsSavedAndUnpacked) {
  if (find_in_path("podman").empty()) GTEST_SKIP() << "podman is not installed";
  if (!runs_well({"unshare", "--map-root-user", "--mount", "true"}))
    GTEST_SKIP() << "this kernel gives ordinary users no namespaces";
  const Folder at;
  at.write("one/etc/kept", "1");
  run_tool({"tar", "-C", at / "one", "-cf", at / "root.tar", "."});
  const std::string image = "localhost/made-here:1";
  const auto fetch = plan_fetch("podman", image, at.path(), at / "root");
  ASSERT_EQ(fetch.commands.size(), 3u);
  Words import(fetch.commands[2].begin(), std::ranges::find(fetch.commands[2], "save"));
  import.insert(import.end(),
                {"import", "--quiet", "--change", "ENV FROM_IMAGE=yes", at / "root.tar", image});
  run_tool(import);
  for (const auto& command : fetch.commands) run_tool(command);
  fs::create_directories(at / "work");
  EXPECT_THAT(unpack_image(fetch.archive, at / "work", at / "root"), Contains("FROM_IMAGE=yes"));
  EXPECT_TRUE(fs::exists(at / "root/etc/kept"));
}

}  // namespace
}  // namespace tutti::container
