// Old history as files: that they are whole, that nothing is replaced, and that nothing goes which is not
// written.
#include "scheduler/service/history_archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <random>

#include "db/store.h"
#include "scheduler/service/history_keeper.h"

namespace tutti {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

Instant at(int year, unsigned month, unsigned day) {
  return std::chrono::sys_days(std::chrono::year(year) / static_cast<int>(month) / static_cast<int>(day));
}

// Rows by their places, as a table has them.
struct RowsStore : RetentionStore {
  struct Row {
    Instant at;
    std::int64_t id;
  };
  std::map<HistoryPart, std::vector<Row>> rows;
  std::vector<Instant> forgotten;
  int fails_after = -1;  // so many reads
  std::function<Instant()> now = [] { return Instant(); };
  std::function<void(HistoryPart)> on_read = [](HistoryPart) {};
  std::function<std::string(std::int64_t)> line = [](std::int64_t id) {
    return R"({"id":)" + std::to_string(id) + "}";
  };

  void add(HistoryPart part, Instant when, std::int64_t id) { rows[part].push_back({when, id}); }
  std::optional<Instant> oldest() override {
    std::optional<Instant> first;
    for (const auto& [part, all] : rows)
      for (const auto& row : all) first = std::min(first.value_or(row.at), row.at);
    return first;
  }
  HistoryPage read(HistoryPart part, HistoryPlace after, Instant until, int most) override {
    if (fails_after >= 0 && fails_after-- == 0) throw StoreError(StoreError::unavailable, "down");
    on_read(part);
    auto all = rows[part];
    std::ranges::sort(all, {}, [](const Row& row) { return std::pair(row.at, row.id); });
    HistoryPage page;
    page.last = after;
    for (const auto& row : all) {
      if (std::pair(row.at, row.id) <= std::pair(after.at, after.id) || row.at >= until) continue;
      if (page.lines.size() == static_cast<std::size_t>(most)) break;
      page.lines.push_back(line(row.id));
      page.last = {row.at, row.id};
    }
    return page;
  }
  Instant clock() override { return now(); }
  std::int64_t forget_keys(int) override { return 0; }
  Forgotten forget(Instant before, int) override {
    forgotten.push_back(before);
    for (auto& [part, all] : rows) std::erase_if(all, [&](const Row& row) { return row.at < before; });
    return {};
  }
};

struct HistoryArchiveTest : ::testing::Test {
  HistoryArchiveTest() { fs::create_directories(folder.parent_path()); }
  ~HistoryArchiveTest() override { fs::remove_all(folder.parent_path()); }

  std::shared_ptr<HistoryArchive> archive(Duration at_once = 1min, int page = 100) {
    return std::make_shared<HistoryArchive>(
        store, HistoryArchive::Settings{.directory = folder, .at_once = at_once, .page = page});
  }
  std::vector<std::string> files() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
    return names;
  }
  std::vector<std::string> lines(const std::string& name) {
    std::string text;
    gzFile file = gzopen((folder / name).c_str(), "rb");
    char chunk[4096];
    for (int n = 0; (n = gzread(file, chunk, sizeof chunk)) > 0;)
      text.append(chunk, static_cast<std::size_t>(n));
    EXPECT_EQ(gzclose(file), Z_OK) << name;
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }

  fs::path folder = fs::path(testing::TempDir()) / ("tutti-archive-" + std::to_string(getpid())) / "history";
  std::shared_ptr<RowsStore> store = std::make_shared<RowsStore>();
};

TEST_F(HistoryArchiveTest, WritesEachMonthThatIsOver) {
  store->add(HistoryPart::jobs, at(2025, 1, 31) + 23h + 59min, 2);
  store->add(HistoryPart::jobs, at(2025, 1, 1), 1);
  store->add(HistoryPart::jobs, at(2025, 2, 1), 3);
  store->add(HistoryPart::events, at(2025, 2, 28), 4);
  store->add(HistoryPart::faults, at(2025, 3, 1), 5);  // its month is not over
  EXPECT_EQ(archive()->advance(at(2025, 3, 15)), at(2025, 3, 1));
  EXPECT_THAT(files(), UnorderedElementsAre("2025-01-jobs.jsonl.gz", "2025-02-jobs.jsonl.gz",
                                            "2025-02-events.jsonl.gz"));
  EXPECT_THAT(lines("2025-01-jobs.jsonl.gz"), ElementsAre(R"({"id":1})", R"({"id":2})"));
  EXPECT_THAT(lines("2025-02-events.jsonl.gz"), ElementsAre(R"({"id":4})"));
}

