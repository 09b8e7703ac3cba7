// Batch scripts of Slurm: twenty of them with the job that each must become, and what `run` does in a shell.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "api/wire/job_spec_codec.h"
#include "api/wire/text_values.h"
#include "cli/sbatch_script.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

constexpr std::int64_t kNow = 1795953600;  // 2026-11-29T12:00:00Z

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> texts(const json::value& list) {
  std::vector<std::string> all;
  for (const auto& item : list.as_array()) all.emplace_back(item.as_string());
  return all;
}

SbatchInput input_of(const std::string& script) {
  SbatchInput input;
  input.script = script;
  input.name = "job.sh";
  input.folder = "/home/ann/run";
  input.calendar = slurm::utc_calendar(kNow);
  return input;
}

SbatchJob job_of(const std::string& heads, const std::vector<std::string>& options = {}) {
  SbatchInput input = input_of("#!/bin/sh\n" + heads + "\ntrue\n");
  input.options = options;
  return read_sbatch(input);
}

std::vector<fs::path> scripts() {
  std::vector<fs::path> all;
  for (const auto& entry :
       fs::directory_iterator(std::string(std::getenv("TUTTI_SOURCE")) + "/tests/cli/sbatch"))
    if (entry.path().extension() == ".sh") all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

// What a shell prints and returns for a `run`.
std::pair<int, std::string> run_by_shell(const std::string& run, const std::string& before = "") {
  char folder[] = "/tmp/tutti-sbatch-XXXXXX";
  const fs::path dir = mkdtemp(folder);
  std::ofstream(dir / "run") << run;
  const std::string command = "cd " + dir.string() + " && " + before + " /bin/sh -c \"$(cat run)\" 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  std::string out;
  char buffer[4096];
  for (std::size_t n = fread(buffer, 1, sizeof buffer, pipe); n > 0;
       n = fread(buffer, 1, sizeof buffer, pipe))
    out.append(buffer, n);
  const int status = pclose(pipe);
  fs::remove_all(dir);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), out};
}

using Line = std::pair<int, std::string>;

TEST(Sbatch, TwentyScriptsBecomeTheseJobs) {
  const auto all = scripts();
  ASSERT_EQ(all.size(), 20U);
  for (const auto& path : all) {
    SCOPED_TRACE(path.filename().string());
    fs::path beside = path;
    const json::object expected = json::parse(read_file(beside.replace_extension(".json"))).as_object();
    SbatchInput input = input_of(read_file(path));
    input.name = path.filename().string();
    input.options = texts(expected.at("options"));
    input.arguments = texts(expected.at("arguments"));
    const SbatchJob job = read_sbatch(input);
    for (const auto& error : job.errors) ADD_FAILURE() << error.line << ": " << error.text;

    json::object spec = job.spec;
    const std::string run(spec.at("run").as_string());
    spec.erase("run");
    EXPECT_EQ(json::value(spec), expected.at("spec")) << json::serialize(spec);

    EXPECT_NE(run.find(input.script), std::string::npos) << "the script must be in it as it is: " << run;
    const std::string interpreter(expected.at("interpreter").as_string());
    EXPECT_EQ(run.find("exec " + interpreter + " ") != std::string::npos, !interpreter.empty()) << run;

    std::vector<Line> said, wanted;
    for (const auto& w : expected.at("warnings").as_array())
      wanted.emplace_back(w.as_array()[0].as_int64(), w.as_array()[1].as_string().c_str());
    for (const auto& w : job.warnings) said.emplace_back(w.line, w.text);
    std::sort(wanted.begin(), wanted.end());
    std::sort(said.begin(), said.end());
    ASSERT_EQ(said.size(), wanted.size()) << (said.empty() ? "" : said.back().second);
    for (std::size_t i = 0; i < said.size(); ++i) {
      EXPECT_EQ(said[i].first, wanted[i].first) << said[i].second;
      EXPECT_TRUE(said[i].second.starts_with(wanted[i].second)) << said[i].second;
    }
    const Now now{Instant(std::chrono::seconds(kNow)), Mono{}};
    const auto parsed = wire::parse_spec_json(json::serialize(job.spec), now);
    EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? ""
                                             : parsed.problems[0].field + " " + parsed.problems[0].message);
  }
}

