// Where things of `tutti up` are: programs, the driver double, and the files below the data directory. Used
// by up.cpp.
//
// clang-format off
//   DIR/token endpoint secret postgres/   made by the scheduler
//   DIR/context.json                      server and token, for people (TUTTI_CONTEXT) and tests; once all nodes
//                                         are connected
//   DIR/logs/scheduler.log, n1.log, …     what they print
//   DIR/nodes/n1/gpu                      the simulated machine of n1 (tutti-gpu-sim)
//   DIR/nodes/n1/state                    the worker's own
//   DIR/up.lock                           held while a `tutti up` runs here
// clang-format on
#pragma once

#include <string>

namespace tutti::cli {

struct UpPrograms {
  std::string scheduler, worker, gpu_sim, nvml_library;
  std::string console;  // directory of the web console's files; "" = not built
};
// `libexec` empty: beside this program, else ../libexec/tutti. Throws Failure{usage} and names what is
// missing.
UpPrograms find_programs(const std::string& libexec, const std::string& nvml_library, bool workers);

class UpFiles {
 public:
  // Makes the directories and takes the lock. Throws Failure when another `tutti up` holds it.
  explicit UpFiles(const std::string& data);
  ~UpFiles();
  UpFiles(const UpFiles&) = delete;
  UpFiles& operator=(const UpFiles&) = delete;

  const std::string& data() const { return data_; }
  std::string token() const { return data_ + "/token"; }
  std::string endpoint() const { return data_ + "/endpoint"; }
  std::string context() const { return data_ + "/context.json"; }
  // A log that has grown past 16 MiB is set aside as NAME.log.1.
  std::string log(const std::string& name) const;
  std::string node(const std::string& name) const { return data_ + "/nodes/" + name; }

 private:
  std::string data_;
  int lock_ = -1;
};

// First line of a file; "" when there is none.
std::string read_line(const std::string& path);
// The last lines of a file, at most `bytes` of it.
std::string read_end(const std::string& path, std::size_t bytes);
void write_line(const std::string& path, const std::string& line);

}  // namespace tutti::cli
