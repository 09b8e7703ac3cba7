#include "cli/up_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "cli/failure.h"

namespace tutti::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxLog = 16 << 20;

void make_directory(const std::string& path) {
  std::error_code ec;
  fs::create_directories(path, ec);
  if (ec) throw Failure(Exit::failed, "cannot make " + path + ": " + ec.message());
}

bool executable(const std::string& path) {
  return access(path.c_str(), X_OK) == 0 && !fs::is_directory(path);
}

}  // namespace

UpPrograms find_programs(const std::string& libexec, const std::string& nvml_library, bool workers) {
  std::error_code ec;
  const fs::path own = fs::read_symlink("/proc/self/exe", ec).parent_path();
  fs::path folder = libexec.empty() ? own : fs::absolute(libexec);
  if (libexec.empty() && !executable(own / "tutti-scheduler")) folder = own / "../libexec/tutti";
  const auto program = [&](const char* name) {
    const std::string path = (folder / name).lexically_normal().string();
    if (!executable(path))
      throw Failure(Exit::usage, "there is no program " + path, "--libexec names their directory");
    return path;
  };
  UpPrograms programs;
  programs.scheduler = program("tutti-scheduler");
  std::vector<const char*> places{"../share/tutti/console", "../../share/tutti/console"};
  if (fs::exists(folder / "../CMakeCache.txt", ec)) places.push_back("../../../console/dist");
  for (const char* place : places)
    if (const fs::path files = (folder / place).lexically_normal(); fs::exists(files / "index.html", ec)) {
      programs.console = files.string();
      break;
    }
  if (!workers) return programs;
  programs.worker = program("tutti-worker");
  programs.gpu_sim = program("tutti-gpu-sim");
  if (!nvml_library.empty()) {
    programs.nvml_library = fs::absolute(nvml_library).string();
  } else {
    for (const char* place :
         {"../lib/nvml-double", "nvml-double", "../lib/tutti/nvml-double", "../../lib/tutti/nvml-double"})
      if (const fs::path file = folder / place / "libnvidia-ml.so.1"; fs::exists(file, ec)) {
        programs.nvml_library = file.lexically_normal().string();
        break;
      }
  }
  if (programs.nvml_library.empty() || !fs::exists(programs.nvml_library, ec))
    throw Failure(Exit::usage,
                  "the double of libnvidia-ml.so.1 is not where it should be, near " + folder.string(),
                  "--nvml-library FILE names it");
  return programs;
}

UpFiles::UpFiles(const std::string& data) {
  make_directory(data);
  data_ = fs::canonical(data).string();
  make_directory(data_ + "/logs");
  make_directory(data_ + "/nodes");
  const std::string path = data_ + "/up.lock";
  lock_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) throw Failure(Exit::failed, "cannot open " + path + ": " + std::strerror(errno));
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    close(lock_);
    throw Failure(Exit::failed, "another `tutti up` runs in " + data_,
                  "--data DIR gives this one a place of its own");
  }
}

UpFiles::~UpFiles() { close(lock_); }

std::string UpFiles::log(const std::string& name) const {
  std::string path = data_ + "/logs/" + name + ".log";
  std::error_code ec;
  if (const auto size = fs::file_size(path, ec); !ec && size > kMaxLog) fs::rename(path, path + ".1", ec);
  return path;
}

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string read_end(const std::string& path, std::size_t bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const auto size = static_cast<std::size_t>(file.tellg());
  const std::size_t from = size > bytes ? size - bytes : 0;
  file.seekg(static_cast<std::streamoff>(from));
  std::string text(size - from, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (from > 0) text.erase(0, text.find('\n') + 1);
  return text;
}

void write_line(const std::string& path, const std::string& line) {
  std::ofstream file(path, std::ios::trunc);
  file << line << "\n";
  file.close();
  if (!file) throw Failure(Exit::failed, "cannot write " + path);
}

}  // namespace tutti::cli
