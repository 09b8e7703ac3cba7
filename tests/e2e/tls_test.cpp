// A scheduler behind https, a worker that reaches it, and a certificate that is replaced while both run: real
// processes with files made for the test. Asked with curl, which is nobody's friend here.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "tests/e2e/failure.h"
#include "tests/e2e/process.h"
#include "tests/e2e/site.h"
#include "tests/http/certificates.h"

namespace tutti::e2e {
namespace {

using http::test::Authority;
using http::test::Folder;
using http::test::Pem;

std::string text_of_file(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string first_line_of(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

class TlsEndToEnd : public testing::Test {
 protected:
  TlsEndToEnd() {
    files_.write("ca.pem", authority_.certificate());
    install("server", authority_.issue({.common_name = "first", .ip = {"127.0.0.1"}}));
    install("node", authority_.issue({.common_name = "n1"}));
  }

  /// A scheduler that is killed leaves its PostgreSQL behind.
  void TearDown() override {
    worker_.kill();
    if (scheduler_.running()) {
      scheduler_.signal(SIGTERM);
      EXPECT_TRUE(scheduler_.wait(kPatience));
    }
    kill_all("E2E_ROOT", directory_ + "/", std::chrono::seconds(20));
  }

  void install(const std::string& name, const Pem& pem) const {
    files_.write(name + ".pem", pem.certificate);
    files_.write(name + ".key", pem.key);
  }

  Process start(const std::string& program, std::vector<std::string> argv) const {
    SpawnOptions options;
    argv.insert(argv.begin(), Site::instance().program(program));
    options.argv = std::move(argv);
    options.log = directory_ + "/" + program + ".log";
    options.env["E2E_ROOT"] = directory_ + "/";
    return Process(options);
  }

  void start_scheduler() {
    scheduler_ = start("tutti-scheduler",
                       {"--listen", "127.0.0.1:0", "--data", directory_ + "/data", "--embedded-db-no-fsync",
                        "--tls-cert", files_.path("server.pem"), "--tls-key", files_.path("server.key"),
                        "--tls-client-ca", files_.path("ca.pem")});
    url_ = await("the scheduler's endpoint", [this] {
      if (!scheduler_.running()) throw Failure("the scheduler has ended: " + log("tutti-scheduler"));
      return first_line_of(directory_ + "/data/endpoint");
    });
    token_ = first_line_of(directory_ + "/data/token");
  }

  std::string log(const std::string& program) const {
    return text_of_file(directory_ + "/" + program + ".log");
  }

  /// What curl says to a request; "" when it fails.
  std::string curl(const std::string& target, std::vector<std::string> more = {}) const {
    std::vector<std::string> argv = {"curl",       "-sS",
                                     "--max-time", "5",
                                     "--cacert",   files_.path("ca.pem"),
                                     "-H",         "Authorization: Bearer " + token_,
                                     url_ + target};
    argv.insert(argv.end(), more.begin(), more.end());
    try {
      return run(argv);
    } catch (const Failure&) {
      return {};
    }
  }

  void await_in_log(const std::string& program, const std::string& text) const {
    await_true(
        text + " in the log of " + program, kPatience,
        [&] { return log(program).find(text) != std::string::npos; }, [&] { return log(program); });
  }

  Folder files_;
  Authority authority_{"cluster"};
  std::string directory_ = Site::instance().next_directory();
  std::string url_, token_;
  Process scheduler_, worker_;
};

TEST_F(TlsEndToEnd, AWorkerJoinsOverHttpsAndTheCertificateIsReplacedUnderIt) {
  start_scheduler();
  EXPECT_TRUE(url_.starts_with("https://127.0.0.1:")) << url_;
  await_true(
      "the scheduler is ready", kPatience,
      [this] { return curl("/readyz").find("\"ok\"") != std::string::npos; },
      [this] { return log("tutti-scheduler"); });
  EXPECT_NE(curl("/healthz", {"-i"}).find("Strict-Transport-Security"), std::string::npos);

  worker_ = start("tutti-worker", {"--scheduler", url_, "--tls-ca", files_.path("ca.pem"), "--tls-cert",
                                   files_.path("node.pem"), "--tls-key", files_.path("node.key"),
                                   "--token-file", directory_ + "/data/token", "--node", "n1", "--address",
                                   "127.0.0.1", "--state-dir", directory_ + "/state", "--no-gpus"});
  await_true(
      "the node is there", kPatience,
      [this] { return curl("/v1/nodes/n1").find("\"reachable\"") != std::string::npos; },
      [this] { return log("tutti-worker"); });

  install("server", authority_.issue({.common_name = "second", .ip = {"127.0.0.1"}}));
  await_in_log("tutti-scheduler", "CN = second");
  EXPECT_NE(curl("/healthz").find("ok"), std::string::npos);
  files_.write("server.pem", "no certificate");
  scheduler_.signal(SIGHUP);
  await_in_log("tutti-scheduler", "the certificate in use stays");
  EXPECT_TRUE(scheduler_.running());
  EXPECT_NE(curl("/v1/nodes/n1").find("\"reachable\""), std::string::npos)
      << "and the node has not been lost meanwhile";

  worker_.signal(SIGTERM);
  EXPECT_TRUE(worker_.wait(kPatience));
  scheduler_.signal(SIGTERM);
  EXPECT_EQ(scheduler_.wait(kPatience), 0) << log("tutti-scheduler");
}

TEST_F(TlsEndToEnd, AWorkerThatDoesNotTrustTheSchedulerStaysAway) {
  start_scheduler();
  const Authority other("other");
  files_.write("other.pem", other.certificate());
  worker_ = start("tutti-worker", {"--scheduler", url_, "--tls-ca", files_.path("other.pem"), "--token-file",
                                   directory_ + "/data/token", "--node", "n1", "--address", "127.0.0.1",
                                   "--state-dir", directory_ + "/state", "--no-gpus"});
  await_in_log("tutti-worker", "the server's certificate is not trusted");
  EXPECT_EQ(log("tutti-worker").find("Bearer"), std::string::npos);
}

TEST_F(TlsEndToEnd, FlagsThatCannotBeAreRefusedWithTheirName) {
  const auto refusal = [this](const std::string& program, std::vector<std::string> argv) {
    auto process = start(program, std::move(argv));
    const auto status = process.wait(kPatience);
    EXPECT_TRUE(status && *status != 0);
    return log(program);
  };
  EXPECT_NE(refusal("tutti-scheduler", {"--tls-cert", files_.path("server.pem")}).find("--tls-key"),
            std::string::npos);
  EXPECT_NE(refusal("tutti-worker", {"--scheduler", "http://127.0.0.1:1", "--tls-ca", files_.path("ca.pem"),
                                     "--token", "x", "--no-gpus"})
                .find("need a --scheduler https://"),
            std::string::npos);
  EXPECT_NE(refusal("tutti-worker", {"--scheduler", "https://127.0.0.1:1", "--tls-ca", "/nowhere", "--token",
                                     "x", "--no-gpus"})
                .find("--tls-ca /nowhere: cannot be read"),
            std::string::npos);
}

}  // namespace
}  // namespace tutti::e2e