TEST(Sbatch, ABashScriptRunsUnderBashWithItsArguments) {
  SbatchInput input = input_of(
      "#!/bin/bash\na=(one 'two )' \"th\\\"ree\")\necho \"${#a[@]} $1 $2 `echo tick` $0\" \\\\\nexit 7\n");
  input.arguments = {"it's", "$HOME \"x\""};
  const auto [status, out] = run_by_shell(std::string(read_sbatch(input).spec.at("run").as_string()));
  EXPECT_EQ(out, "3 it's $HOME \"x\" tick job.sh \\\n");
  EXPECT_EQ(status, 7);
}

TEST(Sbatch, APlainScriptIsRunAsItIs) {
  SbatchInput input = input_of("#!/bin/sh\necho \"$1\"\n");
  EXPECT_EQ(read_sbatch(input).spec.at("run").as_string(), input.script);
  input.arguments = {"a b"};
  EXPECT_EQ(run_by_shell(std::string(read_sbatch(input).spec.at("run").as_string())).second, "a b\n");
}

TEST(Sbatch, AnotherInterpreterGetsAFile) {
  SbatchInput input = input_of("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:], 'END_OF_SCRIPT')\n");
  input.arguments = {"a b", "--x=1"};
  const auto [status, out] = run_by_shell(std::string(read_sbatch(input).spec.at("run").as_string()));
  EXPECT_EQ(out, "['a b', '--x=1'] END_OF_SCRIPT\n");
  EXPECT_EQ(status, 0);
}

TEST(Sbatch, AScriptThatHoldsTheEndMarkIsNotCutThere) {
  SbatchInput input =
      input_of("#!/bin/bash\ncat <<'END_OF_SCRIPT'\nEND_OF_SCRIPT_\nEND_OF_SCRIPT\necho last\n");
  EXPECT_EQ(run_by_shell(std::string(read_sbatch(input).spec.at("run").as_string())).second,
            "END_OF_SCRIPT_\nlast\n");
}

// As after a plain `run`: the shell ends with the status of the command that dealt with the signal.
TEST(Sbatch, AStopSignalWaitsForTheCommand) {
  SbatchInput input = input_of("#!/bin/bash\nkill -TERM $$\nsh -c 'exit 5'\necho not reached\n");
  const auto [status, out] = run_by_shell(std::string(read_sbatch(input).spec.at("run").as_string()));
  EXPECT_EQ(out, "");
  EXPECT_EQ(status, 0) << "of kill itself, which had ended by then";
}

TEST(Sbatch, ErrorsNameLineOptionAndWhatIsExpected) {
  for (const auto& [head, text] : std::initializer_list<std::pair<const char*, const char*>>{
           {"--nodes=many", "--nodes=many: expected a number like 4, or 2-4"},
           {"--time=soon", "--time=soon: expected minutes"},
           {"--gres=gpu:a:b:c", "--gres=gpu:a:b:c: expected gpu:NUMBER"},
           {"--gpus-per-node=100", "--gpus-per-node=100: a job has at most 64"},
           {"--mem=lots", "--mem=lots: expected a size"},
           {"--array=x", "--array=x: expected a range"},
           {"--array=0-99999999", "array.range"},
           {"--dependency=maybe:1", "--dependency=maybe:1: expected"},
           {"--begin=whenever", "--begin=whenever: expected a time"},
           {"--deadline=2020-01-01", "--deadline=2020-01-01: is over"},
           {"--signal=SIGFOO", "--signal=SIGFOO: expected a signal"},
           {"--exclude=n[1-", "--exclude=n[1-: expected"},
           {"--ntasks=0", "--ntasks=0: expected a number from 1"},
           {"--export=1A=b", "env.1A"},
           {"--requeue=yes", "--requeue takes no value"},
           {"--job-name", "--job-name needs a value"},
           {"-J 'open", "#SBATCH: a quote is not closed"},
           {"hetjob", "#SBATCH hetjob"},
           {"--constraint=[a|b]&c<1", ""}}) {
    const SbatchJob job = job_of(std::string("#SBATCH ") + head);
    if (*text == '\0') {
      EXPECT_TRUE(job.errors.empty()) << head;
      continue;
    }
    ASSERT_EQ(job.errors.size(), 1U) << head;
    EXPECT_NE(job.errors[0].text.find(text), std::string::npos) << job.errors[0].text;
    if (text[0] == '-' || text[0] == '#') EXPECT_EQ(job.errors[0].line, 2);
  }
}

