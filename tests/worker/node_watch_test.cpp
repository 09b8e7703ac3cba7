// What the node watch makes of several looks at one path.
#include "worker/service/node_watch.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tutti::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The space of a folder can be read while files in it hang: it hung and was well in turn, ten times a minute.
TEST(NodeWatch, WhatOneLookFindsAnotherDoesNotEnd) {
  std::string folder = (std::filesystem::temp_directory_path() / "tutti-watch-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const auto program = folder + "/check";
  std::ofstream(program) << "#!/bin/sh\n[ $1 = file ] && kill -STOP $$\n[ \"$2\" = " << folder
                         << " ] && echo x >> " << folder << "/spaces\nexec " << std::getenv("TUTTI_BIN")
                         << "/tutti-node-check \"$@\"\n";
  chmod(program.c_str(), 0755);
  Settings settings;
  settings.kernel_log = "";
  settings.sysfs = folder;
  settings.state_dir = folder;
  settings.address = "127.0.0.1";
  settings.check_paths = {folder};
  settings.disks_every = milliseconds(100);
  settings.check_deadline = milliseconds(1000);
  settings.node_check = program;
  boost::asio::io_context io;
  int begun = 0, over = 0;
  NodeWatch::Events events;
  events.on_condition = [&](const auto& kind, const auto& subject, const auto&) {
    begun += kind == "filesystem_hang" && subject == folder;
  };
  events.on_over = [&](const auto& kind, const auto& subject) {
    over += kind == "filesystem_hang" && subject == folder;
  };
  events.on_incident = [](const auto&, const auto&) {};
  NodeWatch watch(io, settings, {}, std::move(events));
  watch.start();
  const auto until = std::chrono::steady_clock::now() + seconds(60);
  const auto looks = [&] {
    std::error_code ec;
    const auto n = std::filesystem::file_size(folder + "/spaces", ec);
    return ec ? 0 : n / 2;
  };
  while (begun == 0 && std::chrono::steady_clock::now() < until) io.run_one_for(seconds(1));
  EXPECT_GT(begun, 0);
  const auto more = looks() + 5;
  while (looks() < more && std::chrono::steady_clock::now() < until) io.run_one_for(seconds(1));
  EXPECT_GE(looks(), more);
  EXPECT_EQ(over, 0) << "the other look is well, this one is not";
  std::error_code ec;
  std::filesystem::remove_all(folder, ec);
}

}  // namespace
}  // namespace tutti::worker
