// The control plane under any sequence of events, sensible or not: its invariants hold, the store takes every
// batch, and a plane built anew from the rows is the plane that wrote them. The last is what makes recovery
// the same as boot.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <memory>

#include "api/wire/job_spec_codec.h"
#include "db/memory/memory_store.h"
#include "scheduler/core/control_plane.h"
#include "tests/store/row_equality.h"
#include "tests/support/test_env.h"

namespace tutti {
namespace {

using namespace std::chrono_literals;
using protocol::Phase;

struct Step {
  int what = 0;
  std::uint64_t a = 0, b = 0;
};
std::ostream& operator<<(std::ostream& out, const Step& s) {
  return out << "{" << s.what << ", " << s.a << ", " << s.b << "}";
}

constexpr int kKinds = 22;

rc::Gen<std::vector<Step>> any_steps() {
  auto step = rc::gen::map(rc::gen::tuple(rc::gen::resize(100, rc::gen::inRange(0, kKinds)),
                                          rc::gen::resize(100, rc::gen::inRange<std::uint64_t>(0, 1000)),
                                          rc::gen::resize(100, rc::gen::inRange<std::uint64_t>(0, 1000))),
                           [](const std::tuple<int, std::uint64_t, std::uint64_t>& t) {
                             return Step{std::get<0>(t), std::get<1>(t), std::get<2>(t)};
                           });
  return rc::gen::scale(6.0, rc::gen::container<std::vector<Step>>(step));
}

SpecPtr parse(std::string_view json) {
  auto parsed = wire::parse_spec_json(json, Now{});
  RC_ASSERT(parsed.ok());
  return std::make_shared<const JobSpec>(std::move(parsed.spec));
}

// A control plane over a store, as the leader keeps them, and three nodes that say anything.
class Rig {
 public:
  Rig() {
    store_.acquire_leadership("prop");
    build();
    for (int i = 0; i < kNodes; ++i) hello(i, false);
    settle();
  }

  void apply(const Step& step) {
    const auto& jobs = plane_->jobs();
    const JobId any_job(static_cast<std::int64_t>(step.a % static_cast<std::uint64_t>(last_job_ + 2)));
    switch (step.what) {
      case 0:
      case 1: submit(step); break;
      case 2: (void)plane_->on_cancel(now_, any_job, "ada"); break;
      case 3: (void)plane_->on_hold(now_, any_job, "look"); break;
      case 4: (void)plane_->on_release(now_, any_job); break;
      case 5: (void)plane_->on_requeue(now_, any_job, "ada"); break;
      case 6: hello(static_cast<int>(step.a % kNodes), step.b % 8 == 0); break;
      case 7: {
        const NodeId node = node_of(step.a);
        const Node* known = plane_->cluster().find(node);
        plane_->on_link_lost(now_, node, known->link - step.b % 2);
        if (step.b % 3 != 0) hello(static_cast<int>(step.a % kNodes), false);
        break;
      }
      case 8:
      case 9:
      case 10: bring_up(step); break;  // one step further, as a good worker says
      case 11:
      case 12: status(step, static_cast<Phase>(step.b % 4), false); break;
      case 13: status(step, Phase::running, true); break;
      case 14:
      case 15: end(step); break;
      case 16: fault(step); break;
      case 17: inventory(step); break;
      case 18: checkpoint(step); break;
      case 19:
        (void)plane_->on_node_service(
            now_, name_of(static_cast<int>(step.a % kNodes)),
            step.b % 4 != 0 ? NodeService::schedulable : static_cast<NodeService>(1 + step.a % 7), "because");
        break;
      case 20:
        pass(step.b % 3 == 0 ? Duration(step.a * 20ms) : Duration(step.a * 1ms), step.b % 4 != 0);
        break;
      default:
        if (!jobs.empty() && step.a % 4 == 0) {
          crash();
          for (int i = 0; i < kNodes; ++i)
            if (step.b % 8 != static_cast<std::uint64_t>(i)) hello(i, false);
        }
        pass(100ms, true);
        break;
    }
    settle();
  }