TEST(Sbatch, AnUnknownOptionIsAWarningInAScriptAndAnErrorWhenTyped) {
  const SbatchJob script = job_of("#SBATCH --gpu-flavour=mint\n#SBATCH -Z 3");
  ASSERT_EQ(script.warnings.size(), 3U);
  EXPECT_EQ(script.warnings[0].line, 2);
  EXPECT_EQ(script.warnings[0].text, "--gpu-flavour is no option of sbatch");
  EXPECT_EQ(script.warnings[1].text, "'3' is no option of sbatch");
  EXPECT_EQ(script.warnings[2].text, "-Z is no option of sbatch");
  EXPECT_TRUE(script.errors.empty());
  const SbatchJob typed = job_of("", {"--gpu-flavour=mint"});
  ASSERT_EQ(typed.errors.size(), 1U);
  EXPECT_EQ(typed.errors[0].line, kCommandLine);
}

TEST(Sbatch, ABeginningOfANameIsEnoughIfNoOtherHasIt) {
  EXPECT_EQ(job_of("#SBATCH --part=a").spec.at("queue").as_string(), "a");
  EXPECT_NE(job_of("#SBATCH --mem-per=1G").warnings.at(0).text.find("several"), std::string::npos);
}

TEST(Sbatch, MemoryPerCpuCountsOneCpuPerProcessUnlessMoreAreAskedFor) {
  const auto memory = [](const char* heads) {
    return std::string(job_of(heads).spec.at("resources").as_object().at("memory").as_string());
  };
  EXPECT_EQ(memory("#SBATCH -n 4 --gpus=1 --mem-per-cpu=2G"), "8GiB");
  EXPECT_EQ(memory("#SBATCH -n 4 -c 3 --gpus=1 --mem-per-cpu=2G"), "24GiB");
  EXPECT_EQ(memory("#SBATCH --mem-per-cpu=2G"), "2GiB");
}

TEST(Sbatch, OwnFlagsAreFound) {
  const SbatchJob job = job_of("", {"--dry-run", "--key", "k", "-W", "--parsable"});
  EXPECT_TRUE(job.dry_run && job.wait && job.parsable && !job.follow);
  EXPECT_EQ(job.key, "k");
  bool wrapped = true;
  EXPECT_EQ(count_sbatch_options({"-N", "2", "--exclusive", "job.sh", "--lr", "1"}, wrapped), 3U);
  EXPECT_FALSE(wrapped);
  EXPECT_EQ(count_sbatch_options({"--wrap=hostname"}, wrapped), 1U);
  EXPECT_TRUE(wrapped);
}

TEST(Sbatch, WrapNeedsNoScript) {
  SbatchInput input = input_of("");
  input.options = {"--wrap=echo a; echo b", "-N1"};
  const SbatchJob job = read_sbatch(input);
  EXPECT_EQ(job.spec.at("run").as_string(), "#!/bin/sh\necho a; echo b\n");
  EXPECT_TRUE(job.errors.empty());
}

TEST(Sbatch, WhatIsNoTextIsRefused) {
  EXPECT_FALSE(read_sbatch(input_of(std::string("#!/bin/sh\n\0", 11))).errors.empty());
  EXPECT_FALSE(read_sbatch(input_of("#!/bin/sh\n\xff\n")).errors.empty());
  EXPECT_FALSE(read_sbatch(input_of("#!/bin/sh\n" + std::string(kMaxScript, '#'))).errors.empty());
  const SbatchJob dos = read_sbatch(input_of("#!/bin/sh\r\n#SBATCH -J a\r\ntrue\r\n"));
  EXPECT_EQ(dos.spec.at("run").as_string(), "#!/bin/sh\n#SBATCH -J a\ntrue\n");
  EXPECT_EQ(dos.spec.at("name").as_string(), "a");
  EXPECT_EQ(dos.warnings.size(), 1U);
}

