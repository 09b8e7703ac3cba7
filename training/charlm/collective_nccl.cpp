// NCCL back end: the buffer goes to the GPU, ncclAllReduce sums it there, and it comes back. The model itself
// runs on the CPU: what is exercised is the launch, the rendezvous, the communicator and its failures, not
// the kernels.
//
// Every wait has a deadline: NCCL blocks for ever on a dead peer, so the stream is polled together with
// ncclCommGetAsyncError and the communicator is aborted.
#include <cuda_runtime.h>
#include <nccl.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "training/charlm/collective.h"
#include "training/charlm/environment.h"
#include "training/charlm/fingerprint.h"
#include "training/charlm/rendezvous.h"

namespace tutti::charlm {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kDeadline{120};

void check_cuda(cudaError_t status, const char* doing, Exit exit = Exit::peer_lost) {
  if (status == cudaSuccess) return;
  throw Failure(exit, std::string(doing) + ": " + cudaGetErrorString(status) + " (CUDA error " +
                          std::to_string(static_cast<int>(status)) + ")");
}

void check_nccl(ncclResult_t status, const char* doing, ncclComm_t comm = nullptr) {
  if (status == ncclSuccess || status == ncclInProgress) return;
  throw Failure(Exit::peer_lost,
                std::string(doing) + ": " + ncclGetErrorString(status) + ": " + ncclGetLastError(comm));
}

// LOCAL_RANK chooses among the visible devices; where the launcher shows each rank one device only, that one.
int choose_device(int local_rank) {
  int devices = 0;
  // Asked before anything of NCCL: without a driver this is the call that says so plainly.
  check_cuda(cudaGetDeviceCount(&devices), "no usable CUDA driver", Exit::no_device);
  if (devices == 0) throw Failure(Exit::no_device, "the CUDA driver shows no device");
  if (devices > 1 && local_rank >= devices) {
    throw Failure(Exit::no_device, "LOCAL_RANK " + std::to_string(local_rank) + " but only " +
                                       std::to_string(devices) + " devices are visible");
  }
  return devices == 1 ? 0 : local_rank;
}

Meeting meeting_from_environment(int rank, int size) {
  Meeting meeting;
  meeting.rank = rank;
  meeting.size = size;
  meeting.address = environment_text("MASTER_ADDR");
  meeting.port = static_cast<std::uint16_t>(environment_int({"MASTER_PORT"}).value_or(0));
  if (size > 1 && (meeting.address.empty() || meeting.port == 0)) {
    throw Failure(Exit::usage, "WORLD_SIZE is " + std::to_string(size) +
                                   " but MASTER_ADDR and MASTER_PORT do not say where to meet");
  }
  const std::string attempt = environment_text("TUTTI_JOB_ID") + "/" + environment_text("TUTTI_EPOCH");
  meeting.gang = Fingerprint{}.add(std::as_bytes(std::span(attempt))).value();
  return meeting;
}

class NcclCollective final : public Collective {
 public:
  NcclCollective()
      : rank_(environment_int({"RANK", "OMPI_COMM_WORLD_RANK"}).value_or(0)),
        size_(environment_int({"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"}).value_or(1)),
        local_rank_(environment_int({"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"}).value_or(0)) {
    if (rank_ < 0 || size_ < 1 || rank_ >= size_) throw Failure(Exit::usage, "RANK is not below WORLD_SIZE");
    check_cuda(cudaSetDevice(choose_device(local_rank_)), "cudaSetDevice", Exit::no_device);
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate",
               Exit::no_device);

