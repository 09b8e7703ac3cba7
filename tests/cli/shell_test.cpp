// Help, the manual page and completion: made from the command line itself, and run in real shells.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "cli/commands/commands.h"
#include "tests/cli/fake_scheduler.h"

namespace tutti::cli::test {
namespace {

std::pair<int, std::string> shell(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::string out;
  char buffer[4096];
  for (std::size_t n = fread(buffer, 1, sizeof buffer, pipe); n > 0;
       n = fread(buffer, 1, sizeof buffer, pipe))
    out.append(buffer, n);
  const int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, out};
}

bool installed(const std::string& program) { return shell("command -v " + program).first == 0; }

TEST(Help, EveryVerbHasAnExampleOfItself) {
  CommandLine line;
  const auto verbs = verbs_of(line.app);
  EXPECT_GT(verbs.size(), 60U);
  for (const CLI::App* verb : verbs) {
    EXPECT_TRUE(verb->get_footer().starts_with("Example:\n  " + full_name(*verb))) << full_name(*verb);
    EXPECT_FALSE(verb->get_description().empty()) << full_name(*verb);
    for (const CLI::Option* option : verb->get_options())
      EXPECT_FALSE(option->get_description().empty()) << full_name(*verb) << " " << option->get_name();
  }
  EXPECT_NE(run_tutti({"node", "drain", "--help"}).out.find("tutti node drain n3 --reason"),
            std::string::npos);
}

TEST(Output, ThatCannotBeWrittenIsAFailure) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  const std::string tutti = std::string(std::getenv("TUTTI_BIN")) + "/tutti ";
  const auto [status, said] = shell("(" + tutti + "completion bash > /dev/full)");
  EXPECT_EQ(status, 1);
  EXPECT_NE(said.find("standard output cannot be written"), std::string::npos) << said;
}

TEST(Help, EveryExampleIsUnderstood) {
  CommandLine all;
  for (const CLI::App* verb : verbs_of(all.app)) {
    const std::string footer = verb->get_footer();
    std::string example = footer.substr(footer.find("tutti ") + 6);
    if (const auto more = example.find(", or tutti "); more != std::string::npos) example.resize(more);
    if (const auto redirect = example.find_first_of("<>"); redirect != std::string::npos)
      example.resize(redirect);
    CommandLine line;
    EXPECT_NO_THROW(line.app.parse(example, false)) << example;
    EXPECT_TRUE(line.chosen || line.chosen_local) << example;
  }
}

TEST(ManPage, DescribesEveryVerbAndFlag) {
  const std::string page = run_tutti({"--man"}).out;
  CommandLine line;
  const auto escaped = [](const std::string& text) {
    std::string out;
    for (const char c : text) out += c == '-' ? std::string("\\-") : std::string(1, c);
    return out;
  };
  for (const CLI::App* verb : verbs_of(line.app)) {
    EXPECT_NE(page.find(".SS \\fB" + escaped(full_name(*verb)) + "\\fR"), std::string::npos)
        << full_name(*verb);
    for (const CLI::Option* option : verb->get_options())
      for (const auto& name : option->get_lnames())
        EXPECT_NE(page.find(escaped("--" + name)), std::string::npos) << name;
  }
}

TEST(ManPage, IsGoodTroff) {
  char name[] = "/tmp/tutti-man-XXXXXX";
  const std::string file = std::string(mkdtemp(name)) + "/tutti.1";
  std::ofstream(file) << run_tutti({"--man"}).out;
  if (!installed("groff")) GTEST_SKIP() << "groff is not installed";
  const auto [status, said] = shell("groff -man -Tutf8 -ww -z " + file);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(said, "");
  const auto [rendered, text] = shell("groff -man -Tascii -P-cbou " + file);
  EXPECT_EQ(rendered, 0);
  EXPECT_NE(text.find("EXIT STATUS"), std::string::npos);
  std::filesystem::remove_all(name);
}

// Names as the server has them.
struct Named {
  Named() {
    scheduler.routes.get("/v1/jobs", [](const Request&) {
      return http::json(
          200,
          json::object{{"jobs", json::array{job(7, "running"), job(71, "queued", {{"name", "other"}})}}});
    });
    scheduler.routes.get("/v1/nodes", [](const Request&) {
      return http::json(200,
                        json::object{{"nodes", json::array{json::object{{"name", "n1"}, {"state", "dead"}},
                                                           json::object{{"name", "gpu-2"}}}}});
    });
    scheduler.routes.get("/v1/projects", [](const Request&) {
      return http::json(200, json::object{{"projects", json::array{json::object{{"name", "nlp"}}}}});
    });
    scheduler.start();
  }
  // First words of the candidates for the last word.
  std::string complete(std::vector<std::string> words) const {
    words.insert(words.begin(), {"__complete", "--"});
    const std::string out = scheduler.run(words).out;
    std::string first;
    for (std::size_t at = 0; at < out.size();) {
      const auto end = out.find('\n', at);
      first += (first.empty() ? "" : " ") + out.substr(at, out.find('\t', at) - at);
      at = end + 1;
    }
    return first;
  }
  FakeScheduler scheduler;
};