  // What a scheduler would know that begins now.
  void expect_same_after_recovery() {
    LeaseTable leases{LeaseSettings{}};
    ControlPlane rebuilt(ControlSettings{}, database_->load(),
                         SpecText{.parse = parse, .encode = wire::encode_spec}, leases, now_);
    std::string why;
    RC_ASSERT(rebuilt.invariants_hold(&why));
    const Output nothing = rebuilt.take_output();
    RC_ASSERT(nothing.batch.empty());
    RC_ASSERT(nothing.effects.empty());

    RC_ASSERT(rebuilt.jobs().size() == plane_->jobs().size());
    for (const auto& [id, job] : plane_->jobs()) {
      const Job* other = rebuilt.find_job(id);
      RC_ASSERT(other != nullptr);
      if (!(other->row == job.row))
        RC_FAIL("row of job " + to_string(id) + " differs: " + job.row.reason + " / " + other->row.reason);
      RC_ASSERT(other->base_version == job.base_version);
      RC_ASSERT(wire::encode_spec(*other->spec) == wire::encode_spec(*job.spec));
    }
    RC_ASSERT(rebuilt.delayed().earliest() == plane_->delayed().earliest());
    RC_ASSERT(rebuilt.attempts().size() == plane_->attempts().size());
    for (const auto& [key, attempt] : plane_->attempts()) {
      const Attempt* other = rebuilt.find_attempt(key);
      RC_ASSERT(other != nullptr);
      if (!(other->row == attempt.row))
        RC_FAIL("row of attempt " + to_string(key.job) + "/" + to_string(key.epoch) + " differs");
      RC_ASSERT(other->deadline.has_value() == attempt.deadline.has_value());
    }
    const Cluster &mine = plane_->cluster(), &theirs = rebuilt.cluster();
    RC_ASSERT(theirs.gpus.size() == mine.gpus.size());
    for (const auto& [id, gpu] : mine.gpus) {
      RC_ASSERT(theirs.gpus.at(id).row == gpu.row);
      RC_ASSERT(theirs.gpus.at(id).holder == gpu.holder);
    }
    RC_ASSERT(theirs.nodes.size() == mine.nodes.size());
    for (const auto& [id, node] : mine.nodes) {
      const Node& other = theirs.nodes.at(id);
      RC_ASSERT(other.row == node.row);
      RC_ASSERT(other.gpus == node.gpus);
      RC_ASSERT(other.members == node.members);
    }
    RC_ASSERT(theirs.node_by_name == mine.node_by_name);
    RC_ASSERT(theirs.gpu_by_uuid == mine.gpu_by_uuid);
  }

  // Everybody goes home: nothing is held when no attempt lives.
  void expect_free_when_all_is_over() {
    std::vector<JobId> all;
    for (const auto& [id, job] : plane_->jobs()) all.push_back(id);
    for (const JobId id : all) (void)plane_->on_cancel(now_, id, "ada");
    settle();
    while (!plane_->attempts().empty()) {
      const AttemptRow row = plane_->attempts().begin()->second.row;
      for (const auto& m : row.gang) {
        protocol::AttemptStatus s;
        s.key = {row.job, row.epoch};
        s.phase = Phase::ended;
        s.end = protocol::End{.ok = false, .proven = true, .how = "cgroup"};
        plane_->on_attempt_status(now_, m.node, s);
      }
      pass(1s, true);  // parts that their worker has lost are over with the lease, whatever is said of them
      settle();
    }
    RC_ASSERT(plane_->jobs().empty());
    RC_ASSERT(database_->load().allocations.empty());
    for (const auto& [id, gpu] : plane_->cluster().gpus) RC_ASSERT(!gpu.holder.job);
    for (const auto& [id, node] : plane_->cluster().nodes) {
      RC_ASSERT(node.members.empty());
    }
  }

 private:
  static constexpr int kNodes = 3;
  static constexpr int kGpus = 4;

  static std::string name_of(int i) { return "n" + std::to_string(i); }
  NodeId node_of(std::uint64_t a) const {
    return plane_->cluster().node_by_name.at(name_of(static_cast<int>(a % kNodes)));
  }
  std::string uuid_of(std::uint64_t a, std::uint64_t b) const {
    return "GPU-" + name_of(static_cast<int>(a % kNodes)) + "-" + std::to_string(b % kGpus);
  }

  void build() {
    plane_ =
        std::make_unique<ControlPlane>(ControlSettings{}, database_->load(),
                                       SpecText{.parse = parse, .encode = wire::encode_spec}, leases_, now_);
  }

  void crash() {
    leases_ = LeaseTable(LeaseSettings{});
    build();
  }

  // One turn of the leader: plan, take, commit. The store must take it.
  void settle() {
    plane_->plan(now_);
    std::string why;
    if (!plane_->invariants_hold(&why)) RC_FAIL(why);
    Output out = plane_->take_output();
    for (const auto& effect : out.effects)
      if (const auto* prepare = std::get_if<protocol::Prepare>(&effect.message))
        seen_.push_back(prepare->key);
    if (out.batch.empty()) return;
    try {
      store_.commit(out.batch);
    } catch (const StoreError& e) {
      RC_FAIL(std::string("the store refuses: ") + e.what());
    }
  }

