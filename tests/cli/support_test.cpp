// tutti support-bundle and the parts of the doctor that look at machines and databases: what is in, what is
// said to be missing, and that no secret leaves.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/doctor_machine.h"
#include "cli/run_program.h"
#include "cli/support_bundle.h"
#include "tests/cli/fake_scheduler.h"

namespace tutti::cli::test {
namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() : path(::testing::TempDir() + "tutti-support-" + std::to_string(getpid())) {
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    const fs::path file = fs::path(path) / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
    return file.string();
  }
  std::string read(const std::string& name) const {
    std::ifstream in(fs::path(path) / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::string path;
};

json::object part(const json::value& manifest, const std::string& name) {
  for (const auto& p : manifest.at("parts").as_array())
    if (p.at("name").as_string() == name) return p.as_object();
  return {};
}

TEST(SupportBundle, HoldsWhatThereIsSaysWhatIsNotAndNoSecret) {
  const Folder folder;
  FakeScheduler scheduler;
  scheduler.routes.get("/healthz",
                       [](const Request&) { return http::json(200, json::object{{"status", "ok"}}); });
  scheduler.routes.get("/v1/cluster", [](const Request&) {
    return http::json(200, json::object{{"version", "0.1.0"}, {"note", "HF_TOKEN=hf_abcdefghij is set"}});
  });
  scheduler.routes.get("/metrics", [](const Request&) { return http::text(200, "tutti_leader 1\n"); });
  scheduler.routes.get("/v1/nodes", [](const Request&) {
    return http::json(200, json::object{{"nodes", json::array{}}, {"echo", "token-of-this-client"}});
  });
  scheduler.start();
  folder.write("data/token", "the-admins-token-0123456789\n");
  folder.write("data/secret", "the-key-of-secrets-0123456789\n");
  const std::string log = folder.write(
      "scheduler.log",
      "opened --db \"host=x password=dsn-password-1\"\npostgresql://tutti:dsn-password-2@pg1/tutti\n"
      "the-admins-token-0123456789 and the-key-of-secrets-0123456789\nAuthorization: Bearer "
      "token-of-this-client\n"
      "DB_PASSWORD=env-secret-value\nnode=1 nothing secret here\n");
  const std::string file = folder.path + "/support.tar.gz";
  auto environment = scheduler.environment();
  for (auto& [name, value] : environment)
    if (name == "TUTTI_TOKEN") value = "token-of-this-client";
  const Finished ended = run_tutti(
      {"support-bundle", "-o", file, "--log", log, "--data", folder.path + "/data", "--timeout", "5"}, {},
      environment);
  ASSERT_EQ(ended.status, 0) << ended.err;
  struct stat status{};
  ASSERT_EQ(stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(run_program({"tar", "-xzf", file, "-C", folder.path}, 30s, 1000, true).status, 0);

  const auto manifest = json::parse(folder.read("support/manifest.json"));
  EXPECT_EQ(part(manifest, "server/metrics.txt").at("result"), "whole");
  EXPECT_EQ(folder.read("support/server/metrics.txt"), "tutti_leader 1\n");
  EXPECT_EQ(part(manifest, "server/control-plane.json").at("result"), "missing");
  EXPECT_NE(part(manifest, "server/control-plane.json").at("why").as_string().find("404"),
            json::string::npos);
  EXPECT_EQ(part(manifest, "database.txt").at("why"), "not asked for: --db");
  EXPECT_FALSE(fs::exists(folder.path + "/support/database.txt"));
  EXPECT_TRUE(json::parse(folder.read("support/doctor.json")).as_object().contains("checks"));
  std::string logged;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path + "/support")) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path());
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (entry.path().string().find("scheduler.log") != std::string::npos) logged = text;
    for (const auto* secret : {"token-of-this-client", "the-admins-token", "the-key-of-secrets",
                               "dsn-password-1", "dsn-password-2", "hf_abcdefghij", "env-secret-value"})
      EXPECT_EQ(text.find(secret), std::string::npos) << secret << " in " << entry.path();
  }
  EXPECT_NE(logged.find("nothing secret here"), std::string::npos) << logged;

  // What somebody has put in the place of the draft is neither followed nor overwritten.
  const std::string elsewhere = folder.path + "/elsewhere";
  fs::create_symlink(elsewhere, file + ".part");
  const Finished refused = run_tutti({"support-bundle", "-o", file, "--timeout", "5"}, {}, environment);
  EXPECT_NE(refused.status, 0);
  EXPECT_NE(refused.err.find(".part is there"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(elsewhere));
}