TEST_F(HistoryArchiveTest, ALongMonthIsWrittenALittleAtATime) {
  for (int i = 1; i <= 50; ++i) store->add(HistoryPart::events, at(2025, 1, 3), i);  // of one instant
  auto a = archive(Duration(0), 7);
  int calls = 1;
  while (!a->advance(at(2025, 2, 1))) {
    ASSERT_THAT(files(), testing::Each(testing::EndsWith(".new"))) << "half a month has no name";
    ASSERT_LT(++calls, 100'000);
  }
  EXPECT_GT(calls, 50 / 7);
  EXPECT_EQ(lines("2025-01-events.jsonl.gz").size(), 50U);
  EXPECT_THAT(files(), ElementsAre("2025-01-events.jsonl.gz"));
}

TEST_F(HistoryArchiveTest, AFailureLeavesNothingAndBeginsTheMonthAnew) {
  store->add(HistoryPart::jobs, at(2025, 1, 5), 1);
  store->add(HistoryPart::faults, at(2025, 1, 20), 2);
  auto a = archive();
  store->fails_after = 2'500;  // of 744 hours and four parts
  EXPECT_THROW(a->advance(at(2025, 2, 1)), StoreError);
  EXPECT_THAT(files(), IsEmpty());
  EXPECT_EQ(a->advance(at(2025, 2, 1)), at(2025, 2, 1));
  EXPECT_THAT(files(), UnorderedElementsAre("2025-01-jobs.jsonl.gz", "2025-01-faults.jsonl.gz"));
}

TEST_F(HistoryArchiveTest, WhatIsThereIsNotReplaced) {
  store->add(HistoryPart::jobs, at(2025, 1, 5), 1);
  ASSERT_TRUE(archive()->advance(at(2025, 2, 1)));
  store->add(HistoryPart::jobs, at(2025, 1, 6), 2);
  ASSERT_TRUE(archive()->advance(at(2025, 2, 1)));  // as by the next process, before the rows were gone
  EXPECT_EQ(lines("2025-01-jobs.jsonl.gz").size(), 1U);
  EXPECT_EQ(lines("2025-01-jobs-2.jsonl.gz").size(), 2U);
}

TEST_F(HistoryArchiveTest, IsForNobodyElse) {
  store->add(HistoryPart::jobs, at(2025, 1, 5), 1);
  ASSERT_TRUE(archive()->advance(at(2025, 2, 1)));
  EXPECT_EQ(fs::status(folder / "2025-01-jobs.jsonl.gz").permissions(), fs::perms(0600));
}

TEST_F(HistoryArchiveTest, WithoutItsDirectoryItStartsAndFailsLater) {
  store->add(HistoryPart::jobs, at(2025, 1, 5), 1);
  std::ofstream(folder) << "a file";
  auto a = archive();
  EXPECT_THROW(a->advance(at(2025, 2, 1)), std::runtime_error);
  fs::remove(folder);
  fs::create_directories(folder);
  EXPECT_EQ(a->advance(at(2025, 2, 1)), at(2025, 2, 1));
  EXPECT_THAT(files(), ElementsAre("2025-01-jobs.jsonl.gz"));
}

TEST_F(HistoryArchiveTest, ALeaderThatWasPausedTouchesNoFileOfTheNext) {
  for (int i = 1; i <= 50; ++i) store->add(HistoryPart::jobs, at(2025, 1, 3), i);
  auto stopped = archive(Duration(0), 7), resumed = archive(Duration(0), 7);
  for (int i = 0; i < 48 + 3; ++i) {  // hours without rows, and three pages
    ASSERT_EQ(stopped->advance(at(2025, 2, 1)), std::nullopt);
    ASSERT_EQ(resumed->advance(at(2025, 2, 1)), std::nullopt);
  }
  ASSERT_EQ(files().size(), 2U) << "each has its own";
  ASSERT_TRUE(archive()->advance(at(2025, 2, 1)));
  stopped.reset();
  EXPECT_EQ(lines("2025-01-jobs.jsonl.gz").size(), 50U);
  for (int calls = 0; !resumed->advance(at(2025, 2, 1));) ASSERT_LT(++calls, 100'000);
  EXPECT_EQ(lines("2025-01-jobs.jsonl.gz").size(), 50U);
  EXPECT_EQ(lines("2025-01-jobs-2.jsonl.gz").size(), 50U);
  EXPECT_THAT(files(), UnorderedElementsAre("2025-01-jobs.jsonl.gz", "2025-01-jobs-2.jsonl.gz"));
}

TEST_F(HistoryArchiveTest, ManyLinesComeBackAsTheyWere) {
  constexpr int kRows = 3'000;
  for (int i = 1; i <= kRows; ++i) store->add(HistoryPart::faults, at(2025, 1, 3), i);
  store->line = [](std::int64_t id) {  // little of it can be packed
    std::mt19937 dice(static_cast<unsigned>(id));
    std::string text;
    for (int i = 0; i < 300; ++i) text += static_cast<char>(' ' + dice() % 90);
    return text;
  };
  ASSERT_TRUE(archive()->advance(at(2025, 2, 1)));
  const auto all = lines("2025-01-faults.jsonl.gz");
  ASSERT_EQ(all.size(), std::size_t{kRows});
  for (int i = 0; i < kRows; ++i) ASSERT_EQ(all[static_cast<std::size_t>(i)], store->line(i + 1));
}

TEST_F(HistoryArchiveTest, APartThatIsPublishedIsNotWrittenAgainAfterAFailure) {
  store->add(HistoryPart::jobs, at(2025, 1, 5), 1);
  store->add(HistoryPart::faults, at(2025, 1, 20), 2);
  auto a = archive();
  store->on_read = [this](HistoryPart part) {  // the last part has lost its file when it is to get its name
    if (part != HistoryPart::faults) return;
    for (const auto& name : files())
      if (name.starts_with("2025-01-faults")) fs::remove(folder / name);
  };
  for (int i = 0; i < 3; ++i) {
    EXPECT_THROW(a->advance(at(2025, 2, 1)), std::runtime_error);
    EXPECT_THAT(files(), ElementsAre("2025-01-jobs.jsonl.gz"));
  }
  store->on_read = [](HistoryPart) {};
  EXPECT_EQ(a->advance(at(2025, 2, 1)), at(2025, 2, 1));
  EXPECT_THAT(files(), UnorderedElementsAre("2025-01-jobs.jsonl.gz", "2025-01-faults.jsonl.gz"));
  store->add(HistoryPart::jobs, at(2025, 2, 5), 3);
  EXPECT_EQ(a->advance(at(2025, 3, 1)), at(2025, 3, 1));
  EXPECT_EQ(lines("2025-02-jobs.jsonl.gz").size(), 1U) << "of the next month nothing is published yet";
}

TEST_F(HistoryArchiveTest, WhatDeadProcessesOfThisHostLeftIsRemoved) {
  char host[256] = {};
  ASSERT_EQ(gethostname(host, sizeof host - 1), 0);
  const std::string dead = "4194305";  // above what a kernel gives
  const std::string self = std::to_string(getpid());
  const std::string stem = "2025-01-jobs.jsonl.gz.";
  const std::vector<std::string> stay{
      stem + host + ".1.a-1.new",  stem + "x" + host + "." + dead + ".a-1.new",
      stem + host + ".0.a-1.new",  stem + host + ".text.a-1.new",
      "2025-01-jobs.jsonl.gz.new", "notes." + dead + ".a-1.new"};
  fs::create_directories(folder);
  for (const auto& name : stay) std::ofstream(folder / name) << "x";
  std::ofstream(folder / (stem + host + "." + dead + ".a-1.new")) << "x";
  std::ofstream(folder / (stem + host + "." + self + ".a-1.new")) << "x";  // its pid came again
  ASSERT_TRUE(archive()->advance(at(2025, 2, 1)));
  EXPECT_THAT(files(), testing::UnorderedElementsAreArray(stay));
}

struct ArchivingKeeper : HistoryArchiveTest {
  std::vector<std::string> failures;
  Now now{at(2025, 3, 15), Mono(1h)};
  Duration ahead{};  // of us, the server's clock
  std::unique_ptr<HistoryKeeper> keeper;

  void start() {
    store->now = [this] { return now.wall + ahead; };
    keeper = std::make_unique<HistoryKeeper>(
        [](const std::function<void()>& work, const std::function<void(std::exception_ptr)>& done) {
          std::exception_ptr failure;
          try {
            work();
          } catch (...) {
            failure = std::current_exception();
          }
          done(failure);
        },
        store,
        HistorySettings{.keep = std::chrono::hours(24),
                        .failed = [this](std::string_view what) { failures.emplace_back(what); }},
        archive());
  }
  void step(Duration later = 1min) {
    now.wall += later;
    now.mono += later;
    keeper->step(true, now);
  }
};

TEST_F(ArchivingKeeper, DropsWholeMonthsThatAreWritten) {
  store->add(HistoryPart::jobs, at(2025, 2, 5), 1);
  store->add(HistoryPart::jobs, at(2025, 3, 5), 2);  // older than a day, but its month is not over
  start();
  step();
  EXPECT_THAT(store->forgotten, ElementsAre(at(2025, 3, 1)));
  EXPECT_EQ(lines("2025-02-jobs.jsonl.gz").size(), 1U);
  EXPECT_EQ(store->rows[HistoryPart::jobs].size(), 1U);
  step(24h * 20);
  EXPECT_EQ(store->forgotten.back(), at(2025, 4, 1));
  EXPECT_EQ(lines("2025-03-jobs.jsonl.gz").size(), 1U);
  EXPECT_THAT(store->rows[HistoryPart::jobs], IsEmpty());
}

TEST_F(ArchivingKeeper, NoMonthIsTakenForOverWhileTheClocksDiffer) {
  store->add(HistoryPart::jobs, at(2025, 3, 5), 1);
  start();
  now.wall += 24h * 400;
  ahead = -24h * 400;
  step();
  EXPECT_THAT(store->forgotten, IsEmpty());
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(ArchivingKeeper, WhatCannotBeWrittenStays) {
  store->add(HistoryPart::jobs, at(2025, 2, 5), 1);
  start();
  fs::remove_all(folder);  // as when its disk is no longer mounted
  for (int i = 0; i < 3; ++i) step();
  EXPECT_THAT(failures, ElementsAre("archive", "archive", "archive"));
  EXPECT_THAT(store->forgotten, IsEmpty());
  fs::create_directories(folder);
  step();
  EXPECT_EQ(failures.size(), 3U);
  EXPECT_THAT(store->forgotten, ElementsAre(at(2025, 3, 1)));
  EXPECT_THAT(files(), ElementsAre("2025-02-jobs.jsonl.gz"));
}

// While it lives no file can grow: as on a full disk.
class FullDisk {
 public:
  FullDisk() {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_FSIZE, &none);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  void (*handler_)(int) = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before_{};
};

TEST_F(ArchivingKeeper, AFullDiskIsNoHalfFile) {
  store->add(HistoryPart::jobs, at(2025, 2, 5), 1);
  start();
  {
    const FullDisk full;
    step();
  }
  EXPECT_THAT(failures, ElementsAre("archive"));
  EXPECT_THAT(store->forgotten, IsEmpty());
  EXPECT_THAT(files(), IsEmpty());
  step();
  EXPECT_THAT(files(), ElementsAre("2025-02-jobs.jsonl.gz"));
}

}  // namespace
}  // namespace tutti
