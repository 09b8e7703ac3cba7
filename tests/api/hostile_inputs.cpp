#include "tests/api/hostile_inputs.h"

#include <cstdint>

namespace tutti::testing {

namespace json = boost::json;

const std::vector<std::string>& malice() {
  static const std::vector<std::string> kAll = {
      "'; DROP TABLE job; --",
      "' OR '1'='1",
      "\" OR \"\"=\"",
      "1); DELETE FROM job; --",
      "\\'; SELECT pg_sleep(10); --",
      "$1",
      "$$; SELECT 1; $$",
      "%' AND 1=0 UNION SELECT token FROM api_token --",
      "\\x27",
      "../../../etc/passwd",
      "..\\..\\secret",
      "/etc/passwd",
      "%2e%2e%2f",
      "file:///etc/passwd",
      "a\r\nSet-Cookie: x=1",
      "a\nb",
      "<script>alert(1)</script>",
      "\"><img src=x onerror=alert(1)>",
      "{{7*7}}",
      "${jndi:ldap://x}",
      "$(id)",
      "`id`",
      "; id",
      "| id",
      "%s%n%x",
      "\xE2\x80\xAE"
      "txt",               // right to left
      "\xF0\x9F\x92\xA5",  // outside of the basic plane
      "\xEF\xBB\xBFx",     // a byte order mark
      "a\xCC\x81",         // a combining accent
      std::string(1, '\x01') + "\x7f\x1b[31m",
      " ",
      "",
      "null",
      "true",
      "NaN",
      "-1",
      "1e999",
      "0x10",
      "99999999999999999999",
      std::string(20'000, 'A'),
  };
  return kAll;
}

const std::vector<json::value>& values() {
  static const std::vector<json::value> kAll = {nullptr,
                                                true,
                                                false,
                                                0,
                                                -1,
                                                1,
                                                2147483648LL,
                                                std::int64_t{9223372036854775807},
                                                std::uint64_t{18446744073709551615u},
                                                1.5,
                                                -1e300,
                                                1e308,
                                                "",
                                                "x",
                                                "24h",
                                                json::array{},
                                                json::array{nullptr},
                                                json::array{1, "a"},
                                                json::array{json::array{json::array{}}},
                                                json::object{},
                                                json::object{{"x", 1}},
                                                json::object{{"", nullptr}},
                                                json::array{json::object{{"job", "x"}, {"when", 5}}}};
  return kAll;
}

const std::vector<std::string>& raw_values() {
  static const std::vector<std::string> kAll = {"1e999",
                                                "-1e999",
                                                "1e-999",
                                                "123456789012345678901234567890",
                                                "-9223372036854775809",
                                                "0.1e1",
                                                "-0",
                                                "01",
                                                "+1",
                                                "1.",
                                                ".5",
                                                "0x10",
                                                "NaN",
                                                "Infinity",
                                                "nul",
                                                "True",
                                                "'x'",
                                                "\"\xff\"",
                                                "\"\xc0\xaf\"",
                                                "\"\xed\xa0\x80\"",
                                                "\"\\ud800\"",
                                                "\"\\udc00x\"",
                                                "\"\\u0000\"",
                                                "\"a\nb\"",
                                                "\"\\q\"",
                                                "\"",
                                                "[",
                                                "{",
                                                "[1,]",
                                                "{\"a\":1,}",
                                                "{\"a\":1,\"a\":2}",
                                                "{a:1}",
                                                "// x",
                                                "/**/1",
                                                "1 2",
                                                ""};
  return kAll;
}

}  // namespace tutti::testing
