// Lines of the log as JSON: what is in them, and that no text breaks out of its member.
#include "scheduler/log/log_format.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <boost/json/parse.hpp>
#include <sstream>

namespace tutti {
namespace {

namespace json = boost::json;

struct LogFormat : ::testing::Test {
  LogFormat() : before(spdlog::default_logger()) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_st>(out)));
    spdlog::set_pattern("%v");
  }
  ~LogFormat() override {
    set_log_format("text", "");
    spdlog::set_default_logger(before);
  }
  json::object line() {
    const std::string text = out.str();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    out.str("");
    return json::parse(text).as_object();
  }
  std::shared_ptr<spdlog::logger> before;
  std::ostringstream out;
};

const LogFields kFields = {
    {"event", "state"}, {"job", 7}, {"epoch", 0}, {"node", std::string()}, {"cause", "gpu"}};

TEST_F(LogFormat, TextIsTheTextAlone) {
  log_change(spdlog::level::info, "job=7 running->stopping", kFields);
  EXPECT_EQ(out.str(), "job=7 running->stopping\n");
}

TEST_F(LogFormat, AChangeHasItsFields) {
  set_log_format("json", "tutti-scheduler");
  log_change(spdlog::level::warn, "job=7 running->stopping", kFields);
  const auto l = line();
  EXPECT_EQ(l.at("level"), "warning");
  EXPECT_EQ(l.at("program"), "tutti-scheduler");
  EXPECT_EQ(l.at("message"), "job=7 running->stopping");
  EXPECT_EQ(l.at("event"), "state");
  EXPECT_EQ(l.at("job"), 7);
  EXPECT_EQ(l.at("cause"), "gpu");
  EXPECT_FALSE(l.contains("epoch")) << "none";
  EXPECT_FALSE(l.contains("node")) << "none";
  EXPECT_EQ(l.at("at").as_string().size(), std::string("2026-10-01T00:00:00.000000Z").size());
}

TEST_F(LogFormat, OtherLinesAreObjectsToo) {
  set_log_format("json", "tutti-worker");
  spdlog::info("connected to {}", "x");
  EXPECT_EQ(line().at("message"), "connected to x");
}

TEST_F(LogFormat, NoTextBreaksOut) {
  set_log_format("json", "tutti-worker");
  const std::string evil = "a\"},{\"b\n\r\t\x01\x1e\\ \xff end";
  log_change(spdlog::level::info, evil, {{"detail", evil}});
  const auto l = line();
  EXPECT_EQ(l.size(), 5u);
  EXPECT_EQ(l.at("message"), l.at("detail"));
  EXPECT_NE(l.at("detail").as_string().find("\n\r\t\x01\x1e\\ "), json::string::npos);
  spdlog::info("{}", evil);
  EXPECT_EQ(line().at("message"), l.at("message"));
}

TEST_F(LogFormat, WhatIsBelowTheLevelIsNotWritten) {
  set_log_format("json", "x");
  log_change(spdlog::level::debug, "small", {});
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace tutti
