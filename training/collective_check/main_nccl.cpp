// tutti-collective-check-nccl: the sums are made by NCCL on the GPUs.
#include "training/collective_check/collective_check.h"

int main(int argc, char** argv) {
  return tutti::collective_check::run_check(
      argc, argv, [](int*, char***) { return tutti::charlm::make_nccl_collective(); });
}
