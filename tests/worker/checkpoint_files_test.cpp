// Checkpoints on a real disk, and everything odd that a job may leave there.
#include "worker/service/checkpoint_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/crc.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "worker/service/as_user.h"

namespace tutti::worker {
namespace {

namespace fs = std::filesystem;
using supervisor::Manifest;
using supervisor::Shard;
using What = ResumeCheck::What;

const AttemptKey kKey{JobId(7), Epoch(2)};

class CheckpointFiles : public ::testing::Test {
 protected:
  fs::path root =
      fs::temp_directory_path() / ("tutti-ckpt-" + std::to_string(getpid()) + "-" +
                                   ::testing::UnitTest::GetInstance()->current_test_info()->name());
  std::string dir = (root / "ckpt").string();
  SeenCheckpoints seen;

  void SetUp() override {
    fs::remove_all(root);
    fs::create_directories(dir);
  }
  void TearDown() override { fs::remove_all(root); }

  static void put(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  std::string path(std::int64_t step) const { return dir + "/step-" + std::to_string(step); }
  static std::uint32_t crc(const std::string& text) {
    supervisor::Crc32c c;
    c.add(text.data(), text.size());
    return c.value();
  }
  // Two shards, one in a folder of its own.
  void write(std::int64_t step, std::int64_t epoch = 2) {
    const std::string first(100'000, 'a'), second = "bb" + std::to_string(step);
    put(path(step) + "/rank-0.bin", first);
    put(path(step) + "/more/rank-1.bin", second);
    Manifest m;
    m.step = step;
    m.epoch = epoch;
    m.list = {{"rank-0.bin", 100'000, crc(first)},
              {"more/rank-1.bin", static_cast<std::int64_t>(second.size()), crc(second)}};
    put(path(step) + "/COMPLETE.json", supervisor::write_manifest(m, "2026-01-01T00:00:00Z"));
  }
  FoundCheckpoints find(bool last = false) { return find_checkpoints(dir, kKey, seen, last); }
  // As often as it takes until what is not in order is told.
  FoundCheckpoints find_all() {
    FoundCheckpoints all;
    for (int i = 0; i < 5; ++i) {
      auto some = find();
      all.found.insert(all.found.end(), some.found.begin(), some.found.end());
      all.refused.insert(all.refused.end(), some.refused.begin(), some.refused.end());
    }
    return all;
  }
  std::string refusal() {
    const auto all = find_all();
    EXPECT_TRUE(all.found.empty());
    EXPECT_EQ(all.refused.size(), 1u) << "told once";
    return all.refused.empty() ? "" : all.refused.front().why;
  }
  std::string problem() {
    const auto all = find_all();
    EXPECT_EQ(all.found.size(), 1u) << "told once";
    return all.found.empty() ? "" : all.found.front().problem;
  }
  ResumeCheck resume(std::int64_t step, std::int64_t epoch = 2, bool no_time = false) const {
    protocol::Prepare p;
    p.key = kKey;
    p.resume_path = path(step);
    p.resume_step = step;
    p.resume_epoch = epoch;
    int asked = 0;
    return check_resume(dir, p, [&] { return no_time && ++asked > 2; });
  }
  protocol::CheckpointDeleted remove(std::int64_t step, std::int64_t epoch = 2,
                                     uid_t owner = getuid()) const {
    return delete_checkpoint(dir, owner, {kKey, epoch, step, path(step)}, [] { return false; });
  }
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(CheckpointFiles, CrcIsThatOfTheStandardAndOfAnotherImplementation) {
  EXPECT_EQ(crc("123456789"), 0xE3069283u);
  std::mt19937 random(1);
  for (std::size_t size : {0, 1, 7, 8, 9, 63, 64, 1000, 4097}) {
    std::string text(size, '\0');
    for (auto& c : text) c = static_cast<char>(random());
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> other;
    other.process_bytes(text.data(), text.size());
    EXPECT_EQ(crc(text), other.checksum()) << size;
    supervisor::Crc32c pieces;
    for (std::size_t at = 0; at < size; at += 5)
      pieces.add(text.data() + at, std::min<std::size_t>(5, size - at));
    EXPECT_EQ(pieces.value(), other.checksum());
  }
}

TEST_F(CheckpointFiles, FindsBothFormsOnceInOrderOfTheirSteps) {
  write(20);
  put(path(10) + "/COMPLETE.json", R"({"step":10,"epoch":2,"shards":8,"bytes":77,"save_seconds":1.5})");
  put(path(5) + "/COMPLETE.json", R"({"step":5,"epoch":1})");  // an earlier attempt's
  fs::create_directories(path(30));                            // being written
  const auto found = find();
  ASSERT_EQ(found.found.size(), 2u);
  EXPECT_EQ(
      std::tuple(found.found[0].step, found.found[0].shards, found.found[0].bytes, found.found[0].cost_us),
      std::tuple(10, 8, 77, 1'500'000));
  EXPECT_EQ(std::tuple(found.found[1].step, found.found[1].shards, found.found[1].problem),
            std::tuple(20, 2, ""));
  EXPECT_EQ(found.listed, std::vector<std::string>{path(20)});
  EXPECT_TRUE(find().found.empty());
  write(30);
  EXPECT_EQ(find().found.size(), 1u);
}

TEST_F(CheckpointFiles, WhatIsNotThereYetIsLookedAtAgain) {
  write(10);
  fs::rename(path(10) + "/rank-0.bin", dir + "/later");
  EXPECT_TRUE(find().found.empty());
  fs::rename(dir + "/later", path(10) + "/rank-0.bin");
  const auto found = find();
  ASSERT_EQ(found.found.size(), 1u);
  EXPECT_EQ(found.found[0].problem, "");
}

TEST_F(CheckpointFiles, AnIncompleteOneIsToldAtTheThirdLookOrAtTheLast) {
  write(10);
  fs::resize_file(path(10) + "/rank-0.bin", 99);
  EXPECT_EQ(problem(), "rank-0.bin has 99 bytes, not 100000");
  write(20);
  fs::remove(path(20) + "/more/rank-1.bin");
  const auto found = find(true);
  ASSERT_EQ(found.found.size(), 1u);
  EXPECT_EQ(found.found[0].problem, "more/rank-1.bin is missing");
}

TEST_F(CheckpointFiles, ManifestsThatLieAreRefused) {
  const auto refused = [&](const std::string& shards, const std::string& more = "") {
    fs::remove_all(path(10));
    seen.clear();
    put(path(10) + "/COMPLETE.json", R"({"step":10,"epoch":2,"shards":)" + shards + more + "}");
    return refusal();
  };
  EXPECT_TRUE(contains(refused(R"([{"file":"../../secret","bytes":1}])"), "shards[0]: 'file' leads out"));
  EXPECT_TRUE(contains(refused(R"([{"file":"/etc/passwd","bytes":1}])"), "leads out"));
  EXPECT_TRUE(contains(refused(R"([{"file":"a","bytes":-1}])"), "'bytes'"));
  EXPECT_TRUE(contains(refused(R"([{"file":"a","bytes":1},{"file":"a","bytes":1}])"), "listed twice"));
  EXPECT_TRUE(contains(refused(R"([{"file":"a","bytes":1,"crc32c":"12"}])"), "8 hexadecimal digits"));
  EXPECT_TRUE(
      contains(refused(R"([{"file":"a","bytes":9223372036854775807},{"file":"b","bytes":2}])"), "range"));
  EXPECT_TRUE(contains(refused(R"([{"file":"a","bytes":1}])", R"(,"bytes":5)"), "says 5 bytes"));
  EXPECT_TRUE(contains(refused("[7]"), "is no object"));
  EXPECT_TRUE(contains(refused("[" + std::string(3000, '[')), "no JSON object"));
}

TEST_F(CheckpointFiles, OddThingsInPlaceOfCompleteJsonAreToldAndDoNotBlock) {
  const auto begun = std::chrono::steady_clock::now();
  fs::create_directories(path(1));
  ASSERT_EQ(mkfifo((path(1) + "/COMPLETE.json").c_str(), 0600), 0);
  EXPECT_EQ(refusal(), "COMPLETE.json is no regular file");
  fs::remove_all(path(1));
  fs::create_directories(path(2) + "/COMPLETE.json");
  EXPECT_EQ(refusal(), "COMPLETE.json is no regular file");
  fs::remove_all(path(2));
  put(path(3) + "/COMPLETE.json", "");
  fs::resize_file(path(3) + "/COMPLETE.json", 1 << 30);  // sparse
  EXPECT_TRUE(contains(refusal(), "COMPLETE.json has 1073741824 bytes, more than"));
  fs::remove_all(path(3));
  fs::create_directories(path(4));
  fs::create_symlink("COMPLETE.json", path(4) + "/COMPLETE.json");
  EXPECT_TRUE(contains(refusal(), "symbolic link"));
  fs::remove_all(path(4));
  fs::create_symlink("step-5", path(5));  // a loop
  EXPECT_TRUE(contains(refusal(), "symbolic link"));
  fs::remove(path(5));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10));
  fs::remove_all(dir);
  EXPECT_TRUE(find().found.empty()) << "the folder has vanished";
}

TEST_F(CheckpointFiles, AHugeManifestIsReadAndOneThatIsTooLongRefused) {
  Manifest m;
  m.step = 10;
  m.epoch = 2;
  for (std::size_t i = 0; i < 2000; ++i) {
    m.list.push_back({"s" + std::to_string(i), 0, 0u});
    put(path(10) + "/s" + std::to_string(i), "");
  }
  put(path(10) + "/COMPLETE.json", supervisor::write_manifest(m, "now"));
  const auto found = find();
  ASSERT_EQ(found.found.size(), 1u);
  EXPECT_EQ(found.found[0].shards, 2000);
  m.list.resize(supervisor::kMaxShards + 1, {"x", 0, {}});
  put(path(20) + "/COMPLETE.json", supervisor::write_manifest(m, "now"));
  EXPECT_TRUE(contains(find(true).refused.at(0).why, "lists 65537 shards"));
}

TEST_F(CheckpointFiles, AShardThatIsALinkOrAFifoIsDamage) {
  write(10);
  fs::remove(path(10) + "/rank-0.bin");
  put(dir + "/elsewhere", std::string(100'000, 'a'));
  fs::create_symlink(dir + "/elsewhere", path(10) + "/rank-0.bin");
  EXPECT_TRUE(contains(resume(10).why, "symbolic link"));
  fs::remove(path(10) + "/rank-0.bin");
  ASSERT_EQ(mkfifo((path(10) + "/rank-0.bin").c_str(), 0600), 0);
  EXPECT_TRUE(contains(resume(10).why, "no regular file"));
  fs::remove_all(path(10) + "/more");
  fs::create_symlink(".", path(10) + "/more");
  EXPECT_EQ(resume(10).what, What::damaged);
}

// ---------------------------------------------------------------- before an attempt begins from it

TEST_F(CheckpointFiles, AWholeOneMayBeBegunFrom) {
  write(10);
  const auto r = resume(10);
  EXPECT_EQ(r.what, What::usable) << r.why;
  EXPECT_TRUE(r.whole);
  put(path(20) + "/COMPLETE.json", R"({"step":20,"epoch":2})");
  EXPECT_EQ(resume(20).what, What::usable) << "the plain form has nothing more to check";
}

TEST_F(CheckpointFiles, EachKindOfDamageIsSeenAndNamed) {
  const auto damaged = [&](const std::string& part) {
    const auto r = resume(10);
    EXPECT_EQ(r.what, What::damaged);
    EXPECT_TRUE(contains(r.why, part)) << r.why;
  };
  write(10);
  {
    std::fstream f(path(10) + "/rank-0.bin", std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(50'000);
    f.put('b');  // one byte: the size stays
  }
  damaged("rank-0.bin: its checksum is");
  write(10);
  fs::resize_file(path(10) + "/rank-0.bin", 10);
  damaged("rank-0.bin has 10 bytes, not 100000");
  write(10);
  fs::remove(path(10) + "/rank-0.bin");
  damaged("rank-0.bin is missing");
  write(10, 9);
  damaged("is of epoch 9, not 2");
  write(10);
  put(path(10) + "/COMPLETE.json", "{\"step\":");
  damaged("no JSON object");
  write(20);
  fs::remove_all(path(10));
  damaged("is missing");
}

TEST_F(CheckpointFiles, AFolderWithoutAnyIsTheNodesTroubleAndNoDamage) {
  EXPECT_EQ(resume(10).what, What::unreachable) << "nothing is mounted here?";
  fs::remove_all(dir);
  const auto r = resume(10);
  EXPECT_EQ(r.what, What::unreachable);
  EXPECT_TRUE(contains(r.why, "No such file")) << r.why;
}

TEST_F(CheckpointFiles, ChecksumsThatDoNotFinishInTimeDoNotHoldUpTheLaunch) {
  write(10);
  const auto r = resume(10, 2, true);
  EXPECT_EQ(r.what, What::usable);
  EXPECT_FALSE(r.whole);
}

// A file server that needs a minute for the sizes of ten thousand files is slow; the checkpoint is whole.
TEST_F(CheckpointFiles, SizesAreLookedAtToTheEnd) {
  write(10);
  protocol::Prepare p;
  p.key = kKey;
  p.resume_path = path(10);
  p.resume_step = 10;
  p.resume_epoch = 2;
  const auto r = check_resume(dir, p, [] { return true; });
  EXPECT_EQ(r.what, What::usable) << r.why;
  EXPECT_FALSE(r.whole);
}

// ---------------------------------------------------------------- by whose rights

class CheckpointFilesOfAUser : public CheckpointFiles {
 protected:
  static constexpr uid_t kNobody = 65534;
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
    CheckpointFiles::SetUp();
    write(10);
    chmod(root.c_str(), 0755);
    for (const auto& entry : fs::recursive_directory_iterator(root))
      ASSERT_EQ(lchown(entry.path().c_str(), kNobody, kNobody), 0);
    chmod(dir.c_str(), 0700);
  }
  // On a thread as on a client of a file server that squashes root: it may do what everybody may.
  static void squashed(const std::function<void()>& body) {
    std::thread thread([&] {
      __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
      __user_cap_data_struct caps[2] = {};
      ASSERT_EQ(syscall(SYS_capget, &header, caps), 0);
      for (const int cap : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER}) {
        caps[0].effective &= ~(1U << cap);
        caps[0].permitted &= ~(1U << cap);
      }
      ASSERT_EQ(syscall(SYS_capset, &header, caps), 0);
      body();
    });
    thread.join();
  }
  const Account nobody{.name = "nobody", .uid = kNobody, .gid = kNobody, .groups = {kNobody}};
};

TEST_F(CheckpointFilesOfAUser, AreFoundCheckedAndDeletedWhereRootIsNobody) {
  squashed([&] {
    EXPECT_TRUE(find(true).found.empty()) << "or this test shows nothing";
    {
      const AsUser user(nobody);
      EXPECT_EQ(find(true).found.size(), 1U);
      EXPECT_EQ(resume(10).what, What::usable);
      EXPECT_TRUE(remove(10, 2, kNobody).ok);
    }
    EXPECT_EQ(open(dir.c_str(), O_RDONLY), -1) << "its rights are its own again";
  });
  EXPECT_FALSE(fs::exists(path(10)));
}

TEST_F(CheckpointFilesOfAUser, HaveHisGroupsAndThoseOnly) {
  ASSERT_EQ(chown(dir.c_str(), 0, 54321), 0);
  chmod(dir.c_str(), 0050);
  squashed([&] {
    const AsUser user(nobody);
    EXPECT_TRUE(find(true).found.empty());
  });
  squashed([&] {
    const AsUser user({.name = "nobody", .uid = kNobody, .gid = kNobody, .groups = {kNobody, 54321}});
    EXPECT_EQ(find(true).found.size(), 1U);
  });
  EXPECT_EQ(find(true).found.size(), 0U) << "told before";
}

// What cannot be looked at may be whole: a problem that is told keeps every attempt away from it for ever.
TEST_F(CheckpointFilesOfAUser, TroubleIsNoDamage) {
  ASSERT_EQ(chown((path(10) + "/more").c_str(), 0, 0), 0);
  chmod((path(10) + "/more").c_str(), 0700);
  ASSERT_EQ(chown((path(10) + "/COMPLETE.json").c_str(), 0, 0), 0);
  chmod((path(10) + "/COMPLETE.json").c_str(), 0600);
  squashed([&] {
    const AsUser user(nobody);
    const auto all = find_all();
    EXPECT_TRUE(all.found.empty());
    EXPECT_TRUE(all.refused.empty()) << all.refused.front().why;
  });
  chmod((path(10) + "/COMPLETE.json").c_str(), 0644);
  squashed([&] {
    const AsUser user(nobody);
    const auto all = find_all();
    ASSERT_EQ(all.found.size(), 1U);
    EXPECT_EQ(all.found[0].problem, "");
    EXPECT_EQ(resume(10).what, What::unreachable);
  });
}

// ---------------------------------------------------------------- deletion

TEST_F(CheckpointFiles, DeletesWhatItIsToldAndNothingElse) {
  write(10);
  write(20);
  put(root.string() + "/outside/precious", "x");
  fs::create_symlink(root / "outside", path(10) + "/link");
  const auto answer = remove(10);
  EXPECT_TRUE(answer.ok) << answer.why;
  EXPECT_FALSE(fs::exists(path(10)));
  EXPECT_TRUE(fs::exists(root / "outside" / "precious")) << "links are removed, not followed";
  EXPECT_TRUE(fs::exists(path(20) + "/COMPLETE.json"));
  EXPECT_TRUE(remove(10).ok) << "said twice";
}

TEST_F(CheckpointFiles, DoesNotDeleteAnotherCheckpointOfThatPath) {
  write(10, 3);
  EXPECT_FALSE(remove(10, 2).ok);
  EXPECT_TRUE(fs::exists(path(10) + "/COMPLETE.json"));
  EXPECT_FALSE(remove(10, 3, getuid() + 1).ok) << "somebody else's";
  EXPECT_TRUE(fs::exists(path(10) + "/COMPLETE.json"));
  fs::remove(path(10) + "/COMPLETE.json");  // being written again
  EXPECT_FALSE(remove(10, 3).ok);
  EXPECT_TRUE(fs::exists(path(10) + "/rank-0.bin"));
}

TEST_F(CheckpointFiles, DoesNotLeaveTheFolderOfTheJob) {
  put(root.string() + "/step-1/COMPLETE.json", R"({"step":1,"epoch":2})");
  for (const std::string& outside : {dir + "/../step-1", root.string() + "/step-1", dir, dir + "/",
                                     dir + "/..", std::string("/"), std::string("step-1")}) {
    const auto answer = delete_checkpoint(dir, getuid(), {kKey, 2, 1, outside}, [] { return false; });
    EXPECT_FALSE(answer.ok) << outside;
  }
  EXPECT_TRUE(fs::exists(root / "step-1" / "COMPLETE.json"));
  fs::create_symlink(root / "step-1", path(1));
  EXPECT_FALSE(remove(1).ok);
  EXPECT_TRUE(fs::exists(root / "step-1" / "COMPLETE.json"));
}

TEST_F(CheckpointFiles, WhatWasLeftHalfDeletedIsDeletedByTheNextOrder) {
  write(10);
  int asked = 0;
  const auto first = delete_checkpoint(dir, getuid(), {kKey, 2, 10, path(10)}, [&] { return ++asked > 1; });
  EXPECT_FALSE(first.ok);
  EXPECT_FALSE(fs::exists(path(10))) << "no attempt finds it any more";
  EXPECT_TRUE(remove(10).ok);
  EXPECT_TRUE(fs::is_empty(dir));
}

TEST_F(CheckpointFiles, AFolderThatCannotBeWrittenIsToldWithTheReason) {
  write(10);
  const bool root_runs_it = geteuid() == 0;
  constexpr uid_t kSomebody = 65534;  // root may write everywhere: be another for the moment
  const uid_t owner = root_runs_it ? kSomebody : getuid();
  if (root_runs_it)
    for (const auto& entry : fs::recursive_directory_iterator(root))
      ASSERT_EQ(lchown(entry.path().c_str(), owner, owner), 0);
  fs::permissions(dir, fs::perms::owner_read | fs::perms::owner_exec);
  if (root_runs_it) ASSERT_EQ(seteuid(owner), 0);
  const auto answer = remove(10, 2, owner);
  if (root_runs_it) ASSERT_EQ(seteuid(0), 0);
  fs::permissions(dir, fs::perms::owner_all);
  EXPECT_FALSE(answer.ok);
  EXPECT_TRUE(contains(answer.why, "denied")) << answer.why;
}

}  // namespace
}  // namespace tutti::worker
