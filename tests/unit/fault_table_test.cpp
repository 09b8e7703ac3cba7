// The fault table as data: what the built-in one says, and how a wrong file is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/model/fault_table.h"

namespace tutti {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kHead =
    "# version test-1\nfault,job,gpu,scope,blame,weight,mode,meaning\n"
    "xid:*,none,watch,gpu,unknown,0.2,on,unknown\n*,none,watch,gpu,unknown,0.1,on,unknown\n";

std::string refusal(const std::string& rows) {
  const auto table = FaultTable::parse(kHead + rows);
  return table ? "" : table.error().message + " [" + table.error().hint + "]";
}

TEST(FaultTable, JudgesFatalWatchedAndUnknownXids) {
  const FaultTable& table = FaultTable::built_in();
  EXPECT_EQ(table.judge("xid", 79).job, FaultJob::stop);
  EXPECT_EQ(table.judge("xid", 79).gpu, FaultGpu::quarantine);
  EXPECT_EQ(table.judge("xid", 31).job, FaultJob::none);
  EXPECT_EQ(table.judge("xid", 31).blame, FaultBlame::user);
  EXPECT_EQ(table.judge("xid", 99999).fault, "xid:*");
  EXPECT_FALSE(table.judge("xid", 99999).acts());
  EXPECT_EQ(table.judge("no such condition", 0).fault, "*");
  EXPECT_TRUE(table.judge("xid", 74).whole_island);
}

TEST(FaultTable, SympatheticXidsNeverAct) {
  for (const int xid : {43, 45, 137, 144, 145, 150, 154}) {
    const FaultRule& rule = FaultTable::built_in().judge("xid", xid);
    EXPECT_EQ(rule.blame, FaultBlame::symptom) << xid;
    EXPECT_FALSE(rule.acts()) << xid;
    EXPECT_EQ(rule.weight, 0) << xid;
  }
}

TEST(FaultTable, KnowsAFaultByTheWordsOfAWorker) {
  EXPECT_EQ(FaultTable::built_in().judge_reason("Xid 79: fell off").fault, "xid:79");
  EXPECT_EQ(FaultTable::built_in().judge_reason("gpu_lost: no answer").fault, "gpu_lost");
}

TEST(FaultTable, TellsWhatItsFaultsMayLeadTo) {
  const auto table = FaultTable::parse(std::string(kHead) +
                                       "xid:79,stop,quarantine,gpu,hardware,1,on,bus\n"
                                       "ecc,leave,quarantine,gpu,hardware,1,shadow,ecc\n");
  ASSERT_TRUE(table);
  using Outcomes = std::set<std::pair<std::string, std::string>>;
  EXPECT_EQ(table->outcomes(), (Outcomes{{"xid", "watch"},
                                         {"xid", "quarantine, stop"},
                                         {"xid", "folded: quarantine, stop"},
                                         {"xid", "brake: quarantine, stop"},
                                         {"ecc", "shadow: quarantine, leave"}}));
  EXPECT_EQ(table->shadow_rows(), std::vector{table->id() + " ecc"});
  EXPECT_LT(FaultTable::built_in().outcomes().size(), 50u) << "each is a series at every scheduler";
}

TEST(FaultTable, TellsWorkersWhatToRememberUntilAReset) {
  auto all = FaultTable::built_in().quarantining();
  EXPECT_THAT(all, Contains("xid:79"));
  EXPECT_THAT(all, Contains("gpu_lost"));
  EXPECT_THAT(all, Not(Contains("xid:31")));
  const auto shadow =
      FaultTable::parse(std::string(kHead) + "xid:79,stop,quarantine,gpu,hardware,1,shadow,bus\n");
  ASSERT_TRUE(shadow);
  EXPECT_TRUE(shadow->quarantining().empty()) << "a shadow rule does nothing";
}

TEST(FaultTable, WhatIsNotKnownMayQuarantineToo) {
  const auto table = FaultTable::parse(
      "# version t\nfault,job,gpu,scope,blame,weight,mode,meaning\n"
      "xid:*,none,quarantine,gpu,unknown,0.2,on,unknown\n*,none,quarantine,gpu,unknown,0.1,shadow,unknown\n"
      "xid:13,none,watch,gpu,user,0.1,on,engine\nxid:79,stop,quarantine,gpu,hardware,1,on,bus\n");
  ASSERT_TRUE(table);
  const auto all = table->quarantining();
  const std::set<std::string, std::less<>> told(all.begin(), all.end());
  EXPECT_TRUE(is_listed(told, "xid", 997));
  EXPECT_TRUE(is_listed(told, "xid", 79));
  EXPECT_FALSE(is_listed(told, "xid", 13)) << "the table knows it, and lets it pass";
  EXPECT_FALSE(is_listed(told, "gpu_lost", 0));
}

TEST(FaultTable, EveryFaultOfTheProbeHasARow) {
  for (const char* kind :
       {"ecc", "gpu_lost", "reset_required", "reboot_required", "drain_required", "remap_pending",
        "remap_failed", "throttled", "nvlink_down", "pcie_degraded", "fabric_not_ready", "unreadable"})
    EXPECT_EQ(FaultTable::built_in().judge(kind, 0).fault, kind);
}

TEST(FaultTable, IsNamedByVersionAndContent) {
  const auto a = FaultTable::parse(kHead), b = FaultTable::parse(std::string(kHead) + "# a remark\n");
  ASSERT_TRUE(a && b);
  EXPECT_THAT(a->id(), ::testing::StartsWith("test-1#"));
  EXPECT_NE(a->id(), b->id());
  EXPECT_EQ(a->id().size(), 7U + 8U);
}

TEST(FaultTable, NamesLineAndColumnOfAMistake) {
  EXPECT_THAT(refusal("xid:1,kill,watch,gpu,user,0,on,x\n"),
              HasSubstr("line 5: job 'kill' is not known [one of: none"));
  EXPECT_THAT(refusal("xid:1,stop,watch,rack,user,0,on,x\n"), HasSubstr("scope 'rack'"));
  EXPECT_THAT(refusal("xid:1,stop,watch,gpu,user,2,on,x\n"), HasSubstr("weight '2'"));
  EXPECT_THAT(refusal("xid:1,stop,watch,gpu,user,nan,on,x\n"), HasSubstr("weight 'nan'"));
  EXPECT_THAT(refusal("xid:1,stop,watch,gpu,user,1e-12,on,x\n"), HasSubstr("weight '1e-12'"));
  EXPECT_EQ(refusal("xid:1,stop,watch,gpu,user,0.001,on,x\n"), "");
  EXPECT_THAT(refusal("xid:1,stop\n"), HasSubstr("fewer than 8 columns"));
  EXPECT_THAT(refusal("xid:1,none,watch,gpu,user,0,on,x\nxid:1,none,watch,gpu,user,0,on,x\n"),
              HasSubstr("twice"));
  EXPECT_FALSE(FaultTable::parse(""));
  EXPECT_FALSE(FaultTable::parse("# version 1\nfault,job\n"));
  EXPECT_FALSE(FaultTable::parse("# version 1\nfault,job,gpu,scope,blame,weight,mode,meaning\n"))
      << "what is not known needs a row";
}

}  // namespace
}  // namespace tutti