  void pass(Duration d, bool heartbeats) {
    now_.wall += d;
    now_.mono += d;
    if (heartbeats)
      for (const auto& [id, node] : plane_->cluster().nodes)
        if (leases_.renew(id, now_.mono)) plane_->on_heard(now_, id);
    plane_->on_tick(now_);
  }

  void submit(const Step& step) {
    JobSpec spec = testing::job_spec(1 + static_cast<int>(step.a % 3), static_cast<int>(step.b % 5), "j");
    spec.priority = static_cast<int>(step.a % 101);
    spec.resources.cpus = static_cast<int>(step.b % 7);
    spec.resources.memory_bytes = static_cast<std::int64_t>(step.a % 3) << 20;
    spec.launcher = step.b % 3 == 0 ? Launcher::script : Launcher::direct;
    spec.retry.budget[Cause::user] = static_cast<int>(step.a % 3);
    spec.retry.no_progress_limit = static_cast<int>(step.b % 4);
    if (step.a % 7 == 0) spec.begin_time = Instant(std::chrono::floor<std::chrono::seconds>(now_.wall)) + 5s;
    if (step.b % 6 == 0) spec.time_limit = 10s;
    SubmitRequest request;
    request.spec_json = wire::encode_spec(spec);
    request.spec = parse(request.spec_json);
    request.owner = "ada";
    if (step.b % 2 == 0) request.idempotency_key = "key-" + std::to_string(step.a % 20);
    request.body_hash = step.a % 20;
    if (const auto result = plane_->on_submit(now_, request))
      last_job_ = std::max(last_job_, result->id.value);
  }

  protocol::Hello hello_of(int i, bool new_boot) {
    if (new_boot) ++boots_[static_cast<std::size_t>(i)];
    protocol::Hello h;
    h.node = name_of(i);
    h.address = "10.0.0." + std::to_string(1 + i);
    h.boot_id = "boot-" + std::to_string(boots_[static_cast<std::size_t>(i)]);
    h.cpus = 16;
    h.memory_bytes = 1LL << 30;
    h.kill_mode = "cgroup2";
    for (int g = 0; g < kGpus; ++g) h.gpus.push_back(gpu_of(static_cast<std::uint64_t>(i), g));
    return h;
  }
  protocol::GpuInfo gpu_of(std::uint64_t node, int g) const {
    protocol::GpuInfo info;
    info.uuid = uuid_of(node, static_cast<std::uint64_t>(g));
    info.index = g;
    info.model = "NVIDIA H100";
    info.island = g / 2;
    return info;
  }
  void hello(int i, bool new_boot) {
    protocol::Hello h = hello_of(i, new_boot);
    const auto odd = static_cast<std::uint64_t>(now_.wall.time_since_epoch().count() / 1000);
    const auto known = plane_->cluster().node_by_name.find(h.node);
    if (!new_boot && known != plane_->cluster().node_by_name.end()) {
      for (AttemptKey key : plane_->cluster().nodes.at(known->second).members)
        if ((odd + key.epoch.value) % 7 != 0) h.attempts.push_back(truth(key, known->second));
      if (odd % 5 == 0 && !seen_.empty()) {  // one of the past
        protocol::AttemptStatus s;
        s.key = seen_[odd % seen_.size()];
        s.phase = odd % 3 == 0 ? Phase::running : Phase::ended;
        if (s.phase == Phase::ended)
          s.end = protocol::End{.ok = false, .proven = odd % 2 == 0, .how = "cgroup"};
        h.attempts.push_back(s);
      }
    }
    plane_->on_hello(now_, h);
  }

  protocol::AttemptStatus truth(AttemptKey key, NodeId node) const {
    protocol::AttemptStatus s;
    s.key = key;
    for (const auto& m : plane_->find_attempt(key)->row.gang)
      if (m.node == node && m.state >= MemberState::ready)
        s.phase = m.state == MemberState::ready ? Phase::ready : Phase::running;
    return s;
  }

