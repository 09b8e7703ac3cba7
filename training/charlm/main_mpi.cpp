// charlm: the trainer over Open MPI. `mpirun -np N charlm …`, or `charlm --solo …`.
#include "training/charlm/run_main.h"

int main(int argc, char** argv) {
  return tutti::charlm::run_main(argc, argv,
                                 "charlm: a character-level language model, data-parallel over Open MPI",
                                 tutti::charlm::make_mpi_collective);
}
