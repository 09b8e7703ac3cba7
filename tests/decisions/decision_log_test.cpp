// The decision log of a small cluster: what is written is decided again the same, and what is not what was
// written is noticed.
#include "scheduler/decisions/decision_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "api/wire/job_spec_codec.h"
#include "db/memory/memory_store.h"
#include "scheduler/decisions/replayer.h"

namespace tutti::decisions {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using protocol::Phase;

std::string read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_file(const fs::path& file, std::string_view bytes) {
  std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

struct DecisionLogTest : ::testing::Test {
  fs::path root = fs::temp_directory_path() / ("tutti-decisions-" + std::to_string(::getpid()));
  std::shared_ptr<db::MemoryDatabase> database = std::make_shared<db::MemoryDatabase>();
  db::MemoryStore store{database};
  LeaseTable leases{LeaseSettings{}};
  Now now{Instant(std::chrono::hours(24 * 365 * 50)), Mono(1h)};
  std::unique_ptr<DecisionLog> log;
  std::unique_ptr<ControlPlane> plane;

  void SetUp() override {
    fs::remove_all(root);
    store.acquire_leadership("test");
    log = std::make_unique<DecisionLog>(settings());
  }
  void TearDown() override {
    plane.reset();
    log.reset();
    fs::remove_all(root);
  }
  DecisionLogSettings settings() const {
    DecisionLogSettings s;
    s.directory = root;
    s.version = "test";
    return s;
  }

  // As the leader: the witness, the control plane, its rounds.
  void load() {
    ControlSettings control;
    const auto snapshot = std::make_shared<const Snapshot>(store.load());
    log->began(control, snapshot, leases, now);
    plane = std::make_unique<ControlPlane>(control, *snapshot, spec_text(), leases, now);
    plane->watched_by(log.get());
  }
  void commit(bool taken = true) {
    plane->plan(now);
    const Output out = plane->take_output();
    if (!taken) return;
    if (!out.batch.empty()) store.commit(out.batch);
    log->committed();
  }
  void pass(Duration d, bool heartbeats = true) {
    now.wall += d;
    now.mono += d;
    if (heartbeats)
      for (const auto& [id, node] : plane->cluster().nodes)
        if (leases.renew(id, now.mono - 10ms)) plane->on_heard(now, id);
    plane->on_tick(now);
    commit();
  }
  void hello(const std::string& name) {
    protocol::Hello h;
    h.node = h.instance = name;
    h.boot_id = "boot";
    h.cpus = 16;
    h.memory_bytes = 1LL << 36;
    h.kill_mode = "cgroup2";
    for (int i = 0; i < 4; ++i) {
      protocol::GpuInfo gpu;
      gpu.uuid = "GPU-" + name + std::to_string(i);
      gpu.index = i;
      gpu.model = "H100";
      h.gpus.push_back(gpu);
    }
    plane->on_hello(now, h);
    commit();
  }
  JobId submit(const std::string& name, int gpus = 1, const std::string& key = "") {
    const std::string json =
        R"({"name":")" + name + R"(","run":"true","resources":{"gpus":)" + std::to_string(gpus) + "}}";
    SubmitRequest request;
    request.spec = spec_text().parse(json);
    request.spec_json = wire::encode_spec(*request.spec);
    request.owner = "ada";
    request.idempotency_key = key;
    const auto results = plane->on_submit_all(now, {request});
    commit();
    return results.at(0)->id;
  }
  void say(JobId job, Phase phase) {
    const Job* live = plane->find_job(job);
    ASSERT_NE(live, nullptr);
    const AttemptKey key{job, live->row.epoch};
    ASSERT_NE(plane->find_attempt(key), nullptr);
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = phase;
    if (phase == Phase::ended)
      s.end = protocol::End{.ok = true, .proven = true, .how = "cgroup", .boot_us = 1};
    plane->on_attempt_status(now, plane->find_attempt(key)->row.gang.front().node, s);
    commit();
  }
  // Jobs that wait, run, end, are held; a node that is not heard any more.
  void some_life() {
    load();
    hello("n1");
    hello("n2");
    const JobId first = submit("first", 4, "hunter2");
    submit("second", 4);
    const JobId third = submit("third", 4);
    pass(100ms);
    say(first, Phase::ready);
    say(first, Phase::running);
    (void)plane->on_hold(now, third, "look", "ada");
    pass(1s);
    say(first, Phase::ended);
    (void)plane->on_release(now, third, "ada");
    for (int i = 0; i < 5; ++i) pass(1s);
    for (int i = 0; i < 12; ++i) pass(1s, false);
    hello("n1");
    pass(1s);
    (void)plane->on_cancel(now, third, "ada");
    commit();
  }
  // Everything is on disk.
  fs::path only_segment() {
    plane.reset();
    log.reset();
    const auto files = segments_in(root);
    EXPECT_EQ(files.size(), 1u);
    return files.empty() ? fs::path() : files[0];
  }
  // Rounds that are the same, up to the first that is not.
  static std::uint64_t same_rounds(Replayer& replay, bool* differs = nullptr) {
    std::uint64_t n = 0;
    while (const auto round = replay.next()) {
      if (!round->same()) {
        if (differs != nullptr) *differs = true;
        return n;
      }
      ++n;
    }
    return n;
  }
};

TEST_F(DecisionLogTest, TheSameIsDecidedAgain) {
  some_life();
  const auto waiting = plane->waiting_in_order("", 10);
  const auto attempts = plane->attempts().size();
  Replayer replay(only_segment());
  ASSERT_FALSE(replay.empty());
  std::uint64_t decisions = 0, rounds = 0, silent = 0;
  while (const auto round = replay.next()) {
    ++rounds;
    ASSERT_TRUE(round->same()) << "round " << round->number;
    if (round->recorded) ++decisions;
    for (const auto& e : round->output.batch.events)
      if (e.to == "unreachable" || e.to == "dead") ++silent;
  }
  EXPECT_FALSE(replay.torn());
  EXPECT_GT(decisions, 10u);
  EXPECT_GT(rounds, decisions);
  EXPECT_GE(silent, 2u);  // what no message says: both nodes fell silent
  EXPECT_EQ(replay.now().wall, now.wall);
  EXPECT_EQ(replay.plane().waiting_in_order("", 10), waiting);
  EXPECT_EQ(replay.plane().attempts().size(), attempts);
}

TEST_F(DecisionLogTest, AsOfAnyTimeTheQueueIsWhatItWas) {
  load();
  hello("n1");
  submit("runs", 4);
  const JobId waits = submit("waits", 4);
  pass(1s);
  const Instant then = now.wall;
  const auto why = plane->explain(waits, now);
  pass(10s);
  (void)plane->on_cancel(now, waits, "ada");
  commit();
  Replayer replay(only_segment());
  while (replay.next(then)) {
  }
  EXPECT_EQ(replay.now().wall, then);
  ASSERT_NE(replay.plane().find_job(waits), nullptr);
  const auto again = replay.plane().explain(waits, replay.now());
  EXPECT_EQ(again.position, why.position);
  ASSERT_EQ(again.reasons.size(), why.reasons.size());
  ASSERT_FALSE(why.reasons.empty());
  EXPECT_EQ(again.reasons[0].text, why.reasons[0].text);
  while (replay.next()) {
  }
  EXPECT_EQ(replay.plane().find_job(waits), nullptr);
}

TEST_F(DecisionLogTest, WhatTheStoreDidNotTakeNeverWas) {
  load();
  hello("n1");
  SubmitRequest request;
  request.spec_json = R"({"name":"lost","run":"true"})";
  request.spec = spec_text().parse(request.spec_json);
  request.owner = "ada";
  (void)plane->on_submit_all(now, {request});
  commit(false);
  now.wall += 1s;
  load();
  submit("after");
  plane.reset();
  log.reset();
  const auto files = segments_in(root);
  ASSERT_EQ(files.size(), 2u);
  Replayer first(files[0]), second(files[1]);
  EXPECT_EQ(same_rounds(first), 1u);
  EXPECT_EQ(first.thrown_away(), 2u);  // the submission, and the plan after it
  EXPECT_TRUE(first.plane().jobs().empty());
  EXPECT_EQ(same_rounds(second), 1u);
  EXPECT_EQ(second.thrown_away(), std::nullopt);
  ASSERT_EQ(second.plane().jobs().size(), 1u);
  EXPECT_EQ(second.plane().jobs().begin()->second.spec->name, "after");
}

TEST_F(DecisionLogTest, AByteThatWasChangedIsNoticed) {
  some_life();
  const fs::path file = only_segment();
  const std::string bytes = read_file(file);
  const auto begin = bytes.find('\n') + 1;
  for (std::size_t at = begin + 8; at < bytes.size(); at += std::max<std::size_t>(1, bytes.size() / 200)) {
    std::string other = bytes;
    other[at] = static_cast<char>(other[at] ^ 1);
    write_file(file, other);
    bool noticed = false;
    try {
      Replayer replay(file);
      same_rounds(replay);
      noticed = replay.torn();  // a length that is longer now
    } catch (const SegmentError&) {
      noticed = true;
    }
    EXPECT_TRUE(noticed) << "byte " << at;
  }
}

TEST_F(DecisionLogTest, ATornTailIsLeftOut) {
  some_life();
  const fs::path file = only_segment();
  const std::string bytes = read_file(file);
  Replayer whole(file);
  const std::uint64_t all = same_rounds(whole);
  for (std::size_t n = bytes.find('\n') + 1; n < bytes.size();
       n += std::max<std::size_t>(1, bytes.size() / 100)) {
    write_file(file, std::string_view(bytes).substr(0, n));
    Replayer torn(file);
    bool differs = false;
    EXPECT_LT(same_rounds(torn, &differs), all) << n;
    EXPECT_FALSE(differs) << n;
  }
  write_file(file, std::string_view(bytes).substr(0, bytes.size() - 1));
  Replayer last(file);
  same_rounds(last);
  EXPECT_TRUE(last.torn());
  write_file(file, std::string_view(bytes).substr(0, 5));  // not even its first line
  EXPECT_TRUE(Replayer(file).empty());
}

// Somebody who can make a whole file of it has to make the digests as well, by deciding so himself.
TEST_F(DecisionLogTest, AnInputThatWasChangedIsDecidedOtherwise) {
  some_life();
  const fs::path file = only_segment();
  SegmentReader reader(file);
  std::string content;
  while (reader.more(content)) {
  }
  const auto at = content.rfind("first");
  ASSERT_NE(at, std::string::npos);
  content.replace(at, 5, "fIrst");
  fs::remove(file);
  SegmentWriter(root, *began_at(file), "test").write(content);
  Replayer replay(file);
  bool differs = false;
  same_rounds(replay, &differs);
  EXPECT_TRUE(differs);
}

TEST_F(DecisionLogTest, AClientsKeyIsNotInIt) {
  some_life();
  now.wall += 1s;
  load();  // the key is among the rows now
  submit("again", 1, "hunter2");
  commit();
  const auto jobs = plane->jobs().size();
  plane.reset();
  log.reset();
  const auto files = segments_in(root);
  ASSERT_EQ(files.size(), 2u);
  for (const auto& file : files) {
    SegmentReader reader(file);
    std::string content;
    while (reader.more(content)) {
    }
    EXPECT_EQ(content.find("hunter2"), std::string::npos);
    EXPECT_NE(content.find("ada"), std::string::npos);
    EXPECT_EQ(fs::status(file).permissions() & (fs::perms::group_all | fs::perms::others_all),
              fs::perms::none);
  }
  Replayer replay(files[1]);
  bool differs = false;
  same_rounds(replay, &differs);
  EXPECT_FALSE(differs);
  EXPECT_EQ(replay.plane().jobs().size(), jobs);  // the key was known: no second job of it
}

TEST_F(DecisionLogTest, OldSegmentsGoWhenThereIsNoRoom) {
  log.reset();
  DecisionLogSettings small = settings();
  small.max_bytes = 20'000;
  log = std::make_unique<DecisionLog>(small);
  for (int i = 0; i < 30; ++i) {
    load();
    hello("n1");
    submit("job");
    now.wall += 1h;
  }
  const Instant last = now.wall - 1h;
  plane.reset();
  log.reset();
  const auto files = segments_in(root);
  ASSERT_FALSE(files.empty());
  EXPECT_LT(files.size(), 30u);
  std::uintmax_t sum = 0;
  for (const auto& file : files) sum += fs::file_size(file);
  EXPECT_LE(sum, small.max_bytes);
  EXPECT_EQ(began_at(files.back()), last);
  Replayer replay(files.back());
  EXPECT_EQ(same_rounds(replay), 2u);
}

// The control plane goes on; what could not be written is not half there, and the next life is recorded
// again.
TEST_F(DecisionLogTest, WhereNothingCanBeWrittenNothingIsRecorded) {
  log.reset();
  write_file(root, "a file where the directory would be");
  log = std::make_unique<DecisionLog>(settings());
  load();
  hello("n1");
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (log->records() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  ASSERT_FALSE(log->records());
  submit("not recorded");
  fs::remove(root);
  now.wall += 1s;
  load();
  ASSERT_TRUE(log->records());
  submit("recorded");
  Replayer replay(only_segment());
  EXPECT_EQ(same_rounds(replay), 1u);
  EXPECT_EQ(replay.plane().jobs().size(), 2u);
}

TEST_F(DecisionLogTest, AFileOfOtherStructsIsRefused) {
  some_life();
  const fs::path file = only_segment();
  std::string bytes = read_file(file);
  bytes[bytes.find('\n') - 1] = 'x';
  write_file(file, bytes);
  try {
    Replayer replay(file);
    FAIL() << "it was read";
  } catch (const SegmentError& e) {
    EXPECT_NE(std::string(e.what()).find("written by version test"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace tutti::decisions
