// Logs as readers get them: piece by piece, while they grow, without the job's secrets.
#include "worker/service/job_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace tutti::worker {
namespace {

class LogReading : public ::testing::Test {
 protected:
  LogReading() {
    char pattern[] = "/tmp/tutti-logs-XXXXXX";
    dir = mkdtemp(pattern);
    std::filesystem::create_directory(dir + "/logs");
  }
  ~LogReading() override { std::filesystem::remove_all(dir); }
  void write(const std::string& text) {
    std::ofstream(dir + "/logs/rank-0.log", std::ios::app | std::ios::binary) << text;
  }
  protocol::LogChunk read(std::int64_t offset, std::int32_t most, bool over) {
    protocol::ReadLog request;
    request.offset = offset;
    request.max_bytes = most;
    return read_log(dir, geteuid(), mask, request, over);
  }
  // As the API reads: to the end of what is there.
  std::string read_all(std::int64_t& offset, std::int32_t most, bool over) {
    std::string out;
    for (int i = 0; i < 10'000; ++i) {
      const auto chunk = read(offset, most, over);
      out += chunk.data;
      const bool stuck = chunk.next_offset == offset;
      offset = chunk.next_offset;
      if (chunk.end || stuck) break;
    }
    return out;
  }
  std::string dir;
  SecretMask mask{std::map<std::string, std::string>{{"TOKEN", "hf_0123456789"}}};
};

TEST_F(LogReading, SecretsAreTakenOutWhateverThePieces) {
  const std::string text = "a hf_0123456789 b\n-hf_0123456789hf_01234";
  write(text);
  for (const int most : {1, 2, 3, 5, 7, 13, 100}) {
    std::int64_t offset = 0;
    EXPECT_EQ(read_all(offset, most, true), "a ‹secret TOKEN› b\n-‹secret TOKEN›") << most;
    EXPECT_EQ(offset, static_cast<std::int64_t>(text.size()));
  }
}

TEST_F(LogReading, WhatMayBecomeASecretWaitsUntilItIsKnown) {
  std::int64_t offset = 0;
  std::string seen;
  for (const char* piece : {"start h", "f_0123", "45678", "9 end h", "f_012 no secret\n"}) {
    write(piece);
    seen += read_all(offset, 1000, false);
    EXPECT_EQ(seen.find("hf_0123"), seen.npos) << seen;
  }
  EXPECT_EQ(seen, "start ‹secret TOKEN› end hf_012 no secret\n");
}

TEST_F(LogReading, FromTheMiddleOfASecretNothingOfItIsShown) {
  write("x hf_0123456789 y");
  for (std::int64_t offset = 3; offset < 15; ++offset)
    EXPECT_EQ(read(offset, 1000, true).data, " y") << offset;
  EXPECT_EQ(read(-4, 1000, true).data, " y") << "counted from the end";
  EXPECT_EQ(read(2, 1000, true).data, "‹secret TOKEN› y");
}

TEST_F(LogReading, ALogOfNothingElseHasAnEnd) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "hf_0123456789";
  write(text);
  std::int64_t offset = 0;
  const auto shown = read_all(offset, 100, true);
  EXPECT_EQ(offset, static_cast<std::int64_t>(text.size()));
  EXPECT_EQ(shown.find("hf_"), shown.npos);
}

TEST_F(LogReading, WithoutSecretsItIsAsBefore) {
  mask = {};
  write("hello \xFF world");
  std::int64_t offset = 0;
  EXPECT_EQ(read_all(offset, 1000, true), "hello \xEF\xBF\xBD world");
  EXPECT_TRUE(read(offset, 10, true).end);
  EXPECT_FALSE(read(offset, 10, false).end);
}

}  // namespace
}  // namespace tutti::worker
