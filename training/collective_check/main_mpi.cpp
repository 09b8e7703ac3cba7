// tutti-collective-check: over Open MPI.
#include "training/collective_check/collective_check.h"

int main(int argc, char** argv) {
  return tutti::collective_check::run_check(argc, argv, tutti::charlm::make_mpi_collective);
}
