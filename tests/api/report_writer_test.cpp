// The reports of days as files: when they are written, and that they are whole.
#include "scheduler/service/report_writer.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <filesystem>
#include <fstream>

#include "api/wire/text_values.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

struct ReportFiles : ::testing::Test {
  ReportFiles() {
    fs::create_directories(folder);
    rig.backend.add_node("n1", 8);
  }
  ~ReportFiles() override { fs::remove_all(folder); }

  ReportWriter writer(std::string directory) {
    return {rig.backend, &rig.history,
            [this](const std::function<void()>& work, const std::function<void(std::exception_ptr)>& done) {
              ++writes;
              std::exception_ptr failure;
              try {
                work();
              } catch (...) {
                failure = std::current_exception();
              }
              done(failure);
            },
            std::move(directory)};
  }
  std::string day(Duration ago) { return wire::format_instant(rig.backend.now().wall - ago).substr(0, 10); }
  std::string read(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  ApiRig rig;
  std::string folder = ::testing::TempDir() + "tutti-reports-" + std::to_string(getpid());
  int writes = 0;
};

TEST_F(ReportFiles, EachDayOnceWhenItIsOver) {
  auto reports = writer(folder + "/new");
  reports.step();
  EXPECT_EQ(writes, 1) << "yesterday's";
  reports.step();
  EXPECT_EQ(writes, 1);
  rig.backend.tick(23h);
  reports.step();
  EXPECT_EQ(writes, 1);
  rig.backend.tick(2h);
  reports.step();
  EXPECT_EQ(writes, 2);
  const std::string name = folder + "/new/" + day(24h);
  EXPECT_THAT(read(name + ".md"), HasSubstr("# Report of " + day(24h)));
  const auto json = boost::json::parse(read(name + ".json"));
  EXPECT_TRUE(json.at("complete").as_bool());
  EXPECT_EQ(json.at("spare").at("samples").as_array().size(), 23u) << "nothing is known of its first instant";
  EXPECT_FALSE(fs::exists(name + ".json.new"));
}

TEST_F(ReportFiles, WhatIsThereIsNotWrittenAgain) {
  std::ofstream(folder + "/" + day(24h) + ".json") << "{}";
  auto reports = writer(folder);
  reports.step();
  EXPECT_EQ(writes, 0) << "another leader has written it";
}

TEST_F(ReportFiles, AFailureIsTriedAgainAfterAWhile) {
  auto reports = writer(folder);
  rig.history_broken = true;
  reports.step();
  rig.history_broken = false;
  reports.step();
  EXPECT_EQ(writes, 0) << "too soon";
  rig.backend.tick(6min);
  reports.step();
  EXPECT_EQ(writes, 1);
}

TEST_F(ReportFiles, WithoutADirectoryNothingIsWritten) {
  auto reports = writer("");
  reports.step();
  EXPECT_EQ(writes, 0);
}

TEST_F(ReportFiles, ADirectoryThatCannotBeMadeIsSaid) {
  std::ofstream(folder + "/file") << "x";
  EXPECT_THROW(writer(folder + "/file/reports"), std::runtime_error);
}

}  // namespace
}  // namespace tutti::testing
