// Images and sandboxes without processes of jobs: command lines per tool, layout of a root, and what is let
// in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/worker/container_folder.h"
#include "worker/container/container_plan.h"
#include "worker/container/image_tools.h"
#include "worker/container/sandbox.h"

namespace tutti::container {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Where `wanted` stands in `words`, -1 = nowhere.
std::ptrdiff_t place(const Words& words, const Words& wanted) {
  const auto at = std::ranges::search(words, wanted);
  return at.empty() ? -1 : at.begin() - words.begin();
}

std::string has_all(std::string_view program) { return "/usr/bin/" + std::string(program); }
std::string has_bwrap(std::string_view program) { return program == "bwrap" ? "/usr/bin/bwrap" : ""; }
std::string has_no_bwrap(std::string_view program) { return program == "podman" ? "/usr/bin/podman" : ""; }

TEST(ImageTools, WhatIsFoundIsChosenAndNothingRunsWithoutBubblewrap) {
  EXPECT_EQ(choose_tool("auto", &has_all), "podman");
  EXPECT_EQ(choose_tool("enroot", &has_all), "enroot");
  EXPECT_EQ(choose_tool("bubblewrap", &has_all), "bubblewrap");
  EXPECT_EQ(choose_tool("none", &has_all), "");
  EXPECT_EQ(choose_tool("auto", &has_bwrap), "bubblewrap");
  EXPECT_EQ(choose_tool("apptainer", &has_bwrap), "");
  EXPECT_EQ(choose_tool("auto", &has_no_bwrap), "");
}

TEST(ImageTools, ANameSaysWhatItIs) {
  const auto kind = [](std::string_view image) {
    return name_image(image, [](const std::string& path) { return path == "/images/root"; });
  };
  EXPECT_EQ(kind("docker://acme/train:1").kind, ImageKind::registry);
  EXPECT_EQ(kind("docker://acme/train:1").name, "acme/train:1");
  EXPECT_EQ(kind("acme/train:1").kind, ImageKind::registry);
  EXPECT_EQ(kind("oci-archive:/x.tar").kind, ImageKind::archive);
  EXPECT_EQ(kind("oci-archive:/x.tar").name, "/x.tar");
  EXPECT_EQ(kind("/x.tar").kind, ImageKind::archive);
  EXPECT_EQ(kind("/images/root").kind, ImageKind::folder);
}

// Enroot and Apptainer are not installed where this is tested: their command lines are all that is.
TEST(ImageTools, CommandLinesOfEachTool) {
  const auto podman = plan_fetch("podman", "acme/train:1", "/c/w", "/c/w/root");
  ASSERT_EQ(podman.commands.size(), 3u);
  EXPECT_EQ(podman.archive, "/c/w/image.tar");
  EXPECT_THAT(podman.commands[1], Contains("acme/train:1"));
  const Words own = {"unshare", "--map-root-user", "--mount"};
  EXPECT_EQ(place(podman.commands[2], own), 0);
  const Words save = {"podman",          "--root",   "/c/w/podman",    "--runroot",
                      "/c/w/podman-run", "--tmpdir", "/c/w/podman-tmp"};
  EXPECT_GT(place(podman.commands[2], save), 0);
  EXPECT_GT(place(podman.commands[2], {"save", "--quiet", "--format", "oci-archive", "--output",
                                       "/c/w/image.tar", "acme/train:1"}),
            0);

  const auto enroot = plan_fetch("enroot", "registry.example/acme/train:1", "/c/w", "/c/w/root");
  EXPECT_THAT(
      enroot.commands,
      ElementsAre(Words{"rm", "-f", "/c/w/image.sqsh"},
                  Words{"env", "ENROOT_CACHE_PATH=/c/w/enroot", "ENROOT_TEMP_PATH=/c/w", "enroot", "import",
                        "--output", "/c/w/image.sqsh", "docker://registry.example#acme/train:1"},
                  Words{"unsquashfs", "-no-xattrs", "-quiet", "-dest", "/c/w/root", "/c/w/image.sqsh"},
                  Words{"rm", "-f", "/c/w/image.sqsh"}));
  EXPECT_EQ(enroot.archive, "");
  EXPECT_EQ(plan_fetch("enroot", "acme/train:1", "/c/w", "/r").commands[1].back(), "docker://acme/train:1");

  const auto apptainer = plan_fetch("apptainer", "acme/train:1", "/c/w", "/c/w/root");
  EXPECT_THAT(
      apptainer.commands,
      ElementsAre(Words{"env", "APPTAINER_CACHEDIR=/c/w/apptainer", "APPTAINER_TMPDIR=/c/w", "apptainer",
                        "build", "--sandbox", "--fix-perms", "/c/w/root", "docker://acme/train:1"}));
}

ContainerPlan plan_in(const Folder& at) {
  ContainerPlan p;
  p.image = at / "root";
  p.tool = "bubblewrap";
  p.bubblewrap = "/usr/bin/bwrap";
  p.dir = at / "attempt";
  p.user = "ada";
  p.home = "/home/ada";
  p.uid = p.gid = 1000;
  p.closed = at / "state";
  p.shm = true;
  p.user_variables = {"KEPT"};
  for (const auto* folder : {"attempt/work", "attempt/tmp", "state", "data"})
    fs::create_directories(at / folder);
  at.write("root/usr/bin/python3", "");
  at.write("root/etc/passwd", "");
  at.write("root/etc/group", "");
  at.write("root/opt/tool/x", "");
  fs::create_directory_symlink("usr/bin", at / "root/bin");
  fs::create_directories(at / "root/proc");
  return p;
}

TEST(ContainerPlan, IsReadAsItWasWritten) {
  const Folder at;
  auto p = plan_in(at);
  p.mounts = {{"/a", "/b", true}};
  p.mount_folders = {"/data"};
  p.also = {"/sim"};
  p.gpus = true;
  const auto again = decode_plan(encode(p));
  EXPECT_EQ(encode(again), encode(p));
  EXPECT_EQ(again.mounts, p.mounts);
  EXPECT_EQ(again.cache_bytes, p.cache_bytes);
  EXPECT_THROW(decode_plan("{}"), std::invalid_argument);
  EXPECT_THROW(decode_plan("nonsense"), std::invalid_argument);
}

TEST(Sandbox, TheImageIsReadOnlyAndWhatLacksAMountPointIsMadeAnew) {
  const Folder at;
  auto p = plan_in(at);
  p.mounts = {{at / "data", "/opt/tool/data", true}, {at / "data", "/usr/bin", false}};
  const auto words = sandbox_words(p, at / "root", {}, {});
  EXPECT_EQ(words.front(), "/usr/bin/bwrap");
  EXPECT_EQ(words.back(), "--");
  for (const auto* word : {"--die-with-parent", "--unshare-user", "--unshare-pid"})
    EXPECT_THAT(words, Contains(word));
  EXPECT_GE(place(words, {"--cap-drop", "ALL"}), 0);
  EXPECT_GE(place(words, {"--tmpfs", "/"}), 0);
  EXPECT_GE(place(words, {"--symlink", "usr/bin", "/bin"}), 0);
  EXPECT_GE(place(words, {"--ro-bind", at / "root/usr", "/usr"}), 0) << "has all mount points";
  // /opt/tool/data is not in the image.
  const auto dir = place(words, {"--dir", "/opt/tool"});
  const auto entry = place(words, {"--ro-bind", at / "root/opt/tool/x", "/opt/tool/x"});
  const auto mount = place(words, {"--ro-bind", at / "data", "/opt/tool/data"});
  EXPECT_GE(dir, 0);
  EXPECT_GT(entry, dir);
  EXPECT_GT(mount, entry);
  EXPECT_EQ(place(words, {"--ro-bind", at / "root/opt", "/opt"}), -1);
  EXPECT_GE(place(words, {"--bind", at / "data", "/usr/bin"}), 0);
  EXPECT_GE(place(words, {"--bind", at / "attempt/shm", "/dev/shm"}), 0);
  EXPECT_GE(place(words, {"--proc", "/proc"}), 0);
  EXPECT_EQ(place(words, {"--ro-bind", at / "root/proc", "/proc"}), -1);
  EXPECT_GE(place(words, {"--chdir", at / "attempt/work", "--"}), 0);
}

TEST(Sandbox, VariablesOfTheImageSayLessThanTheUsers) {
  const Folder at;
  const auto p = plan_in(at);
  setenv("TUTTI_TEST_SET", "by Tutti", 1);
  const auto words = sandbox_words(
      p, at / "root",
      {"PATH=/opt/conda/bin", "KEPT=image", "TUTTI_TEST_SET=image", "NEW=a=b", "HOME=/root", "=x"}, {});
  unsetenv("TUTTI_TEST_SET");
  EXPECT_GE(place(words, {"--setenv", "PATH", "/opt/conda/bin"}), 0);
  EXPECT_GE(place(words, {"--setenv", "NEW", "a=b"}), 0);
  EXPECT_EQ(place(words, {"--setenv", "KEPT"}), -1);
  EXPECT_EQ(place(words, {"--setenv", "TUTTI_TEST_SET"}), -1);
  EXPECT_EQ(place(words, {"--setenv", "HOME"}), -1);
}

TEST(Sandbox, GpusComeWithTheirDevicesAndLibraries) {
  const Folder at;
  for (const auto* file :
       {"dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm", "dev/infiniband/uverbs0", "dev/sda",
        "lib/libcuda.so.1", "lib/libnvidia-ml.so.1", "lib/libnvidia-container.so.1", "lib/libc.so.6"})
    at.write(file, "");
  const auto host = look_at_host(true, at / "dev", {at / "lib"});
  EXPECT_THAT(host.devices, ElementsAre(at / "dev/infiniband", at / "dev/nvidia-uvm", at / "dev/nvidia0",
                                        at / "dev/nvidiactl"));
  EXPECT_THAT(host.driver, ElementsAre(at / "lib/libcuda.so.1", at / "lib/libnvidia-ml.so.1"));
  EXPECT_THAT(look_at_host(false, at / "dev", {at / "lib"}).devices, ElementsAre(at / "dev/infiniband"));
  const auto words = sandbox_words(plan_in(at), at / "root", {"LD_LIBRARY_PATH=/opt/lib"}, host);
  EXPECT_GE(place(words, {"--dev-bind", at / "dev/nvidia0", at / "dev/nvidia0"}), 0);
  EXPECT_GE(place(words, {"--ro-bind", at / "lib/libcuda.so.1", "/.tutti/driver/libcuda.so.1"}), 0);
  EXPECT_GE(place(words, {"--setenv", "LD_LIBRARY_PATH", "/.tutti/driver:/opt/lib"}), 0);
}

TEST(Sandbox, MountsAreHeldToWhatTheNodeAllows) {
  const Folder at;
  auto p = plan_in(at);
  fs::create_directory_symlink(at / "state", at / "data/way-in");
  EXPECT_EQ(why_not_mounted(p, at / "data"), "");
  EXPECT_THAT(why_not_mounted(p, at / "state"), HasSubstr("the worker's own folder"));
  EXPECT_THAT(why_not_mounted(p, at / "data/way-in"), HasSubstr("the worker's own folder"));
  EXPECT_THAT(why_not_mounted(p, at.path()), HasSubstr("the worker's own folder")) << "it lies below";
  EXPECT_THAT(why_not_mounted(p, at / "nothing"), HasSubstr("there is no such"));
  p.mount_folders = {at / "data"};
  EXPECT_EQ(why_not_mounted(p, at / "data"), "");
  EXPECT_THAT(why_not_mounted(p, "/usr"), HasSubstr("--container-mounts"));
  p.mounts = {{"/usr", "/usr2", true}};
  EXPECT_THROW(sandbox_words(p, at / "root", {}, {}), std::runtime_error);
}

TEST(Sandbox, NothingShowsTheNodesRootOrTheWorkersOwnFolder) {
  const Folder at;
  const auto plan = plan_in(at);
  fs::create_directories(at / "state/attempts");
  fs::create_directory_symlink(at / "state", at / "data/way-in");
  fs::create_directory_symlink("/", at / "data/all");
  for (const auto& path : {std::string("/"), std::string("//"), at / "data/all", at / "state",
                           at / "state/attempts", at / "data/way-in", at.path(), at / "data/.."}) {
    EXPECT_NE(why_not_shown(plan, "image", path), "") << path;
    auto p = plan;
    p.workdir = path;
    EXPECT_THROW(sandbox_words(p, at / "root", {}, {}), std::runtime_error) << path;
    p = plan;
    p.checkpoint_dir = path;
    EXPECT_THROW(sandbox_words(p, at / "root", {}, {}), std::runtime_error) << path;
    p = plan;
    p.mounts = {{path, "/seen", true}};
    EXPECT_THROW(sandbox_words(p, at / "root", {}, {}), std::runtime_error) << path;
  }
  EXPECT_THAT(why_not_shown(plan, "checkpoint.dir", at / "state/made/later"), HasSubstr("checkpoint.dir "));
  EXPECT_EQ(why_not_shown(plan, "checkpoint.dir", at / "data/made/later"), "");
  // Folders beside the worker's are seen, whatever --container-mounts says of mounts.
  auto p = plan;
  p.mount_folders = {"/usr"};
  p.workdir = at / "data";
  p.checkpoint_dir = at / "root/opt";
  const auto words = sandbox_words(p, at / "root", {}, {});
  EXPECT_GE(place(words, {"--bind", at / "data", at / "data"}), 0);
  EXPECT_GE(place(words, {"--bind", at / "root/opt", at / "root/opt"}), 0);
  // Also where no folder is the worker's.
  p.closed.clear();
  p.workdir = "/";
  EXPECT_THROW(sandbox_words(p, at / "root", {}, {}), std::runtime_error);
}

}  // namespace
}  // namespace tutti::container