    ncclUniqueId id{};
    if (rank_ == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    const Meeting meeting = meeting_from_environment(rank_, size_);
    broadcast_from_rank_zero(meeting, std::as_writable_bytes(std::span(&id, 1)));

    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check_nccl(ncclCommInitRankConfig(&comm_, size_, id, rank_, &config), "ncclCommInitRank");
    wait_for_comm("ncclCommInitRank");
  }
  NcclCollective(const NcclCollective&) = delete;
  NcclCollective& operator=(const NcclCollective&) = delete;
  ~NcclCollective() override {
    if (ncclCommFinalize(comm_) == ncclInProgress) {
      try {
        wait_for_comm("ncclCommFinalize");
      } catch (const Failure&) {
        ncclCommAbort(comm_);
        return;  // the process ends next; freeing on a broken context could block
      }
    }
    ncclCommDestroy(comm_);
    cudaFree(device_);
    cudaFreeHost(host_);
    cudaStreamDestroy(stream_);
  }

  [[nodiscard]] std::string_view name() const override { return "nccl"; }
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] int local_rank() const override { return local_rank_; }

  void sum(std::span<std::int64_t> values) override {
    reserve(values.size());
    std::copy(values.begin(), values.end(), host_);
    check_cuda(cudaMemcpyAsync(device_, host_, values.size_bytes(), cudaMemcpyHostToDevice, stream_),
               "copy to GPU");
    check_nccl(ncclAllReduce(device_, device_, values.size(), ncclInt64, ncclSum, comm_, stream_),
               "ncclAllReduce", comm_);
    wait_for_comm("ncclAllReduce");
    check_cuda(cudaMemcpyAsync(host_, device_, values.size_bytes(), cudaMemcpyDeviceToHost, stream_),
               "copy from GPU");
    wait_for_stream();
    std::copy(host_, host_ + values.size(), values.begin());
  }

  // The other ranks see the connections break and abort on their own.
  [[noreturn]] void abort(Exit exit) override {
    ncclCommAbort(comm_);
    std::_Exit(static_cast<int>(exit));
  }

 private:
  void reserve(std::size_t count) {
    if (count <= capacity_) return;
    cudaFree(device_);
    cudaFreeHost(host_);
    capacity_ = 0;
    check_cuda(cudaMalloc(reinterpret_cast<void**>(&device_), count * sizeof(std::int64_t)), "cudaMalloc");
    check_cuda(cudaMallocHost(reinterpret_cast<void**>(&host_), count * sizeof(std::int64_t)),
               "cudaMallocHost");
    capacity_ = count;
  }

  // A communicator made with blocking=0 answers ncclInProgress until the work is under way.
  void wait_for_comm(const char* doing) {
    poll(doing, [this, doing] {
      ncclResult_t state = ncclSuccess;
      check_nccl(ncclCommGetAsyncError(comm_, &state), doing, comm_);
      check_nccl(state, doing, comm_);
      return state == ncclSuccess;
    });
  }

  void wait_for_stream() {
    poll("ncclAllReduce", [this] {
      ncclResult_t state = ncclSuccess;
      check_nccl(ncclCommGetAsyncError(comm_, &state), "ncclAllReduce", comm_);
      check_nccl(state, "ncclAllReduce", comm_);
      const cudaError_t done = cudaStreamQuery(stream_);
      if (done != cudaErrorNotReady) check_cuda(done, "ncclAllReduce");
      return done == cudaSuccess;
    });
  }

  // Two sources must be watched, a CUDA stream and NCCL's error state, and neither is a file descriptor:
  // hence a poll.
  template <typename Done>
  void poll(const char* doing, Done done) {
    const auto deadline = Clock::now() + kDeadline;
    while (!done()) {
      if (Clock::now() > deadline) {
        throw Failure(Exit::peer_lost, std::string(doing) + ": no answer from the other ranks in 120 s");
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  int rank_;
  int size_;
  int local_rank_;
  cudaStream_t stream_ = nullptr;
  ncclComm_t comm_ = nullptr;
  std::int64_t* device_ = nullptr;
  std::int64_t* host_ = nullptr;  // pinned, so that the copies are asynchronous
  std::size_t capacity_ = 0;
};

}  // namespace

std::unique_ptr<Collective> make_nccl_collective() { return std::make_unique<NcclCollective>(); }

}  // namespace tutti::charlm
