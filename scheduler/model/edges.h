// A state machine is one table of edges. This header knows how to look things up in such a table and
// how to prove, at compile time, that the table makes sense. The tables are in states.h.
#pragma once

#include <array>
#include <cstddef>
#include <optional>

namespace tutti {

template <class State, class Event>
struct Edge {
  State from;
  Event on;
  State to;
};

// The state that `on` leads to, or nothing: then the event is illegal in that state.
template <class State, class Event, std::size_t N>
constexpr std::optional<State> next(const std::array<Edge<State, Event>, N>& table, State from, Event on) {
  for (const auto& e : table)
    if (e.from == from && e.on == on) return e.to;
  return std::nullopt;
}

namespace edges {

template <class State, class Event, std::size_t N>
constexpr bool deterministic(const std::array<Edge<State, Event>, N>& table) {
  for (std::size_t i = 0; i < N; ++i)
    for (std::size_t j = i + 1; j < N; ++j)
      if (table[i].from == table[j].from && table[i].on == table[j].on) return false;
  return true;
}

template <class State, class Event, std::size_t N, std::size_t T>
constexpr bool terminal_have_no_exit(const std::array<Edge<State, Event>, N>& table,
                                     const std::array<State, T>& terminal) {
  for (const auto& e : table)
    for (auto t : terminal)
      if (e.from == t) return false;
  return true;
}

template <class State, std::size_t S>
constexpr bool contains(const std::array<State, S>& set, State s) {
  for (auto x : set)
    if (x == s) return true;
  return false;
}

// Every state can be reached from one of `initial`.
template <class State, class Event, std::size_t N, std::size_t A, std::size_t I>
constexpr bool all_reachable(const std::array<Edge<State, Event>, N>& table, const std::array<State, A>& all,
                             const std::array<State, I>& initial) {
  std::array<bool, A> seen{};
  for (std::size_t i = 0; i < A; ++i) seen[i] = contains(initial, all[i]);
  for (std::size_t round = 0; round < A; ++round)
    for (const auto& e : table)
      for (std::size_t i = 0; i < A; ++i)
        if (all[i] == e.from && seen[i])
          for (std::size_t j = 0; j < A; ++j)
            if (all[j] == e.to) seen[j] = true;
  for (bool s : seen)
    if (!s) return false;
  return true;
}

// From every state some terminal state can be reached.
template <class State, class Event, std::size_t N, std::size_t A, std::size_t T>
constexpr bool all_can_end(const std::array<Edge<State, Event>, N>& table, const std::array<State, A>& all,
                           const std::array<State, T>& terminal) {
  std::array<bool, A> ends{};
  for (std::size_t i = 0; i < A; ++i) ends[i] = contains(terminal, all[i]);
  for (std::size_t round = 0; round < A; ++round)
    for (const auto& e : table)
      for (std::size_t j = 0; j < A; ++j)
        if (all[j] == e.to && ends[j])
          for (std::size_t i = 0; i < A; ++i)
            if (all[i] == e.from) ends[i] = true;
  for (bool e : ends)
    if (!e) return false;
  return true;
}

}  // namespace edges
}  // namespace tutti
