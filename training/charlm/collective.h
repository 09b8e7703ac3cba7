// What the training loop needs of the gang: who am I, and a sum over all ranks. Back ends: Open MPI
// (collective_mpi.cpp), NCCL (collective_nccl.cpp) and a single process (collective_solo.cpp).
// Used by one thread. Every rank makes the same calls in the same order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "training/charlm/exit_codes.h"

namespace tutti::charlm {

class Collective {
 public:
  Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;
  virtual ~Collective() = default;  // the orderly end: may wait for the other ranks

  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] virtual int local_rank() const = 0;

  // Replaces each value by its sum over all ranks. Integers, see fixed_point.h; also the barrier.
  virtual void sum(std::span<std::int64_t> values) = 0;

  // Ends every rank of the gang, for when this one cannot go on. Does not return.
  [[noreturn]] virtual void abort(Exit exit) = 0;
};

// Throws Failure{diverged} on at least one rank unless all ranks pass the same value: if the sum is `size`
// times my value for every rank, all values are equal.
void require_agreement(Collective& gang, std::uint64_t value, std::string_view what);

std::unique_ptr<Collective> make_solo_collective();
std::unique_ptr<Collective> make_mpi_collective(int* argc, char*** argv);
// Rank and size from RANK, WORLD_SIZE, LOCAL_RANK (or Open MPI's names for them); the id of the communicator
// goes over TCP at MASTER_ADDR:MASTER_PORT. Throws Failure{no_device} where there is no CUDA driver or
// device.
std::unique_ptr<Collective> make_nccl_collective();

}  // namespace tutti::charlm
