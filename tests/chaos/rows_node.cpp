// Rows E, E', H, K and N: nodes without power, without network in one way or both, without disk or file
// server.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>

#include "tests/chaos/rows.h"
#include "tests/support/stalled_fs.h"

namespace tutti::chaos {

namespace json = e2e::json;
using e2e::Failure;
using e2e::text_of;

void power_off(Lab& lab) {
  const auto node = lab.some_node(lab.gang());
  lab.await_back(lab.strike(lab.gang(), [&] { lab.power_off(node); }), node);
}

void reboot(Lab& lab) {
  const auto node = lab.some_node(lab.gang());
  lab.await_back(lab.strike(lab.gang(), [&] {
    lab.power_off(node);
    lab.power_on(node);
  }));
}

namespace {

// Only the scheduler is cut off from it: its gang hears it, and goes on beyond lease and margin.
void lose_one_way(Lab& lab, void (e2e::Network::*lose)(int)) {
  auto& c = lab.cluster();
  const auto node = lab.some_node(lab.gang());
  lab.count_injection();
  lab.mend_later([&c, node] {
    c.heal(node);
    c.await_linked({node});
  });
  (lab.network().*lose)(c.worker(node).number());
  lab.watch_unharmed(lab.dice().between(9s, 20s));
  const auto healed = e2e::boot_us();
  c.heal(node);
  c.await_linked({node});
  lab.measured(Stage::back, healed, e2e::boot_us());
}

}  // namespace

void deaf_scheduler(Lab& lab) { lose_one_way(lab, &e2e::Network::lose_from); }
void deaf_node(Lab& lab) { lose_one_way(lab, &e2e::Network::lose_to); }

// Two nodes of the gang and one other; those that are split off still reach each other.
void split(Lab& lab) {
  auto& c = lab.cluster();
  const auto gang = lab.nodes_of(lab.gang());
  std::vector<std::string> minority = {gang[0], gang[1]};
  for (const auto& node : c.nodes())
    if (minority.size() < 3 && std::ranges::find(gang, node) == gang.end()) minority.push_back(node);
  for (const auto& node : minority) lab.hit_node(node);
  lab.mend_later([&c, minority] {
    for (const auto& node : minority) c.heal(node);
    c.await_linked();
  });
  const auto hit = lab.strike(lab.gang(), [&] {
    for (const auto& node : minority) lab.network().split_off(c.worker(node).number());
  });
  lab.await_back(hit, minority[0]);
  for (const auto& node : lab.nodes_of(lab.gang()))
    if (std::ranges::find(minority, node) != minority.end())
      throw Failure("placed on " + node + ", which is split off");
}

void short_cut(Lab& lab) {
  auto& c = lab.cluster();
  const auto node = lab.some_node(lab.gang());
  lab.count_injection();
  lab.mend_later([&c, node] {
    c.heal(node);
    c.await_linked({node});
  });
  c.cut(node);
  lab.watch_unharmed(2s);
  c.heal(node);
  lab.watch_unharmed(7s);  // until after the lease that ran when it was cut
}

// The short form of "3 s every 30 s for ten minutes".
void flapping(Lab& lab) {
  auto& c = lab.cluster();
  const auto node = lab.some_node(lab.gang());
  lab.mend_later([&c, node] {
    c.heal(node);
    c.await_linked({node});
  });
  for (int i = 0; i < 3; ++i) {
    lab.count_injection();
    c.cut(node);
    lab.watch_unharmed(3s);
    c.heal(node);
    lab.watch_unharmed(5s);
  }
}

LabOptions with_small_disk() {
  LabOptions o;
  o.cluster.small_disk = "n8";
  return o;
}

// What runs there goes on; what is to start there does not, and is not lost.
void disk_full(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  const auto pinned = [&](const std::string& name, const std::string& run) {
    auto spec = forgiving(c.spec(name, run, 1, 1));
    spec["retry"].as_object()["backoff"] = json::object{{"launch", {{"initial", "1s"}, {"max", "1s"}}},
                                                        {"storage", {{"initial", "1s"}, {"max", "1s"}}}};
    spec["constraints"] = json::array{"name=n8"};
    return c.submit(spec);
  };
  const auto before = pinned("before", c.rank(""));
  c.await_running(before, 1);
  const std::string filler = c.worker("n8").directory() + "/state/filler";
  lab.mend_later([filler] { ::unlink(filler.c_str()); });
  {
    const e2e::Fd fd(::open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const std::string page(64 << 10, 'x');
    std::size_t size = page.size();
    while (size > 0)
      if (::write(fd.get(), page.data(), size) <= 0) size /= 2;
  }
  const auto at = e2e::boot_us();
  lab.await_condition("n8", "disk_full", true);
  lab.measured(Stage::detected, at, e2e::boot_us());
  const std::string name = "later-" + std::to_string(at);  // this comes once for each injection
  const auto later = pinned(name, c.rank("--steps 20"));
  const auto why = [&] {
    return json::serialize(c.rest().get("/v1/jobs/" + std::to_string(later) + "/explain"));
  };
  e2e::await_true(
      "it is said that the disk is full", e2e::kPatience,
      [&] { return why().find("disk_full") != std::string::npos; }, why);
  lab.watch_unharmed(9s);
  const auto j = c.job(before);
  if (e2e::number_of(j, "epoch") != 1 || text_of(j, "state") != "running")
    lab.violated({Rule::healthy_killed, "a job was ended by its node's full disk, it is " +
                                            text_of(j, "state") + ": " + text_of(j, "reason")});
  if (const auto n = c.attempts(later).size(); n != 0)
    throw Failure("on a node whose disk is full a job was tried " + std::to_string(n) + " times");
  ::unlink(filler.c_str());
  lab.expect_success(name, later);
  c.await_state(later, "succeeded");
  c.rest().post("/v1/jobs/" + std::to_string(before) + ":cancel");
  c.await_state(before, "cancelled");
}

LabOptions with_checked_files() {
  LabOptions o;
  o.cluster.check_shared = true;
  return o;
}

// The file server of all nodes stalls: nothing starts, nothing that runs is touched, and it ends by itself.
void file_server_stalls(Lab& lab) {
  auto& c = lab.cluster();
  lab.count_injection();
  auto stalled = std::make_shared<std::unique_ptr<test::StalledFileSystem>>();
  const auto at = e2e::boot_us();
  *stalled = std::make_unique<test::StalledFileSystem>(c.checked());
  lab.mend_later([stalled] { stalled->reset(); });
  if (!(*stalled)->mounted()) throw Failure("no FUSE here");
  for (const auto& node : c.nodes()) lab.await_condition(node, "filesystem_hang", true);
  lab.measured(Stage::detected, at, e2e::boot_us());
  lab.watch_unharmed(9s);  // longer than lease and margin
  const auto mended = e2e::boot_us();
  stalled->reset();
  for (const auto& node : c.nodes()) lab.await_condition(node, "filesystem_hang", false);
  lab.measured(Stage::back, mended, e2e::boot_us());
}

void three_nodes(Lab& lab) {
  auto& c = lab.cluster();
  const auto gang = lab.nodes_of(lab.gang());
  std::vector<std::string> dead = {gang[0], gang[1]};
  for (const auto& node : c.nodes())
    if (dead.size() < 3 && std::ranges::find(gang, node) == gang.end()) dead.push_back(node);
  lab.count_injection(2);  // and the strike
  lab.await_back(lab.strike(lab.gang(),
                            [&] {
                              for (const auto& node : dead) c.cut(node);
                              for (const auto& node : dead) lab.power_off(node);
                            }),
                 dead[0]);
}

// More than the gang can do without: it waits, says for what, and runs when they are back. The one that is
// left is of the gang, and can tell; without such a one --continue-minutes would be waited for.
void seven_nodes(Lab& lab) {
  auto& c = lab.cluster();
  auto nodes = c.nodes();
  std::erase(nodes, lab.some_node(lab.gang()));
  lab.count_injection(6);
  const auto hit = lab.strike(lab.gang(), [&] {
    for (const auto& node : nodes) c.cut(node);
    for (const auto& node : nodes) lab.power_off(node);
  });
  c.await_state(lab.gang(), "queued");
  const auto why = c.rest().get("/v1/jobs/" + std::to_string(lab.gang()) + "/explain");
  if (why.at("reasons").as_array().empty())
    throw Failure("a gang waits for seven dead nodes and gives no reason");
  for (const auto& node : nodes) lab.power_on(node);
  lab.await_back(hit, nodes[0]);
}

}  // namespace tutti::chaos