TEST(Completion, KnowsVerbsFlagsAndNames) {
  Named n;
  EXPECT_EQ(n.complete({"sub"}), "submit");
  EXPECT_EQ(n.complete({"node", "dr"}), "drain");
  EXPECT_EQ(n.complete({"node", "drain", ""}), "n1 gpu-2");
  EXPECT_EQ(n.complete({"logs", "7"}), "7 71");
  EXPECT_EQ(n.complete({"logs", "o"}), "other");
  EXPECT_EQ(n.complete({"cancel", "7", "71", ""}), "7 71") << "several may be named";
  EXPECT_EQ(n.complete({"logs", "7", "--fi"}), "--first-failure");
  EXPECT_EQ(n.complete({"logs", "7", "--out"}), "--output") << "flags of all verbs, too";
  EXPECT_EQ(n.complete({"ls", "--project", ""}), "nlp");
  EXPECT_EQ(n.complete({"ls", "--project="}), "--project=nlp");
  EXPECT_EQ(n.complete({"ls", "--project", "=", "n"}), "nlp") << "as bash cuts words";
  EXPECT_EQ(n.complete({"ls", "-o", "j"}), "json");
  EXPECT_EQ(n.complete({"ls", "--state", "run"}), "running");
  EXPECT_EQ(n.complete({"completion", ""}), "bash zsh fish");
  EXPECT_EQ(n.complete({"submit", ""}), "") << "the shell knows files better";
  EXPECT_EQ(n.complete({"no-such-verb", ""}), "");
  const std::string out = n.scheduler.run({"__complete", "--", "logs", "7"}).out;
  EXPECT_EQ(out, "7\thello, running\n71\tother, queued\n");
}

TEST(Completion, DoesNotHangOnASilentServer) {
  FakeScheduler scheduler;
  std::vector<Responder> kept;
  std::mutex mutex;
  scheduler.routes.get("/v1/jobs", http::Handler([&](Request, Responder responder) {
                         const std::scoped_lock lock(mutex);
                         kept.push_back(std::move(responder));
                       }));
  scheduler.start();
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(scheduler.run({"__complete", "--", "logs", ""}).out, "");
  EXPECT_LT(std::chrono::steady_clock::now() - began, 8s);
  EXPECT_EQ(run_tutti({"__complete", "--", "logs", ""}).status, 0) << "no server at all";
  const std::scoped_lock lock(mutex);
  kept.clear();
}

// What a shell makes of it: the program by its name, on PATH.
class InShell : public testing::Test {
 protected:
  InShell() {
    char name[] = "/tmp/tutti-shell-XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~InShell() override { std::filesystem::remove_all(folder_); }
  std::pair<int, std::string> run(const std::string& program, const std::string& script) const {
    std::ofstream(folder_ + "/script") << script;
    const auto env = n_.scheduler.environment();
    return shell("env PATH=" + bin_folder() + ":$PATH TUTTI_SERVER=" + env.at("TUTTI_SERVER") +
                 " TUTTI_TOKEN=x " + program + " " + folder_ + "/script");
  }
  Named n_;
  std::string folder_;
};

TEST_F(InShell, Bash) {
  const auto [status, out] = run("bash --norc", R"SH(
eval "$(tutti completion bash)"
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tutti; echo "${COMPREPLY[*]}"; }
try tutti node dr
try tutti logs 7
try tutti node drain ''
complete -p tutti
)SH");
  EXPECT_EQ(status, 0);
  EXPECT_EQ(out, "drain\n7 71\nn1 gpu-2\ncomplete -o bashdefault -o default -F _tutti tutti\n");
}

TEST_F(InShell, Zsh) {
  if (!installed("zsh")) GTEST_SKIP() << "zsh is not installed";
  const auto [status, out] = run("zsh -f", R"SH(
compdef() { echo "compdef $*"; }
_describe() { print -l -- "${(@P)${@[-1]}}"; }
_files() { echo files; }
eval "$(tutti completion zsh)"
words=(tutti logs 7); CURRENT=3; _tutti
words=(tutti submit ''); CURRENT=3; _tutti
)SH");
  EXPECT_EQ(status, 0);
  EXPECT_EQ(out, "compdef _tutti tutti\n7:hello, running\n71:other, queued\nfiles\n");
}

TEST_F(InShell, Fish) {
  if (!installed("fish")) GTEST_SKIP() << "fish is not installed";
  const auto [status, out] =
      run("fish --no-config",
          "tutti completion fish | source\ncomplete -C 'tutti logs 7'\ncomplete -C 'tutti node dr'\n");
  EXPECT_EQ(status, 0);
  EXPECT_EQ(out, "7\thello, running\n71\tother, queued\ndrain\tlet nothing new start there\n");
}

}  // namespace
}  // namespace tutti::cli::test
