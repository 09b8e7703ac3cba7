// charlm-nccl: the same trainer, its all-reduce done by NCCL on the GPUs. One process per GPU.
#include "training/charlm/run_main.h"

int main(int argc, char** argv) {
  return tutti::charlm::run_main(argc, argv,
                                 "charlm-nccl: a character-level language model, all-reduce by NCCL",
                                 [](int*, char***) { return tutti::charlm::make_nccl_collective(); });
}
