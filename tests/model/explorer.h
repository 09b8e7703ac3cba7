// All interleavings to a bound, in the order of their length: the first state that breaks an invariant has a
// shortest way to it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/model/model_state.h"

namespace tutti::model {

struct Report {
  std::uint64_t states = 0, transitions = 0, depth = 0;
  std::uint64_t asked_to_run = 0;  // states from which the job was made to run
  bool complete = false;           // everything within the bounds has been seen
  std::string broken;              // which invariant; "": none
  std::vector<std::string> trace;  // how
};

struct Search {
  Bounds bounds{};
  Mutation mutation = Mutation::none;
  std::uint64_t most_states = 3'000'000;
  std::uint64_t ask_every = 16;  // one state in so many is asked whether the job comes to run; 0: none
};

Report explore(const Search& search);

}  // namespace tutti::model