  // Mostly of those that live.
  std::optional<AttemptKey> any_key(std::uint64_t a) const {
    const auto& attempts = plane_->attempts();
    if (a % 5 == 0 && !seen_.empty()) return seen_[a % seen_.size()];
    if (attempts.empty()) return std::nullopt;
    return std::next(attempts.begin(), static_cast<std::ptrdiff_t>(a % attempts.size()))->first;
  }
  void status(const Step& step, Phase phase, bool failing) {
    const auto key = any_key(step.a);
    if (!key) return;
    protocol::AttemptStatus s;
    s.key = *key;
    s.phase = phase;
    if (phase == Phase::ready) s.agent_port = s.master_port = 4000;
    if (failing) {
      static const char* const kKinds[] = {"exit", "signal", "oom", "launch", "setup", "supervisor", "lease"};
      protocol::Failure f;
      f.kind = kKinds[step.b % 7];
      f.rank = 0;
      f.exit_code = step.b % 3 == 0 ? 85 : 1;
      if (f.kind == "signal") f.signal = step.b % 2 == 0 ? 9 : 11;
      f.detail = "it failed";
      s.failure = f;
    }
    plane_->on_attempt_status(now_, node_of(step.b), s);
  }
  void bring_up(const Step& step) {
    const auto& attempts = plane_->attempts();
    if (attempts.empty()) return;
    const auto& row =
        std::next(attempts.begin(), static_cast<std::ptrdiff_t>(step.a % attempts.size()))->second.row;
    const AttemptKey key{row.job, row.epoch};
    MemberState lowest = MemberState::ended;
    for (const auto& m : row.gang) lowest = std::min(lowest, m.state);
    const std::vector<GangMember> gang = row.gang;
    for (const auto& m : gang) {
      if (m.state != lowest || plane_->find_attempt(key) == nullptr) continue;
      protocol::AttemptStatus s;
      s.key = key;
      s.phase = lowest == MemberState::asked       ? Phase::preparing
                : lowest == MemberState::preparing ? Phase::ready
                : lowest == MemberState::running   ? Phase::ended
                                                   : Phase::running;
      if (s.phase == Phase::ended) s.end = protocol::End{.ok = true, .proven = true, .how = "cgroup"};
      if (s.phase == Phase::ended && step.b % 3 != 0) continue;  // runs on for a while
      plane_->on_attempt_status(now_, m.node, s);
    }
  }
  void end(const Step& step) {
    const auto key = any_key(step.a);
    if (!key) return;
    protocol::AttemptStatus s;
    s.key = *key;
    s.phase = Phase::ended;
    s.end = protocol::End{.ok = step.b % 3 == 0, .proven = step.b % 4 != 0, .how = "cgroup"};
    plane_->on_attempt_status(now_, node_of(step.b), s);
  }
  void fault(const Step& step) {
    protocol::GpuFault f;
    f.uuid = uuid_of(step.a, step.b);
    f.kind = "xid";
    f.xid = step.b % 2 == 0 ? 79 : 13;
    f.detail = "\"quoted\"";
    plane_->on_gpu_fault(now_, node_of(step.a), f);
  }
  void inventory(const Step& step) {
    protocol::GpuInventory m;
    for (int g = 0; g < kGpus; ++g) {
      if (step.b % 5 == 0 && static_cast<std::uint64_t>(g) == step.b % kGpus) continue;  // gone
      m.gpus.push_back(gpu_of(step.a, g));
      if (step.b % 7 == static_cast<std::uint64_t>(g)) {
        m.gpus.back().healthy = false;
        m.gpus.back().health_reason = "Xid 79";
      }
    }
    plane_->on_gpu_inventory(now_, node_of(step.a), m);
  }
  void checkpoint(const Step& step) {
    const auto key = any_key(step.a);
    if (!key) return;
    protocol::CheckpointFound c;
    c.key = *key;
    c.epoch_in_file = step.b % 9 == 0 ? 0 : key->epoch.value;
    c.step = static_cast<std::int64_t>(step.b);
    c.path = "/ckpt/" + to_string(key->job) + "/step-" + std::to_string(step.b);
    const Attempt* attempt = plane_->find_attempt(*key);
    plane_->on_checkpoint(now_, attempt == nullptr ? node_of(step.b) : attempt->row.gang.front().node, c);
  }

  Now now_{Instant(std::chrono::hours(24 * 365 * 50)), Mono(1h)};
  LeaseTable leases_{LeaseSettings{}};
  std::shared_ptr<db::MemoryDatabase> database_ = std::make_shared<db::MemoryDatabase>();
  db::MemoryStore store_{database_};
  std::unique_ptr<ControlPlane> plane_;
  std::vector<AttemptKey> seen_;
  std::int64_t last_job_ = 0;
  int boots_[kNodes] = {1, 1, 1};
};

RC_GTEST_PROP(ControlPlane, APlaneBuiltFromTheRowsIsThePlaneThatWroteThem, ()) {
  const auto steps = *any_steps();
  Rig rig;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    rig.apply(steps[i]);
    if (i % 8 == 0) rig.expect_same_after_recovery();
  }
  rig.expect_same_after_recovery();
}

RC_GTEST_PROP(ControlPlane, NothingIsHeldWhenAllIsOver, ()) {
  const auto steps = *any_steps();
  Rig rig;
  for (const auto& step : steps) rig.apply(step);
  rig.expect_free_when_all_is_over();
}

}  // namespace
}  // namespace tutti
