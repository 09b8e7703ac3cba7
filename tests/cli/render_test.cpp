// Tables: what they look like, and that they fit.
#include "cli/render.h"

#include <gtest/gtest.h>

#include <sstream>

#include "api/wire/text_values.h"

namespace tutti::cli {
namespace {

Look look_at(const char* instant) {
  Look look;
  look.now = *wire::parse_instant(instant);
  return look;
}

Table sample() {
  return {
      {{"ID", true}, {"NAME", false, true}, {"STATE"}, {"UUID", false, false, true}, {"REASON", false, true}},
      {{{"7"}, {"llama-sft"}, state_cell("running"), {"GPU-1"}, {""}},
       {{"1234"}, {"b"}, state_cell("queued"), {"GPU-2"}, {"needs 8 free GPUs, the best node has 4"}}}};
}

TEST(Render, TableLooksLikeThis) {
  EXPECT_EQ(render_table(sample(), Look{}),
            "  ID  NAME       STATE    REASON\n"
            "   7  llama-sft  running\n"
            "1234  b          queued   needs 8 free GPUs, the best node has 4\n");
}

TEST(Render, NoLineIsWiderThanAsked) {
  Table table = sample();
  table.rows[0][1].text = std::string(80, 'n');
  table.rows[0][4].text = std::string(200, 'r');
  for (const std::size_t width : {100UL, 60UL, 40UL}) {
    Look look;
    look.width = width;
    std::istringstream lines(render_table(table, look));
    std::size_t widest = 0;
    for (std::string line; std::getline(lines, line);) widest = std::max(widest, display_width(line));
    EXPECT_LE(widest, width);
    EXPECT_GE(widest, width - 1) << "cut more than needed";
  }
}

TEST(Render, WideCutsNothingAndShowsAll) {
  Look look;
  look.wide = true;
  look.width = 20;
  const std::string text = render_table(sample(), look);
  EXPECT_NE(text.find("GPU-2"), std::string::npos);
  EXPECT_NE(text.find("the best node has 4"), std::string::npos);
}

TEST(Render, ColourOnlyWhenAskedAndNeverInTheWidth) {
  Look look;
  look.colour = true;
  const std::string coloured = render_table(sample(), look);
  EXPECT_NE(coloured.find("\033[36mrunning\033[0m"), std::string::npos);
  EXPECT_EQ(render_table(sample(), Look{}).find('\033'), std::string::npos);
}

TEST(Render, TextOfTheServerCannotMoveTheCursor) {
  Table table{{{"NAME"}},
              {{{"a\033[2Jb\nc\xC2\x9B"
                 "d"}}}};
  EXPECT_EQ(render_table(table, Look{}), "NAME\na?[2Jb c?d\n");
}

TEST(Render, CutsWholeCharacters) {
  EXPECT_EQ(cut("müller", 4), "mül…");
  EXPECT_EQ(cut("müller", 6), "müller");
  EXPECT_EQ(display_width("mül…"), 4U);
}

TEST(Render, CsvQuotesAndKeepsRawValues) {
  Table table{{{"AT"}, {"TEXT"}},
              {{time_cell("2026-11-25T01:02:03.000001Z", look_at("2026-11-25T01:05:03Z")), {"a \"b\", c"}}}};
  EXPECT_EQ(render_csv(table), "AT,TEXT\r\n2026-11-25T01:02:03.000001Z,\"a \"\"b\"\", c\"\r\n");
}

TEST(Render, TimesAreRelativeOrUtc) {
  Look look = look_at("2026-11-25T12:00:00Z");
  EXPECT_EQ(time_cell("2026-11-25T11:59:20Z", look).text, "40s");
  EXPECT_EQ(time_cell("2026-11-25T11:15:00Z", look).text, "45m");
  EXPECT_EQ(time_cell("2026-11-25T09:50:00Z", look).text, "2h10m");
  EXPECT_EQ(time_cell("2026-11-20T09:50:00Z", look).text, "5d");
  EXPECT_EQ(time_cell("2026-11-25T12:05:00Z", look).text, "in 5m");
  EXPECT_EQ(time_cell("", look).text, "");
  EXPECT_EQ(time_cell("rubbish", look).text, "rubbish");
  look.utc = true;
  EXPECT_EQ(time_cell("2026-11-25T11:59:20.5Z", look).text, "2026-11-25T11:59:20Z");
}

TEST(Render, SpansAndSizes) {
  const Look look = look_at("2026-11-25T12:00:00Z");
  EXPECT_EQ(span_cell("2026-11-25T11:00:00Z", "2026-11-25T11:00:02.5Z", look).text, "2.5s");
  EXPECT_EQ(span_cell("2026-11-25T11:30:00Z", "", look).text, "30m");
  EXPECT_EQ(span_cell("", "", look).text, "");
  EXPECT_EQ(short_bytes(80LL << 30), "80GiB");
  EXPECT_EQ(short_bytes(1'536), "1.5KiB");
  EXPECT_EQ(short_bytes(999), "999B");
}

TEST(Render, FieldsLeaveOutWhatIsEmpty) {
  EXPECT_EQ(render_fields({{"state", {"running"}}, {"exit code", {""}}, {"queue", {"h100"}}}, Look{}),
            "state  running\nqueue  h100\n");
}

TEST(Render, FieldsFitToo) {
  Look look;
  look.width = 20;
  EXPECT_EQ(render_fields({{"run", {"a very long command line\nof two lines"}}}, look),
            "run  a very long co…\n");
  look.wide = true;
  EXPECT_EQ(render_fields({{"run", {"a very long command line"}}}, look), "run  a very long command line\n");
}

TEST(Render, ColumnsAreChosenInTheOrderAskedFor) {
  const Table chosen = choose_columns(sample(), {"reason", "uuid"});
  EXPECT_EQ(render_table(chosen, Look{}),
            "REASON                                  UUID\n"
            "                                        GPU-1\n"
            "needs 8 free GPUs, the best node has 4  GPU-2\n");
}

}  // namespace
}  // namespace tutti::cli
