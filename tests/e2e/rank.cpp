// e2e_rank: what the ranks of end-to-end tests run. Does steps, keeps the checkpoint and stop contract, can
// be told to misbehave, and leaves proof of when it ran: $E2E_STAMPS/JOB-EPOCH-RANK holds two int64, the
// CLOCK_BOOTTIME µs of its start and of its last sign of life. The page is mapped, so what it said last
// survives SIGKILL.
//
//   --steps N          0 = for ever (default)
//   --step-ms M        a step takes so long (default 5)
//   --every K          a checkpoint each K steps (rank 0 writes it, if there is a CHECKPOINT_DIR)
//   --say              a line per step
//   --ignore-term      SIGTERM does nothing
//   --tell K           progress each K steps (default 20)
//   --lockstep DIR     no rank makes a step before all have made the one before, as in a collective: they see
//                      each other in DIR/ATTEMPT
//   --crash STEP:CODE  in attempt 1, rank 0 exits with CODE at that step
//   --crash-each STEP:CODE  in every attempt it does
//   --usr1 CODE        SIGUSR1 ends it with CODE
//   --usr2 spin|slow   from SIGUSR2 on it computes for ever and makes no step, or takes thrice as long for
//   each
//
// With E2E_GPU_LOCKS it holds a lock of its own on the GPU of its local rank as long as it lives. One that is
// taken is a GPU with two ranks on it: that is written to $E2E_GPU_LOCKS/doubles.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

namespace {

constexpr int kRestartMe = 85;
volatile sig_atomic_t stop_wanted = 0, usr2_came = 0;

struct Options {
  long long steps = 0, step_ms = 5, every = 0, tell = 20, crash_at = -1;
  std::string lockstep, usr2;
  int crash_code = 1;
  int usr1_code = 0;
  bool say = false, ignore_term = false, crash_each = false;
};
int exit_on_usr1 = 0;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::string next = i + 1 < argc ? argv[i + 1] : "";
    if (word == "--say") {
      o.say = true;
    } else if (word == "--ignore-term") {
      o.ignore_term = true;
    } else if (word == "--steps" || word == "--step-ms" || word == "--every") {
      (word == "--steps" ? o.steps : word == "--step-ms" ? o.step_ms : o.every) = std::atoll(next.c_str());
      ++i;
    } else if (word == "--tell") {
      o.tell = std::max(1LL, std::atoll(next.c_str()));
      ++i;
    } else if (word == "--lockstep") {
      o.lockstep = next;
      ++i;
    } else if (word == "--usr1") {
      o.usr1_code = std::atoi(next.c_str());
      ++i;
    } else if (word == "--usr2") {
      o.usr2 = next;
      ++i;
    } else if (word == "--crash" || word == "--crash-each") {
      o.crash_each = word == "--crash-each";
      if (std::sscanf(next.c_str(), "%lld:%d", &o.crash_at, &o.crash_code) != 2) std::exit(64);
      ++i;
    } else {
      std::fprintf(stderr, "e2e_rank: unknown option %s\n", word.c_str());
      std::exit(64);
    }
  }
  return o;
}

std::int64_t boot_us() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1'000'000LL + t.tv_nsec / 1000;
}

class Stamp {
 public:
  Stamp() {
    const std::string dir = variable("E2E_STAMPS");
    if (dir.empty()) return;
    const std::string path = dir + "/" + variable("TUTTI_ATTEMPT_KEY") + "-" + variable("RANK");
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, 2 * sizeof(std::int64_t)) != 0) std::exit(74);
    void* at = mmap(nullptr, 2 * sizeof(std::int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) std::exit(74);
    close(fd);
    page_ = static_cast<std::int64_t*>(at);
    page_[0] = page_[1] = boot_us();
  }
  void alive() {
    if (page_ != nullptr) __atomic_store_n(&page_[1], boot_us(), __ATOMIC_RELEASE);
  }

 private:
  std::int64_t* page_ = nullptr;
};

// Steps of all ranks of the attempt, one int64 each.
class Lockstep {
 public:
  explicit Lockstep(const std::string& dir) {
    if (dir.empty()) return;
    world_ = std::atoi(variable("WORLD_SIZE").c_str());
    rank_ = std::atoi(variable("RANK").c_str());
    const int fd =
        open((dir + "/" + variable("TUTTI_ATTEMPT_KEY")).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    const auto size = static_cast<std::size_t>(world_) * sizeof(std::int64_t);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(size)) != 0) std::exit(74);
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) std::exit(74);
    close(fd);
    steps_ = static_cast<std::int64_t*>(at);
  }
  void made(long long step, Stamp& stamp) {
    if (steps_ == nullptr) return;
    __atomic_store_n(&steps_[rank_], step, __ATOMIC_RELEASE);
    for (int r = 0; r < world_; ++r)
      while (stop_wanted == 0 && __atomic_load_n(&steps_[r], __ATOMIC_ACQUIRE) < step) {
        const timespec t{0, 2'000'000L};
        nanosleep(&t, nullptr);
        stamp.alive();
      }
  }

 private:
  int world_ = 0, rank_ = 0;
  std::int64_t* steps_ = nullptr;
};

