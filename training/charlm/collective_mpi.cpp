// Open MPI back end. mpirun starts the ranks and wires them up. MPI_Allreduce has no deadline of its own: a
// rank that dies makes mpirun end the gang, a rank that freezes is found by the worker, which watches the
// progress files.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <cstdlib>

#include "training/charlm/collective.h"
#include "training/charlm/environment.h"

namespace tutti::charlm {

namespace {

class MpiCollective final : public Collective {
 public:
  MpiCollective(int* argc, char*** argv) {
    // Errors end the job (MPI_ERRORS_ARE_FATAL, the default): there is no gang to go on with.
    MPI_Init(argc, argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    local_rank_ = environment_int({"OMPI_COMM_WORLD_LOCAL_RANK"}).value_or(0);
  }
  MpiCollective(const MpiCollective&) = delete;
  MpiCollective& operator=(const MpiCollective&) = delete;
  ~MpiCollective() override { MPI_Finalize(); }

  [[nodiscard]] std::string_view name() const override { return "mpi"; }
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] int local_rank() const override { return local_rank_; }

  void sum(std::span<std::int64_t> values) override {
    MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_INT64_T, MPI_SUM,
                  MPI_COMM_WORLD);
  }

  [[noreturn]] void abort(Exit exit) override {
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(exit));
    std::_Exit(static_cast<int>(exit));
  }

 private:
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
};

}  // namespace

std::unique_ptr<Collective> make_mpi_collective(int* argc, char*** argv) {
  return std::make_unique<MpiCollective>(argc, argv);
}

}  // namespace tutti::charlm
