// A folder under /tmp that goes with its test. Shared by the tests of images and sandboxes.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace tutti::container {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/tutti-container-XXXXXX";
    if (mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& leaf) const { return path_ + "/" + leaf; }
  const std::string& path() const { return path_; }
  void write(const std::string& leaf, const std::string& text) const {
    fs::create_directories(fs::path(path_ + "/" + leaf).parent_path());
    std::ofstream(path_ + "/" + leaf) << text;
  }

 private:
  std::string path_;
};

}  // namespace tutti::container