TEST(SupportBundle, KeepsTheNewestLinesOfAJournalThatIsTooLong) {
  const Folder folder;
  const std::string fake = folder.write(
      "bin/journalctl",
      "#!/bin/sh\n"
      "lines() { awk 'BEGIN { for (i = 1; i <= 100000; ++i) printf \"%06d %0120d\\n\", i, 0 }'; }\n"
      "case \" $* \" in *' -r '*) lines | tac ;; *) lines ;; esac\n");
  fs::permissions(fake, fs::perms::owner_all);
  FakeScheduler scheduler;
  scheduler.start();
  auto environment = scheduler.environment();
  environment["PATH"] = folder.path + "/bin:/usr/bin:/bin";
  const std::string file = folder.path + "/support.tar.gz";
  const Finished ended = run_tutti({"support-bundle", "-o", file, "--timeout", "5"}, {}, environment);
  ASSERT_EQ(ended.status, 0) << ended.err;
  ASSERT_EQ(run_program({"tar", "-xzf", file, "-C", folder.path}, 30s, 1000, true).status, 0);
  const auto manifest = json::parse(folder.read("support/manifest.json"));
  EXPECT_EQ(part(manifest, "logs/tutti-scheduler.journal").at("result"), "cut");
  std::istringstream journal(folder.read("support/logs/tutti-scheduler.journal"));
  int before = 0, lines = 0, wrong = 0;
  for (std::string line; std::getline(journal, line); ++lines) {
    const int number = std::stoi(line.substr(0, 6));
    wrong += line.size() != 127 || (before != 0 && number != before + 1);
    before = number;
  }
  EXPECT_EQ(before, 100'000) << "the newest";
  EXPECT_GT(lines, 60'000);
  EXPECT_EQ(wrong, 0) << "whole lines, in order";
}

TEST(SupportBundle, PutsAJournalBackInOrder) {
  EXPECT_EQ(in_order_of_time("3 c\n2 b\n  of two\n  or three\n1 a\n", false),
            "1 a\n2 b\n  of two\n  or three\n3 c\n");
  EXPECT_EQ(in_order_of_time("3 c\n2 b\n1 no", true), "2 b\n3 c\n") << "the last one was not whole";
  EXPECT_EQ(in_order_of_time("2 b\n1 a", false), "1 a\n2 b\n");
  EXPECT_EQ(in_order_of_time("", false), "");
  EXPECT_EQ(in_order_of_time("half", true), "");
}

TEST(SupportBundle, HoldsTheConfigurationWithoutItsSecrets) {
  const Folder folder;
  const std::string config = folder.write("etc/scheduler.toml",
                                          "listen = \"0.0.0.0:7070\"  # it's for all\n"
                                          "db = \"host=pg1 password=leak-1 dbname=tutti\"\n"
                                          "join-token = \"leak-2\"\n"
                                          "webhook-tokens = [ # it's two\n  \"leak-3\",\n  'leak-4' ]\n"
                                          "api_key = \"\"\"\nleak-5 \"quoted\"\n\"\"\"\n"
                                          "\"client.secret\" = '''leak-6'''\n"
                                          "# token = [\"leak-7\"]\n"
                                          "otlp-header = \"Authorization: Bearer leak-8\"\n"
                                          "upstream = \"https://ada:leak-9@mirror/x\"\n"
                                          "lease = 6\n");
  FakeScheduler scheduler;
  scheduler.start();
  const std::string file = folder.path + "/support.tar.gz";
  const Finished ended = run_tutti({"support-bundle", "-o", file, "--config", config, "--timeout", "5"}, {},
                                   scheduler.environment());
  ASSERT_EQ(ended.status, 0) << ended.err;
  ASSERT_EQ(run_program({"tar", "-xzf", file, "-C", folder.path}, 30s, 1000, true).status, 0);
  ASSERT_TRUE(fs::exists(folder.path + "/support/config"));
  std::string text;
  for (const auto& entry : fs::directory_iterator(folder.path + "/support/config"))
    text += folder.read("support/config/" + entry.path().filename().string());
  EXPECT_EQ(text.find("leak-"), std::string::npos) << text;
  for (const char* kept : {"listen = \"0.0.0.0:7070\"", "host=pg1", "dbname=tutti",
                           "join-token = ", "mirror/x", "\nlease = 6\n"})
    EXPECT_NE(text.find(kept), std::string::npos) << kept << " in " << text;
}

// A program with the name and the arguments of a scheduler, until its input is closed.
TEST(SupportBundle, FindsTheConfigurationOfWhatRunsHere) {
  const Folder folder;
  folder.write("etc/of-a-test.toml", "lease = 7\n");
  const fs::path fake = folder.path + "/tutti-scheduler";
  fs::copy_file("/bin/bash", fake);
  std::array<int, 2> input{};
  ASSERT_EQ(pipe2(input.data(), O_CLOEXEC), 0);
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    dup2(input[0], 0);
    if (chdir(folder.path.c_str()) == 0)
      execl(fake.c_str(), fake.c_str(), "-c", "read -r _; :", "--config", "etc/of-a-test.toml", nullptr);
    _exit(1);
  }
  close(input[0]);
  FakeScheduler scheduler;
  scheduler.start();
  const std::string file = folder.path + "/support.tar.gz";
  const auto holds_it = [&] {
    const Finished ended =
        run_tutti({"support-bundle", "-o", file, "--timeout", "5"}, {}, scheduler.environment());
    EXPECT_EQ(ended.status, 0) << ended.err;
    EXPECT_EQ(run_program({"tar", "-xzf", file, "-C", folder.path}, 30s, 1000, true).status, 0);
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder.path + "/support/config", none))
      if (entry.path().filename().string().ends_with("of-a-test.toml")) return true;
    return false;
  };
  const auto until = std::chrono::steady_clock::now() + 30s;
  bool found = holds_it();
  while (!found && std::chrono::steady_clock::now() < until) found = holds_it();
  close(input[1]);
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(found);
}

