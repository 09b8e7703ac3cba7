// Everything that changes a control plane, in one table: its public methods, whose arguments are with the
// time all that a decision depends on (docs/design/0017-decision-log.md). A method of this table tells the
// witness that it is called, with note(), before it does anything else. Included by the control plane's own
// files, and by scheduler/decisions.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "scheduler/core/control_plane.h"

namespace tutti {

struct InputName {
  template <std::size_t N>
  consteval InputName(const char (&word)[N]) {  // NOLINT(google-explicit-constructor)
    std::copy_n(word, N, text.data());
  }
  std::array<char, 32> text{};
};

template <auto Method, InputName Name>
struct Input {
  static constexpr auto kMethod = Method;
  static constexpr std::string_view name() { return Name.text.data(); }
};

// A method's place here is its number in the log.
using PlaneInputs = std::tuple<
    Input<&ControlPlane::on_submit, "on_submit">, Input<&ControlPlane::on_submit_all, "on_submit_all">,
    Input<&ControlPlane::on_cancel, "on_cancel">, Input<&ControlPlane::on_hold, "on_hold">,
    Input<&ControlPlane::on_release, "on_release">, Input<&ControlPlane::on_requeue, "on_requeue">,
    Input<&ControlPlane::on_signal, "on_signal">, Input<&ControlPlane::on_update, "on_update">,
    Input<&ControlPlane::on_exec, "on_exec">, Input<&ControlPlane::on_put_queue, "on_put_queue">,
    Input<&ControlPlane::on_remove_queue, "on_remove_queue">,
    Input<&ControlPlane::on_put_project, "on_put_project">,
    Input<&ControlPlane::on_remove_project, "on_remove_project">,
    Input<&ControlPlane::on_put_reservation, "on_put_reservation">,
    Input<&ControlPlane::on_remove_reservation, "on_remove_reservation">,
    Input<&ControlPlane::on_node_service, "on_node_service">,
    Input<&ControlPlane::on_node_report, "on_node_report">, Input<&ControlPlane::on_inspect, "on_inspect">,
    Input<&ControlPlane::on_node_off, "on_node_off">, Input<&ControlPlane::on_hello, "on_hello">,
    Input<&ControlPlane::on_link_lost, "on_link_lost">, Input<&ControlPlane::on_heard, "on_heard">,
    Input<&ControlPlane::on_attempt_status, "on_attempt_status">,
    Input<&ControlPlane::on_gpu_fault, "on_gpu_fault">,
    Input<&ControlPlane::on_gpu_inventory, "on_gpu_inventory">,
    Input<&ControlPlane::on_checkpoint, "on_checkpoint">,
    Input<&ControlPlane::on_checkpoint_checked, "on_checkpoint_checked">,
    Input<&ControlPlane::on_checkpoint_deleted, "on_checkpoint_deleted">,
    Input<&ControlPlane::on_progress, "on_progress">, Input<&ControlPlane::on_rank_report, "on_rank_report">,
    Input<&ControlPlane::on_node_health, "on_node_health">,
    Input<&ControlPlane::on_clock_skew, "on_clock_skew">,
    Input<&ControlPlane::on_inspection, "on_inspection">,
    Input<&ControlPlane::on_peer_silence, "on_peer_silence">,
    Input<&ControlPlane::on_collective_result, "on_collective_result">,
    Input<&ControlPlane::on_tick, "on_tick">, Input<&ControlPlane::plan, "plan">>;
inline constexpr std::size_t kPlaneInputs = std::tuple_size_v<PlaneInputs>;

// What a method takes besides the time, as values.
template <class Method>
struct InputArguments;
template <class R, class... A>
struct InputArguments<R (ControlPlane::*)(Now, A...)> {
  using Types = std::tuple<std::remove_cvref_t<A>...>;
};
template <auto Method>
using arguments_of = typename InputArguments<decltype(Method)>::Types;

template <auto Method>
consteval std::size_t number_of_input() {
  std::size_t at = 0, found = kPlaneInputs;
  const auto look = [&]<class I>(std::type_identity<I>) {
    if constexpr (std::is_same_v<decltype(I::kMethod), const decltype(Method)>)
      if (I::kMethod == Method) found = at;
    ++at;
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (look(std::type_identity<std::tuple_element_t<I, PlaneInputs>>{}), ...);
  }(std::make_index_sequence<kPlaneInputs>{});
  return found;
}

// Held by a method of the table while it decides: what it calls itself follows from what it was called with.
class ControlPlane::Deciding {
 public:
  explicit Deciding(int& depth) : depth_(depth) { ++depth_; }
  ~Deciding() { --depth_; }
  Deciding(const Deciding&) = delete;
  Deciding& operator=(const Deciding&) = delete;

 private:
  int& depth_;
};

template <auto Method, class... A>
ControlPlane::Deciding ControlPlane::note(Now now, const A&... arguments) {
  static_assert(std::is_same_v<arguments_of<Method>, std::tuple<A...>>, "tell it all that the method takes");
  static_assert(number_of_input<Method>() < kPlaneInputs, "a method that changes something is in the table");
  if (witness_ != nullptr && deciding_ == 0) {
    const std::array<const void*, sizeof...(A) + 1> where{static_cast<const void*>(&arguments)..., nullptr};
    witness_->called(number_of_input<Method>(), now, where.data());
  }
  return Deciding(deciding_);
}

}  // namespace tutti
