// main() of both executables; they differ in the back ends they offer.
#pragma once

#include <functional>
#include <memory>

#include "training/charlm/collective.h"

namespace tutti::charlm {

using MakeCollective = std::function<std::unique_ptr<Collective>(int* argc, char*** argv)>;

// Parses the command line, makes the collective (`--solo`: the one-process back end instead), trains, and
// turns every Failure into a message and a status for the whole gang.
int run_main(int argc, char** argv, const char* description, const MakeCollective& make_collective);

}  // namespace tutti::charlm