TEST(SupportBundle, IsBounded) {
  BundleParts parts(Redactor({}, {}), 1000);
  parts.add("a", [] { return BundleParts::Got{std::string(600, 'a') + "end", "", false}; });
  parts.add("b", [] { return BundleParts::Got{std::string(5000, 'b') + "end", "", false}; });
  parts.add("c", [] { return BundleParts::Got{"c", "", false}; });
  parts.add("d", []() -> BundleParts::Got { throw std::runtime_error("it is broken"); });
  const Folder folder;
  const std::string file = folder.write("x.tar.gz", parts.finish("2026-10-01T00:00:00Z"));
  ASSERT_EQ(run_program({"tar", "-xzf", file, "-C", folder.path}, 30s, 1000, true).status, 0);
  const auto manifest = json::parse(folder.read("support/manifest.json"));
  EXPECT_EQ(part(manifest, "a").at("result"), "whole");
  EXPECT_EQ(part(manifest, "b").at("result"), "cut");
  EXPECT_EQ(folder.read("support/b").size(), 1000u - 603u);
  EXPECT_TRUE(folder.read("support/b").ends_with("end")) << "what came last says more";
  EXPECT_EQ(part(manifest, "c").at("result"), "missing");
  EXPECT_EQ(part(manifest, "d").at("why"), "it is broken");
}

TEST(RunProgram, EndsWithItsDeadlineAndItsBound) {
  EXPECT_EQ(run_program({"echo", "hello"}, 10s, 100).output, "hello\n");
  EXPECT_FALSE(run_program({"no-such-program-here"}, 10s, 100).found);
  EXPECT_EQ(run_program({"sh", "-c", "exit 3"}, 10s, 100).status, 3);
  const auto long_one = run_program({"sh", "-c", "echo begun; sleep 600"}, 300ms, 100);
  EXPECT_FALSE(long_one.ended);
  EXPECT_EQ(long_one.output, "begun\n");
  const auto much = run_program({"sh", "-c", "head -c 100000 /dev/zero"}, 10s, 1000);
  EXPECT_TRUE(much.cut);
  EXPECT_EQ(much.output.size(), 1000u);
  EXPECT_EQ(run_program({"sh", "-c", "echo wrong >&2"}, 10s, 100).output, "");
  EXPECT_EQ(run_program({"sh", "-c", "echo wrong >&2"}, 10s, 100, true).output, "wrong\n");
}

Finding worst(const std::vector<Check>& checks) {
  Finding out = Finding::ok;
  for (const auto& c : checks) out = std::max(out, c.finding);
  return out;
}

const std::string kGoodDatabase =
    "server_version_num|150006\nfsync|on\nfull_page_writes|on\nsynchronous_commit|on\nautovacuum|on\ntrack_"
    "counts|on\n"
    "max_connections|100\nconnections|12\nsize_bytes|1073741824\nin_recovery|false\noldest_transaction_"
    "seconds|0\n"
    "synchronous_standby_names|\n";

