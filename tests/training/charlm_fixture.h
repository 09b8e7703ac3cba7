// A directory of its own with a text to learn, and readers of what the trainer writes there.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "training/charlm/train.h"

namespace tutti::charlm {

class CharlmDir : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    dir_ = std::filesystem::temp_directory_path() /
           ("charlm-" + std::to_string(::getpid()) + "-" + test->test_suite_name() + "-" + test->name());
    std::filesystem::create_directories(dir_ / "text");
    std::ofstream text(dir_ / "text" / "verse");
    for (int i = 0; i < 250; ++i) {
      text << "The gang starts together or not at all, and verse " << i << " is its own.\n";
    }
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  [[nodiscard]] Options small_run(std::uint64_t steps) const {
    Options options;
    options.data = dir_ / "text";
    options.steps = steps;
    options.batch = 8;
    options.context = 8;
    options.embed = 6;
    options.hidden = 16;
    return options;
  }

  static std::string slurp(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  static void spill(const std::filesystem::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
  }

  std::filesystem::path dir_;
};

}  // namespace tutti::charlm
