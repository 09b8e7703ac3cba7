// How ranks without MPI learn the id of their NCCL communicator: rank 0 listens at MASTER_ADDR:MASTER_PORT
// and hands the same bytes to every other rank. Used once, before training, by one thread.
//
// Invariants: (1) nobody waits past the deadline; (2) rank 0 returns only after each of the other ranks has
// taken the bytes, once each; (3) strangers who connect (port scanners, ranks of another job) get nothing and
// end nothing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tutti::charlm {

struct Meeting {
  std::string address;
  std::uint16_t port = 0;
  int rank = 0;
  int size = 1;
  std::uint64_t gang = 0;  // the same for all ranks of one attempt, else they are strangers
  std::chrono::milliseconds patience{60'000};
};

// On rank 0 sends `bytes`, on the others fills it. Throws Failure{peer_lost} at the deadline, Failure{usage}
// if the address cannot be used.
void broadcast_from_rank_zero(const Meeting& meeting, std::span<std::byte> bytes);

}  // namespace tutti::charlm