TEST(SlurmValues, TimesInAllForms) {
  using std::chrono::seconds;
  for (const auto& [text, expected] :
       std::initializer_list<std::pair<const char*, std::int64_t>>{{"1", 60},
                                                                   {"90", 5400},
                                                                   {"1:30", 90},
                                                                   {"0:0:1", 1},
                                                                   {"1:00:00", 3600},
                                                                   {"1-0", 86400},
                                                                   {"1-2:3", 93780},
                                                                   {"1-2:3:4", 93784},
                                                                   {"0", 0},
                                                                   {"INFINITE", 0},
                                                                   {"unlimited", 0},
                                                                   {"-1", 0}}) {
    const auto limit = slurm::parse_time_limit(text);
    ASSERT_TRUE(limit) << text;
    EXPECT_EQ(limit->unlimited, expected == 0) << text;
    EXPECT_EQ(limit->value, seconds(expected)) << text;
  }
  for (const char* text : {"", "x", "1:2:3:4", "1-", "-2", "1-2:3:4:5", "99999999999", ":1", "1h"})
    EXPECT_FALSE(slurm::parse_time_limit(text)) << text;
}

TEST(SlurmValues, SizesAreOfUnitsOf1024) {
  EXPECT_EQ(slurm::parse_memory("512"), 512LL << 20);
  EXPECT_EQ(slurm::parse_memory("64G"), 64LL << 30);
  EXPECT_EQ(slurm::parse_memory("64gb"), 64LL << 30);
  EXPECT_EQ(slurm::parse_memory("1T"), 1LL << 40);
  EXPECT_EQ(slurm::parse_memory("2048K"), 2LL << 20);
  for (const char* text : {"", "G", "-1", "1X", "9999999999999T"})
    EXPECT_FALSE(slurm::parse_memory(text)) << text;
}

TEST(SlurmValues, HostsKeepTheirZerosAndAreBounded) {
  using Hosts = std::vector<std::string>;
  EXPECT_EQ(slurm::expand_hosts("n1", 10), Hosts{"n1"});
  EXPECT_EQ(slurm::expand_hosts("n[08-10,3],g-1", 10), (Hosts{"n08", "n09", "n10", "n3", "g-1"}));
  EXPECT_EQ(slurm::expand_hosts("r[1-2]n[1-2]", 10), (Hosts{"r1n1", "r1n2", "r2n1", "r2n2"}));
  for (const char* text : {"", "n[", "n[]", "n[2-1]", "n[1-11]", "a b", "n1,,n2", "r[1-9]n[1-9]"})
    EXPECT_FALSE(slurm::expand_hosts(text, 10)) << text;
}

TEST(SlurmValues, MomentsAreRelativeOrInUtc) {
  const auto now = wire::parse_instant("2026-11-29T15:00:00Z");
  const auto calendar =
      slurm::utc_calendar(std::chrono::duration_cast<std::chrono::seconds>(now->time_since_epoch()).count());
  for (const auto& [text, expected] : std::initializer_list<std::pair<const char*, const char*>>{
           {"now", ""},
           {"now+90", "+90s"},
           {"now+2hours", "+2h"},
           {"now+1day", "+24h"},
           {"now+1weeks", "+168h"},
           {"16:30", "2026-11-29T16:30:00Z"},
           {"14:00", "2026-11-30T14:00:00Z"},
           {"4:30PM", "2026-11-29T16:30:00Z"},
           {"midnight", "2026-11-30T00:00:00Z"},
           {"noon", "2026-11-30T12:00:00Z"},
           {"teatime", "2026-11-29T16:00:00Z"},
           {"tomorrow", "2026-11-30T00:00:00Z"},
           {"2026-12-24", "2026-12-24T00:00:00Z"},
           {"2026-12-24T08:00", "2026-12-24T08:00:00Z"},
           {"2026-12-24T08:00:30", "2026-12-24T08:00:30Z"},
           {"12/24/26-08:00", "2026-12-24T08:00:00Z"},
           {"12/24", "2026-12-24T00:00:00Z"},
           {"01/02", "2027-01-02T00:00:00Z"},
           {"122426", "2026-12-24T00:00:00Z"},
           {"2020-01-01", ""}}) {
    const auto moment = slurm::parse_moment(text, calendar);
    ASSERT_TRUE(moment) << text;
    EXPECT_EQ(*moment, expected) << text;
  }
  for (const char* text :
       {"", "later", "25:00", "2026-02-30", "13/01/26", "now+", "now+1fortnight", "12:60", "13PM"})
    EXPECT_FALSE(slurm::parse_moment(text, calendar)) << text;
}

}  // namespace
}  // namespace tutti::cli
