// Images and sandboxes without processes of jobs: command lines per tool, layout of a root, what is let in,
// and archives that are unpacked here.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <stdexcept>
#include <thread>

#include "worker/container/container_plan.h"
#include "worker/container/image_cache.h"
#include "worker/container/image_tools.h"
#include "worker/container/oci_archive.h"
#include "worker/container/run_tool.h"
#include "worker/container/sandbox.h"
#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"

namespace tutti::container {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Words = std::vector<std::string>;

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/tutti-container-XXXXXX";
    if (mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& leaf) const { return path_ + "/" + leaf; }
  const std::string& path() const { return path_; }
  void write(const std::string& leaf, const std::string& text) const {
    fs::create_directories(fs::path(path_ + "/" + leaf).parent_path());
    std::ofstream(path_ + "/" + leaf) << text;
  }

 private:
  std::string path_;
};

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

TEST(ImageCache, IsMadeOnceAndKeepsToItsBounds) {
  const Folder at;
  int made = 0;
  const auto get = [&](const std::string& name, std::size_t bytes, std::int64_t limit) {
    return cached_image(at.path(), limit, name, [&](const std::string&, const std::string& root) {
      ++made;
      fs::create_directories(root);
      std::ofstream(root + "/file") << std::string(bytes, 'x');
      return Words{"A=b"};
    });
  };
  constexpr std::int64_t kLarge = 1 << 30;
  const auto first = get("one", 100'000, kLarge);
  EXPECT_TRUE(fs::exists(first.root + "/file"));
  EXPECT_THAT(first.variables, ElementsAre("A=b"));
  EXPECT_EQ(get("one", 100'000, kLarge).root, first.root);
  EXPECT_EQ(made, 1);
  // What was used a moment ago stays: its ranks are about to start. So the second does not fit.
  EXPECT_THROW(get("two", 100'000, 150'000), std::runtime_error);
  EXPECT_TRUE(fs::exists(first.root));
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(1);
  fs::last_write_time(first.lock, old);
  {
    const supervisor::Fd held(open(first.lock.c_str(), O_RDWR));
    ASSERT_EQ(flock(held.get(), LOCK_SH), 0);
    EXPECT_THROW(get("two", 100'000, 150'000), std::runtime_error) << "a rank runs in it";
    EXPECT_TRUE(fs::exists(first.root));
  }
  const auto second = get("two", 100'000, 150'000);
  EXPECT_TRUE(fs::exists(second.root));
  EXPECT_FALSE(fs::exists(first.root));
}

CachedImage get_image(const Folder& at, const std::string& name, std::int64_t limit, int& made) {
  return cached_image(at.path(), limit, name, [&](const std::string&, const std::string& root) {
    ++made;
    fs::create_directories(root);
    std::ofstream(root + "/file") << std::string(100'000, 'x');
    return Words{};
  });
}

// Somebody waits for the lock, as /proc/locks has it.
bool is_waited_for(const std::string& lock) {
  struct stat s{};
  if (stat(lock.c_str(), &s) != 0) return false;
  const auto inode = ":" + std::to_string(s.st_ino) + " ";
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::chrono::steady_clock::now() < until) {
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);)
      if (line.find("-> FLOCK") != std::string::npos && line.find(inode) != std::string::npos) return true;
    std::this_thread::yield();
  }
  return false;
}

TEST(ImageCache, WhatWentWhileItWasWaitedForIsMadeAgain) {
  const Folder at;
  int made = 0;
  const auto first = get_image(at, "one", 1 << 30, made);
  supervisor::Fd room(open(first.lock.c_str(), O_RDWR | O_CLOEXEC));  // somebody makes room
  ASSERT_EQ(flock(room.get(), LOCK_EX), 0);
  auto second = std::async(std::launch::async, [&] { return get_image(at, "one", 1 << 30, made); });
  EXPECT_TRUE(is_waited_for(first.lock));
  fs::remove_all(fs::path(first.root).parent_path());
  room.reset();
  EXPECT_TRUE(fs::exists(second.get().root + "/file"));
  EXPECT_EQ(made, 2);
}

TEST(ImageCache, ARankWaitsForALockThatIsHeldForAMoment) {
  const Folder at;
  int made = 0;
  const auto image = get_image(at, "one", 1 << 30, made);
  supervisor::Fd other(open(image.lock.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(flock(other.get(), LOCK_EX), 0);
  EXPECT_THROW(hold_image(image.lock, std::chrono::milliseconds(1)), std::system_error);
  auto held =
      std::async(std::launch::async, [&] { return hold_image(image.lock, std::chrono::seconds(20)); });
  other.reset();
  const auto lock = held.get();
  EXPECT_TRUE(lock);
  // And what prepares beside it needs no more than that.
  EXPECT_EQ(get_image(at, "one", 1 << 30, made).root, image.root);
  const supervisor::Fd again(open(image.lock.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_NE(flock(again.get(), LOCK_EX | LOCK_NB), 0) << "in use";
}

TEST(ImageCache, WhatAnInterruptedFetchLeftIsRemovedUnlessItIsBeingMade) {
  const Folder at;
  int made = 0;
  at.write("left.work/podman/layer", "x");
  at.write("busy.work/podman/layer", "x");
  const supervisor::Fd busy(open((at / "busy.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(flock(busy.get(), LOCK_EX), 0);
  const auto image = get_image(at, "one", 1 << 30, made);
  EXPECT_FALSE(fs::exists(at / "left.work"));
  EXPECT_TRUE(fs::exists(at / "busy.work/podman/layer"));
  // A removal that was interrupted has left a folder of that name; the next one does not stumble over it.
  fs::last_write_time(image.lock, fs::file_time_type::clock::now() - std::chrono::hours(1));
  const auto folder = fs::path(image.root).parent_path().string();
  at.write(fs::path(folder).filename().string() + ".work/half", "x");
  get_image(at, "two", 150'000, made);
  EXPECT_FALSE(fs::exists(folder));
  EXPECT_FALSE(fs::exists(folder + ".work"));
}

// A disk that is full closes its node: nobody would come to clean up.
TEST(ImageCache, WhatFailsLeavesNothingBehind) {
  const Folder at;
  std::string seen;
  const auto fail = [&](const std::string& work, const std::string& root) -> Words {
    seen = work;
    fs::create_directories(root);
    std::ofstream(root + "/half") << std::string(100'000, 'x');
    throw std::runtime_error("no more");
  };
  EXPECT_THROW(cached_image(at.path(), 1 << 30, "one", fail), std::runtime_error);
  ASSERT_FALSE(seen.empty());
  EXPECT_FALSE(fs::exists(seen));
  int made = 0;
  EXPECT_TRUE(fs::exists(get_image(at, "one", 1 << 30, made).root + "/file"));
}

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
