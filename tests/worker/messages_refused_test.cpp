// The codec of api/wire/messages: everything that must be refused, what other versions say, and text that is
// none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "api/wire/messages.h"
#include "api/wire/utf8.h"
#include "tests/worker/messages_rig.h"

namespace tutti {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

TEST(Messages, NewerPeersMayAddFields) {
  EXPECT_EQ(refusal(R"({"type":"heartbeat","seq":1,"mood":{"good":[1,2]}})"), "accepted");
}

TEST(Messages, RefusalNamesTheField) {
  EXPECT_THAT(refusal(R"({"type":"heartbeat"})"), HasSubstr("seq is missing"));
  EXPECT_THAT(refusal(R"({"type":"heartbeat","seq":"1"})"), HasSubstr("seq must be a whole number"));
  EXPECT_THAT(refusal(R"({"type":"heartbeat","seq":1.5})"), HasSubstr("seq must be a whole number"));
  EXPECT_THAT(refusal(R"({"type":"heartbeat","seq":9223372036854775808})"), HasSubstr("seq"));
  EXPECT_THAT(refusal(R"({"type":"gpu_fault","uuid":"u","kind":"xid","xid":4294967296})"),
              HasSubstr("xid is out of range"));
  EXPECT_THAT(refusal(R"({"type":"gpu_inventory","driver":"","simulated_gpus":0,"gpus":[]})"),
              HasSubstr("simulated_gpus must be true or false"));
  EXPECT_THAT(refusal(R"({"type":"gpu_inventory","driver":"","simulated_gpus":true,"gpus":[{"uuid":7}]})"),
              HasSubstr("gpus[0].uuid must be a text"));
  EXPECT_THAT(
      refusal(R"({"type":"attempt_status","job":1,"epoch":1,"phase":"x","agent_port":0,"master_port":0})"),
      HasSubstr("phase must be a phase"));
  EXPECT_THAT(refusal_to_worker(R"({"type":"forget","job":-1,"epoch":1})"), HasSubstr("job"));
  EXPECT_THAT(refusal_to_worker(R"({"type":"welcome","node_id":1,"lease_us":1,"heartbeat_us":1,"keep":3})"),
              HasSubstr("keep must be a list"));
  const auto r = wire::decode_from_worker(R"({"type":"heartbeat"})");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::invalid_argument);
  EXPECT_EQ(r.error().field, "seq");
}

TEST(Messages, ATermAndALeaderMayBeAbsent) {
  Welcome welcome{3, 6'000'000, 1'000'000, {}, {}};
  EXPECT_FALSE(there_and_back(welcome).term);
  welcome.term = 7;
  EXPECT_EQ(there_and_back(welcome).term, 7);
  EXPECT_FALSE(there_and_back(Refused{"no"}).leader);
  EXPECT_EQ(there_and_back(Refused{"no", ""}).leader, "") << "nobody leads";
  EXPECT_EQ(there_and_back(Refused{"no", "http://b:7070"}).leader, "http://b:7070");
  Heartbeat beat{17};
  beat.term = 7;
  EXPECT_EQ(there_and_back(beat).term, 7);
}

TEST(Messages, WhatANewerPeerSaysIsToldFromWhatIsWrong) {
  EXPECT_TRUE(wire::is_of_unknown_type(wire::decode_from_worker(R"({"type":"dance","step":1})").error()));
  EXPECT_FALSE(wire::is_of_unknown_type(wire::decode_from_worker(R"({"type":"heartbeat"})").error()));
  EXPECT_EQ(wire::protocol_of_hello(wire::encode(FromWorker(Hello{}))), version());
  EXPECT_EQ(wire::protocol_of_hello(R"({"type":"hello","protocol":7,"node":{"all":"else"}})"), 7);
  for (const auto* text :
       {R"({"type":"hello"})", R"({"type":"heartbeat","protocol":7})", R"({"protocol":7})",
        R"({"type":"hello","protocol":"7"})", R"({"type":"hello","protocol":2147483648})", "7", "{"})
    EXPECT_EQ(wire::protocol_of_hello(text), std::nullopt) << text;
}

// What of `said` is not in `again`, as a path; "" = nothing.
std::string missing(const json::value& said, const json::value& again) {
  if (const auto* object = said.if_object())
    for (const auto& [key, value] : *object) {
      const auto* there = again.is_object() ? again.get_object().if_contains(key) : nullptr;
      if (there == nullptr) return std::string(std::string_view(key));
      if (const auto path = missing(value, *there); !path.empty())
        return std::string(std::string_view(key)) + "." + path;
    }
  else if (const auto* list = said.if_array())
    for (std::size_t i = 0; i < list->size(); ++i) {
      if (!again.is_array() || i >= again.get_array().size()) return std::to_string(i);
      if (const auto path = missing((*list)[i], again.get_array()[i]); !path.empty())
        return std::to_string(i) + "." + path;
    }
  else if (said != again)
    return "value";
  return "";
}

