#include <algorithm>

#include "tests/model/model_state.h"

namespace tutti::model {

// ---------------------------------------------------------------- the same state, by any names

namespace {
struct Writer {
  Bytes out{};
  std::size_t at = 0;
  void add(int v) { out[at++] = static_cast<std::uint8_t>(v); }
};

Bytes encode(const State& s, bool swap_schedulers, bool swap_nodes) {
  const auto sched = [&](std::size_t i) { return swap_schedulers ? kSchedulers - 1 - i : i; };
  const auto node = [&](std::size_t n) { return swap_nodes ? kNodes - 1 - n : n; };
  Writer w;
  const auto rows = [&](const Rows& r) {
    w.add(static_cast<int>(r.job) * 64 + r.epoch * 8 +
          (r.job == JobIs::active ? static_cast<int>(node(r.node)) : 0));
  };
  w.add(s.faults * 16 + s.losses);
  w.add(s.term * 2 + s.accepted);
  for (const auto& l : s.led) {
    w.add(l.over || l.by == 0 ? 4 * l.over : static_cast<int>(sched(l.by - 1U)) + 1);
    w.add(l.began);
  }
  rows(s.rows);
  for (std::size_t k = 0; k < kSchedulers; ++k) {
    const Scheduler& p = s.schedulers[sched(k)];
    w.add(p.leads + 2 * p.ready + 4 * p.session + 8 * p.op_done);
    w.add(p.term);
    w.add(p.confirmed);
    w.add(p.others_until);
    rows(p.view);
    w.add(static_cast<int>(p.op) * 2 +
          (p.op == Write::none || p.op == Write::submit ? 0 : static_cast<int>(node(p.op_node))));
    for (std::size_t m = 0; m < kNodes; ++m) {
      const auto& l = p.leases[node(m)];
      w.add(l.known + 2 * l.held + 4 * l.settled + 8 * l.met + 16 * p.silent[node(m)]);
      w.add(l.granted);
    }
  }
  for (std::size_t m = 0; m < kNodes; ++m) {
    const Worker& x = s.workers[node(m)];
    w.add(x.term);
    w.add(x.phase * 4 + (x.phase == Worker::away ? 0 : static_cast<int>(sched(x.peer))));
    w.add(x.said);
    w.add(x.lease);
    w.add(x.running * 16 + x.highest);
    w.add(x.order);
  }
  return w.out;
}
}  // namespace

Bytes Rules::canonical(const State& s) {
  return std::min(
      {encode(s, false, false), encode(s, true, false), encode(s, false, true), encode(s, true, true)});
}

}  // namespace tutti::model