// Held until the process ends, and never inherited.
void lock_gpu() {
  const std::string dir = variable("E2E_GPU_LOCKS"), devices = variable("TUTTI_SIM_DEVICES");
  if (dir.empty() || devices.empty() || variable("LOCAL_RANK").empty()) return;
  std::size_t at = 0;
  for (int i = std::atoi(variable("LOCAL_RANK").c_str()); i > 0; --i) {
    at = devices.find(',', at);
    if (at == devices.npos) return;  // more ranks than GPUs
    ++at;
  }
  std::string name = devices.substr(at, devices.find(',', at) - at);
  for (char& c : name)
    if (c == '/') c = '_';
  const int fd = open((dir + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) std::exit(74);
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return;
  const int doubles = open((dir + "/doubles").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  const std::string line = variable("TUTTI_ATTEMPT_KEY") + " found " + name + " taken\n";
  if (write(doubles, line.data(), line.size()) < 0) std::exit(74);
  std::exit(70);
}

struct State {
  long long step = 0;
  std::uint64_t sum = 0xcbf29ce484222325ULL;
  void advance() {
    ++step;
    sum = (sum ^ static_cast<std::uint64_t>(step)) * 0x100000001b3ULL;
  }
};

// What is told about progress may fail (a full disk); a checkpoint may not.
void replace(const std::string& path, const std::string& text, bool durable) {
  const std::string next = path + ".next";
  const int fd = open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      (durable && fsync(fd) != 0) || close(fd) != 0 || rename(next.c_str(), path.c_str()) != 0) {
    std::perror(path.c_str());
    if (durable) std::exit(74);
  }
}

void save(const State& state) {
  const std::string dir = variable("CHECKPOINT_DIR") + "/step-" + std::to_string(state.step);
  mkdir(variable("CHECKPOINT_DIR").c_str(), 0755);
  mkdir(dir.c_str(), 0755);
  const std::string text = std::to_string(state.step) + " " + std::to_string(state.sum) + "\n";
  replace(dir + "/state", text, true);
  replace(dir + "/COMPLETE.json",
          "{\"step\":" + std::to_string(state.step) + ",\"time\":" + std::to_string(::time(nullptr)) +
              ",\"shards\":[{\"file\":\"state\",\"bytes\":" + std::to_string(text.size()) +
              "}],\"bytes\":" + std::to_string(text.size()) + ",\"epoch\":" + variable("TUTTI_EPOCH") + "}\n",
          true);
}

State resume() {
  State state;
  const std::string from = variable("RESUME_CHECKPOINT");
  if (from.empty()) return state;
  std::ifstream in(from + "/state");
  if (!(in >> state.step >> state.sum)) std::exit(65);
  std::printf("resumed at step %lld\n", state.step);
  return state;
}

void pace(long long ms, Stamp& stamp) {
  constexpr long kSlice = 5;
  while (ms > 0 && stop_wanted == 0) {
    const long now = static_cast<long>(ms < kSlice ? ms : kSlice);
    const timespec t{0, now * 1'000'000L};
    nanosleep(&t, nullptr);
    stamp.alive();
    ms -= now;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options o = parse(argc, argv);
  if (variable("CHECKPOINT_DIR").empty()) o.every = 0;
  if (o.ignore_term)
    signal(SIGTERM, SIG_IGN);
  else if (!variable("CHECKPOINT_DIR").empty())
    signal(SIGTERM, [](int) { stop_wanted = 1; });
  exit_on_usr1 = o.usr1_code;
  if (exit_on_usr1 != 0) signal(SIGUSR1, [](int) { _exit(exit_on_usr1); });
  if (!o.usr2.empty()) signal(SIGUSR2, [](int) { usr2_came = 1; });
  lock_gpu();
  Stamp stamp;  // whoever sees it may send signals now
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const bool first = variable("RANK") == "0";
  State state = resume();
  Lockstep gang(o.lockstep);
  const std::string progress = variable("TUTTI_PROGRESS_FILE");
  while (o.steps == 0 || state.step < o.steps) {
    const auto begun = boot_us();
    pace(usr2_came != 0 && o.usr2 == "slow" ? 3 * o.step_ms : o.step_ms, stamp);
    const auto own_us = boot_us() - begun;
    gang.made(state.step + 1, stamp);
    if (stop_wanted != 0) {
      if (first) save(state);
      return kRestartMe;
    }
    // After the others have its part of the step, so that they are ahead of it.
    while (usr2_came != 0 && o.usr2 == "spin") stamp.alive();
    state.advance();
    stamp.alive();
    if (o.say) std::printf("step %lld\n", state.step);
    if (first && (o.crash_each || variable("TUTTI_ATTEMPT") == "1") && state.step == o.crash_at)
      return o.crash_code;
    if (first && o.every > 0 && state.step % o.every == 0) save(state);
    if (!progress.empty() && state.step % o.tell == 0)
      replace(progress,
              "{\"step\":" + std::to_string(state.step) + ",\"total\":" + std::to_string(o.steps) +
                  (o.usr2 == "slow" ? ",\"compute_s\":" + std::to_string(static_cast<double>(own_us) / 1e6)
                                    : "") +
                  "}\n",
              false);
  }
  std::printf("final %lld %llu\n", state.step, static_cast<unsigned long long>(state.sum));
  return 0;
}
