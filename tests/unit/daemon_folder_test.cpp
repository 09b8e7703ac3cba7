// Folders that a service is to write: which are good, and that looking leaves nothing behind.
#include "daemon/folder.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace tutti::daemon {
namespace {

namespace fs = std::filesystem;

class Folder : public testing::Test {
 protected:
  Folder() {
    std::string pattern = fs::temp_directory_path() / "tutti-folder-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    root_ = pattern;
  }
  ~Folder() override { fs::remove_all(root_); }
  static std::string complaint(const std::string& folder) {
    try {
      look_at_folder("--report-dir", folder);
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  }
  fs::path root_;
};

TEST_F(Folder, OneThatIsThereOrCanBeMadeIsGoodAndNothingIsLeftBehind) {
  EXPECT_EQ(complaint(root_), "");
  EXPECT_EQ(complaint(root_ / "a/b/c"), "");
  EXPECT_EQ(complaint((root_ / "a").string() + "/"), "");
  EXPECT_TRUE(fs::is_empty(root_));
}

TEST_F(Folder, IsMadeWithThoseAboveIt) {
  make_folder("--report-dir", root_ / "a/b");
  EXPECT_TRUE(fs::is_empty(root_ / "a/b"));
  make_folder("--report-dir", root_ / "a/b");
}

TEST_F(Folder, WhatCannotBeMadeIsNamedWithItsFlag) {
  std::ofstream(root_ / "file") << "x";
  fs::create_symlink("nowhere", root_ / "link");
  EXPECT_EQ(complaint(root_ / "file"), "--report-dir " + (root_ / "file").string() +
                                           ": cannot be made or written: " + (root_ / "file").string() +
                                           " is no directory");
  EXPECT_NE(complaint(root_ / "file/below"), "");
  EXPECT_NE(complaint(root_ / "link"), "");
  // What root is allowed to write, and nobody can.
  EXPECT_EQ(complaint("/proc/x").find("--report-dir /proc/x: cannot be made or written: /proc: "), 0U)
      << complaint("/proc/x");
  EXPECT_THROW(make_folder("--report-dir", "/proc/x"), std::runtime_error);
}

}  // namespace
}  // namespace tutti::daemon