// Of both directions and of workers among each other; "" = it is no message of ours.
std::string said_again(const std::string& line) {
  if (const auto m = wire::decode_from_worker(line)) return wire::encode(*m);
  if (const auto m = wire::decode_to_worker(line)) return wire::encode(*m);
  if (const auto m = wire::decode_peer(line)) return wire::encode(*m);
  return "";
}

// The files say all that a version says. They are not edited when a message gets a field: then what the
// version before says, and has left in prepare.json of a gang that runs, could not be read any more, or it
// could not read us.
TEST(Messages, WhatThisVersionAndTheOneBeforeSayIsUnderstoodAndSaid) {
  const char* source = std::getenv("TUTTI_SOURCE");
  ASSERT_NE(source, nullptr) << "run me through ctest";
  for (const int number : {kVersion - 1, kVersion}) {
    if (number < 1) continue;
    std::ifstream in(std::string(source) + "/tests/worker/golden/protocol-" + std::to_string(number) +
                     ".jsonl");
    std::size_t lines = 0;
    for (std::string line; std::getline(in, line); ++lines) {
      const auto again = said_again(line);
      ASSERT_NE(again, "") << "not understood: " << line;
      EXPECT_EQ(missing(json::parse(line), json::parse(again)), "") << line;
    }
    constexpr auto kTypes =
        std::variant_size_v<FromWorker> + std::variant_size_v<ToWorker> + std::variant_size_v<PeerMessage>;
    EXPECT_TRUE(number < kVersion ? lines > 0 : lines == kTypes)
        << lines << " messages of protocol " << number;
  }
}

TEST(Messages, VersionsOneApartSpeakWithEachOther) {
  EXPECT_TRUE(speaks_with(5, 4) && speaks_with(5, 5) && speaks_with(5, 6));
  EXPECT_FALSE(speaks_with(5, 3) || speaks_with(5, 7));
  EXPECT_FALSE(speaks_with(1, std::numeric_limits<std::int32_t>::min()));
}

TEST(Messages, GarbageIsRefused) {
  for (auto text :
       {"", "{", "[]", "null", "17", "{}", R"({"type":7})", R"({"type":"dance"})", "\xFF\xFE",
        R"({"type":"heartbeat","seq":1} trailing)", "{\"type\":\"heartbeat\",\"seq\":1,\"x\":\"\xC3\"}"})
    EXPECT_NE(refusal(text), "accepted") << text;
  EXPECT_NE(refusal_to_worker(R"({"type":"heartbeat","seq":1})"), "accepted");  // of the other direction
  const std::string deep(100'000, '[');
  EXPECT_NE(refusal(R"({"type":"heartbeat","seq":)" + deep), "accepted");
}

// Every prefix of a good message must be refused without a crash (ASan looks on).
TEST(Messages, TruncatedMessagesAreRefused) {
  const auto text = wire::encode(FromWorker(some_status()));
  for (std::size_t n = 0; n < text.size(); ++n) EXPECT_NE(refusal(text.substr(0, n)), "accepted") << n;
}

TEST(Messages, SizesAreBounded) {
  const std::string long_text(wire::kMaxTextBytes + 1, 'x');
  EXPECT_THAT(refusal(R"({"type":"gpu_fault","uuid":")" + long_text + "\"}"), HasSubstr("uuid is longer"));
  const auto r = wire::decode_from_worker(std::string(wire::kMaxMessageBytes + 1, ' '));
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::too_large);
  // What we send is cut instead, so that one bad text does not cost the whole message.
  const auto cut = there_and_back(GpuFault{"u", "xid", 1, 0, long_text});
  EXPECT_EQ(cut.detail.size(), wire::kMaxTextBytes);
}

TEST(Messages, BytesThatAreNotTextAreReplaced) {
  const auto c = there_and_back(LogChunk{1, "a\xFF\xC3(b", 5, false, ""});
  EXPECT_EQ(c.data, "a\xEF\xBF\xBD\xEF\xBF\xBD(b");
}

TEST(Messages, NumbersThatAreNotFiniteAreLeftOut) {
  const auto p = there_and_back(Progress{kKey, 1, 2, std::nan(""), {{"loss", INFINITY}, {"ok", 1.0}}});
  EXPECT_EQ(p.eta_seconds, 0);
  EXPECT_EQ(p.metrics, (std::map<std::string, double>{{"ok", 1.0}}));
}

TEST(Utf8, KnowsWellFormedText) {
  for (auto good : {"", "a", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x8E\xB5"})
    EXPECT_TRUE(wire::is_utf8(good));
  for (auto bad :
       {"\x80", "\xC3", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\xF0\x80\x80\x80"})
    EXPECT_FALSE(wire::is_utf8(bad));
  EXPECT_EQ(wire::utf8_prefix("a\xC3\xA4", 2), "a");
  EXPECT_EQ(wire::utf8_prefix("a\xC3\xA4", 3), "a\xC3\xA4");
}

}  // namespace
}  // namespace tutti