std::string with(const std::string& name, const std::string& value) {
  std::string text =
      std::string("\n") + kGoodDatabase;  // a name begins a line: max_connections is not connections
  const auto at = text.find("\n" + name + "|") + name.size() + 2;
  return text.replace(at, text.find('\n', at) - at, value).substr(1);
}

TEST(DoctorOfDatabases, JudgesSettings) {
  const auto good = judge_database(kGoodDatabase);
  ASSERT_EQ(good.size(), 1u);
  EXPECT_EQ(good[0].finding, Finding::ok) << good[0].text;
  EXPECT_EQ(worst(judge_database(with("fsync", "off"))), Finding::fail);
  EXPECT_EQ(worst(judge_database(with("full_page_writes", "off"))), Finding::fail);
  EXPECT_EQ(worst(judge_database(with("synchronous_commit", "off"))), Finding::fail);
  EXPECT_EQ(worst(judge_database(with("synchronous_commit", "local"))), Finding::ok)
      << "without standbys it is the same";
  EXPECT_EQ(worst(judge_database(with("autovacuum", "off"))), Finding::fail);
  EXPECT_EQ(worst(judge_database(with("server_version_num", "140001"))), Finding::fail);
  EXPECT_EQ(worst(judge_database(with("max_connections", "20"))), Finding::warn);
  EXPECT_EQ(worst(judge_database(with("connections", "95"))), Finding::warn);
  EXPECT_EQ(worst(judge_database(with("in_recovery", "true"))), Finding::warn);
  EXPECT_EQ(worst(judge_database(with("oldest_transaction_seconds", "3600"))), Finding::warn);
}

TEST(DoctorOfDatabases, APasswordIsNoArgument) {
  EXPECT_TRUE(has_password("host=x password=secret"));
  EXPECT_TRUE(has_password("postgresql://tutti:secret@pg1/tutti"));
  EXPECT_FALSE(has_password("postgresql://tutti@pg1:5432/tutti"));
  EXPECT_FALSE(has_password("host=pg1,pg2 dbname=tutti"));
  EXPECT_EQ(examine_database("host=x password=secret", 1s)[0].finding, Finding::fail);
}

TEST(DoctorOfMachines, JudgesRoom) {
  constexpr std::uint64_t gib = 1ULL << 30;
  EXPECT_EQ(judge_room("disk", "/x", 100 * gib, 200 * gib).finding, Finding::ok);
  EXPECT_EQ(judge_room("disk", "/x", 5 * gib, 200 * gib).finding, Finding::warn);
  EXPECT_EQ(judge_room("disk", "/x", gib / 8, 200 * gib).finding, Finding::fail);
}

TEST(DoctorOfMachines, ADiskWithoutInodesIsFull) {
  EXPECT_FALSE(judge_inodes("disk", "/x", 5'000'000, 6'000'000));
  EXPECT_FALSE(judge_inodes("disk", "/x", 0, 0)) << "not counted there";
  EXPECT_FALSE(judge_inodes("disk", "/x", 90, 1000)) << "small, and well";
  EXPECT_EQ(judge_inodes("disk", "/x", 5'000, 6'000'000).value().finding, Finding::warn);
  const auto none = judge_inodes("disk", "/x", 3, 6'000'000).value();
  EXPECT_EQ(none.finding, Finding::fail);
  EXPECT_NE(none.text.find("3 of 6000000 inodes"), std::string::npos);
}

TEST(DoctorOfMachines, LooksAtCgroupsAndTheDriver) {
  const Folder folder;
  const auto finding = [&](const std::string& name) {
    for (const auto& check : examine_machine({}, folder.path))
      if (check.name == name) return check;
    return Check{"none", Finding::fail, "", ""};
  };
  EXPECT_EQ(finding("cgroups").finding, Finding::warn) << "v1, or nothing";
  EXPECT_EQ(finding("gpu driver").finding, Finding::ok) << "none is needed";
  folder.write("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
  folder.write("proc/self/cgroup", "0::/tutti.slice\n");
  fs::create_directories(folder.path + "/sys/fs/cgroup/tutti.slice");
  EXPECT_EQ(finding("cgroups").finding, Finding::ok) << finding("cgroups").text;
  folder.write("sys/fs/cgroup/cgroup.controllers", "cpu\n");
  EXPECT_EQ(finding("cgroups").finding, Finding::warn) << "no memory, no pids";
  folder.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54\n");
  EXPECT_EQ(finding("gpu driver").finding, Finding::warn) << "no device files";
  folder.write("dev/nvidiactl", "");
  EXPECT_EQ(finding("gpu driver").finding, Finding::ok);
}

}  // namespace
}  // namespace tutti::cli::test
