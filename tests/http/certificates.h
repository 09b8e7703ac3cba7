// Certificates made for a test: an authority and what it signs, as PEM files in a folder of the test's own.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace tutti::http::test {

/// A folder that goes with its owner.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string path(const std::string& name) const { return (path_ / name).string(); }
  void write(const std::string& name, const std::string& text) const;

 private:
  std::filesystem::path path_;
};

struct Pem {
  std::string certificate, key;
};

struct Subject {
  std::string common_name;
  std::vector<std::string> dns = {};
  std::vector<std::string> ip = {};
  int days = 1;  // from yesterday on: 0 is expired
};

class Authority {
 public:
  explicit Authority(const std::string& name);
  ~Authority();
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;
  const std::string& certificate() const { return pem_; }
  Pem issue(const Subject& subject) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
  std::string pem_;
};

}  // namespace tutti::http::test
