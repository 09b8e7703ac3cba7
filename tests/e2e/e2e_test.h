// The fixture of end-to-end tests: at most one cluster; its logs are printed and kept when the test fails.
// A test ends with finish(), which asks the oracles of cluster.h.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <set>

#include "tests/e2e/cluster.h"

namespace tutti::e2e {

using namespace std::chrono_literals;

class E2e : public testing::Test {
 protected:
  Cluster& start(ClusterOptions options = {}) {
    cluster_ = std::make_unique<Cluster>(options);
    return *cluster_;
  }
  void finish() { cluster_->finish(); }

  void TearDown() override {
    if (HasFailure() && cluster_) {
      Site::instance().keep();
      std::cerr << cluster_->logs() << "kept: " << cluster_->directory() << std::endl;
    }
    cluster_.reset();
  }

 private:
  std::unique_ptr<Cluster> cluster_;
};

/// "leader" or "standby", as a scheduler that is ready says of itself.
inline std::string role(Rest asked) {  // with its token: strangers are told less
  const auto answer = asked.raw("GET", "/readyz");
  if (answer.status != 200) throw Failure("/readyz is " + std::to_string(answer.status));
  return text_of(json::parse(answer.body).as_object(), "role");
}

#define TUTTI_NEEDS_NETWORK() \
  if (!Site::may_use_network()) GTEST_SKIP() << "network namespaces need root"

inline json::object& part(json::object& spec, std::string_view name) {
  if (!spec.contains(name)) spec[name] = json::object();
  return spec[name].as_object();
}
/// So that a crash of the program is tried again at once.
inline void retry_at_once(json::object& spec, const char* cause, int budget) {
  part(part(spec, "retry"), "budget")[cause] = budget;
  part(part(spec, "retry"), "backoff")[cause] = json::object{{"initial", "0s"}, {"max", "0s"}};
}
inline void checkpoint_in(json::object& spec, const std::string& dir) {
  part(spec, "checkpoint")["dir"] = dir;
}
inline std::set<pid_t> pids(const std::vector<Seen>& processes) {
  std::set<pid_t> out;
  for (const auto& p : processes) out.insert(p.pid);
  return out;
}

/// A gang of two ranks on two nodes that has to live through what happens to the schedulers and the workers.
class GangTest : public E2e {
 protected:
  std::vector<Seen> run_gang(Cluster& c) {
    gang_ = c.submit(c.spec("gang", c.rank("--every 20"), 2, 1));
    c.await_running(gang_, 1);
    return c.await_ranks(gang_, 1, 2);
  }
  void expect_untouched(Cluster& c, const std::vector<Seen>& before) {
    EXPECT_EQ(text_of(c.job(gang_), "state"), "running");
    EXPECT_EQ(number_of(c.job(gang_), "epoch"), 1);
    EXPECT_EQ(pids(c.ranks(gang_, 1)), pids(before));
  }

  std::int64_t gang_ = 0;
};

}  // namespace tutti::e2e
