// A rank for supervisor_mpi_test: joins the others over MPI, says so in $SCRATCH, then ends or waits for
// ever.
#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, size = 0, sum = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const int mine = rank + 1;
  MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  std::printf("rank %d of %d, sum %d, RANK=%s LOCAL_RANK=%s NODE_RANK=%s\n", rank, size, sum,
              std::getenv("RANK"), std::getenv("LOCAL_RANK"), std::getenv("NODE_RANK"));
  std::fflush(stdout);
  if (argc > 1 && std::strcmp(argv[1], "stay") == 0) {
    const std::string path = std::string(std::getenv("SCRATCH")) + "/joined";
    if (FILE* file = std::fopen(path.c_str(), "w")) {
      std::fprintf(file, "joined\n");
      std::fclose(file);
    }
    if (rank == 0) MPI_Recv(nullptr, 0, MPI_INT, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);  // never comes
    if (rank == 1) MPI_Recv(nullptr, 0, MPI_INT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  MPI_Finalize();
  return 0;
}
