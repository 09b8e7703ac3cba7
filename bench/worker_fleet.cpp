// Load generator for the workers' side: N workers of G GPUs in one process, speaking the real protocol with a
// real scheduler (bench/fleet/fleet.h says what they live through, and what is printed).
//   worker_fleet --port P --token T [--host 127.0.0.1] [--workers 2000] [--gpus 8] [--seconds 30] [--run-ms
//   200]
//     [--storm 1] [--trouble 1] [--loads 1] [--window N --batch B] [--samples N] [--spec FILE] [--name fleet]
//     [--back-off-ms 100] [--join-seconds 120] [--report-every S]
#include "bench/fleet/fleet.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace tutti::bench {
namespace {

[[noreturn]] void usage(const std::string& what) {
  std::fprintf(stderr, "worker_fleet: %s\n", what.c_str());
  std::exit(2);
}

double number(const std::string& flag, const char* value) {
  char* end = nullptr;
  const double n = std::strtod(value, &end);
  if (end == value || *end != 0 || n < 0) usage(flag + " takes a number, not " + value);
  return n;
}

FleetSettings read_settings(int argc, char** argv) {
  FleetSettings s;
  s.workers = 2000;
  s.seconds = 30;
  s.worker.boot_id = "fleet-" + std::to_string(::getpid());
  for (int i = 1; i < argc; i += 2) {
    const std::string flag = argv[i];
    if (i + 1 == argc) usage(flag + " needs a value");
    const char* value = argv[i + 1];
    const auto whole = [&] { return static_cast<int>(number(flag, value)); };
    const auto ms = [&] { return std::chrono::milliseconds(whole()); };
    if (flag == "--host")
      s.worker.scheduler.host = value;
    else if (flag == "--port")
      s.worker.scheduler.port = static_cast<std::uint16_t>(whole());
    else if (flag == "--token")
      s.worker.scheduler.token = value;
    else if (flag == "--workers")
      s.workers = whole();
    else if (flag == "--gpus")
      s.worker.gpus = whole();
    else if (flag == "--seconds")
      s.seconds = number(flag, value);
    else if (flag == "--run-ms")
      s.worker.run = ms();
    else if (flag == "--back-off-ms")
      s.worker.back_off = ms();
    else if (flag == "--join-seconds")
      s.join_deadline = std::chrono::seconds(whole());
    else if (flag == "--storm")
      s.storm = whole() != 0;
    else if (flag == "--trouble")
      s.trouble = whole() != 0;
    else if (flag == "--loads")
      s.worker.loads = whole() != 0;
    else if (flag == "--window")
      s.window = whole();
    else if (flag == "--batch")
      s.batch = whole();
    else if (flag == "--samples")
      s.samples = whole();
    else if (flag == "--name")
      s.name = value;
    else if (flag == "--report-every")
      s.report_every = number(flag, value);
    else if (flag == "--spec") {
      std::ifstream in(value);
      if (!in) usage(std::string("cannot read ") + value);
      s.spec.assign(std::istreambuf_iterator<char>(in), {});
    } else {
      usage("unknown flag " + flag);
    }
  }
  if (s.workers < 1) usage("--workers must be at least 1");
  if (s.batch < 1 || s.batch > 1000) usage("--batch must be between 1 and 1000");
  if (s.window > 0 && s.window < s.batch) usage("--window must be at least --batch");
  return s;
}

// A socket per worker.
void raise_file_limit(int workers) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < static_cast<rlim_t>(workers) + 100)
    usage("only " + std::to_string(limit.rlim_max) +
          " files may be open here: raise ulimit -n, or lower --workers");
}

int run(int argc, char** argv) {
  FleetSettings settings = read_settings(argc, argv);
  raise_file_limit(settings.workers);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // somebody reads along
  boost::asio::io_context io(1);
  int status = 0;
  Fleet fleet(
      io, std::move(settings), [](const std::string& line) { std::printf("%s\n", line.c_str()); },
      [&](const std::string& trouble) {
        if (!trouble.empty()) {
          std::fprintf(stderr, "worker_fleet: %s\n", trouble.c_str());
          status = 1;
        }
        io.stop();
      });
  fleet.start();
  io.run();
  return status;
}

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) { return tutti::bench::run(argc, argv); }
