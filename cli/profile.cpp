#include "cli/profile.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "api/wire/yaml_tree.h"
#include "cli/failure.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxProfile = 256 << 10;
constexpr std::chrono::seconds kLockPatience(5);

struct Member {
  const char* key;
  std::string Context::* value;
};
constexpr Member kMembers[] = {
    {"server", &Context::server},         {"token", &Context::token}, {"token_id", &Context::token_id},
    {"token_file", &Context::token_file}, {"ca", &Context::ca},       {"user", &Context::user},
    {"project", &Context::project}};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

[[noreturn]] void wrong(const std::string& path, const std::string& what) {
  throw Failure(Exit::usage, path + ": " + what, "tutti context add writes such a file");
}

std::string text_at(const std::string& path, const json::value& value, const std::string& where) {
  if (value.is_null()) return {};
  if (value.is_int64()) return std::to_string(value.get_int64());  // a token_id written by hand
  if (!value.is_string()) wrong(path, "'" + where + "' must be text");
  return std::string(value.get_string());
}

Context read_context(const std::string& path, const std::string& name, const json::value& tree) {
  Context context{.name = name};
  const auto* object = tree.if_object();
  if (object == nullptr) wrong(path, "context '" + name + "' must be a map with server and token");
  for (const auto& member : *object) {
    const auto* known = std::find_if(std::begin(kMembers), std::end(kMembers),
                                     [&](const Member& m) { return member.key() == m.key; });
    if (known == std::end(kMembers))
      wrong(path, "context '" + name + "' has an unknown field '" + std::string(member.key()) + "'");
    context.*(known->value) = text_at(path, member.value(), "contexts." + name + "." + known->key);
  }
  if (context.server.empty()) wrong(path, "context '" + name + "' has no server");
  return context;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return {};
    throw Failure(Exit::usage, "cannot read " + path + ": " + std::strerror(errno));
  }
  std::string text(kMaxProfile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMaxProfile) wrong(path, "is larger than 256 KiB");
  return text;
}

std::string write_text(const Profile& profile) {
  const auto word = [](const std::string& text) { return json::serialize(json::string(text)); };
  std::string out = "{\n  \"current\": " + word(profile.current) + ",\n  \"contexts\": {";
  for (std::size_t i = 0; i < profile.contexts.size(); ++i) {
    const Context& context = profile.contexts[i];
    out += (i == 0 ? "\n    " : ",\n    ") + word(context.name) + ": {";
    bool first = true;
    for (const auto& [key, value] : kMembers) {
      if ((context.*value).empty()) continue;
      out += (first ? "\n      \"" : ",\n      \"") + std::string(key) + "\": " + word(context.*value);
      first = false;
    }
    out += "\n    }";
  }
  return out + (profile.contexts.empty() ? "}\n}\n" : "\n  }\n}\n");
}

void make_folder(const std::string& path) {
  std::error_code ec;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ec);
}

class Lock {
 public:
  explicit Lock(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    const auto until = std::chrono::steady_clock::now() + kLockPatience;
    while (fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK || std::chrono::steady_clock::now() >= until) {
        ::close(fd_);
        throw Failure(Exit::failed, "another tutti is writing the contexts; " + path + " stays locked");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (fd_ < 0) throw Failure(Exit::failed, "cannot write " + path + ": " + std::strerror(errno));
  }
  ~Lock() { ::close(fd_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  int fd_;
};

}  // namespace

const Context* Profile::find(const std::string& name) const {
  const auto at =
      std::find_if(contexts.begin(), contexts.end(), [&](const Context& c) { return c.name == name; });
  return at == contexts.end() ? nullptr : &*at;
}

Context& Profile::at(const std::string& name) {
  const auto at = std::lower_bound(contexts.begin(), contexts.end(), name,
                                   [](const Context& c, const std::string& n) { return c.name < n; });
  if (at != contexts.end() && at->name == name) return *at;
  return *contexts.insert(at, Context{.name = name});
}

bool Profile::remove(const std::string& name) {
  if (current == name) current.clear();
  return std::erase_if(contexts, [&](const Context& c) { return c.name == name; }) > 0;
}

std::string profile_path() {
  if (const std::string named = environment("TUTTI_CONFIG"); !named.empty()) return named;
  if (const std::string xdg = environment("XDG_CONFIG_HOME"); !xdg.empty()) return xdg + "/tutti/config.yaml";
  const std::string home = environment("HOME");
  return home.empty() ? std::string() : home + "/.config/tutti/config.yaml";
}

Profile load_profile(const std::string& path) {
  Profile profile;
  const std::string text = path.empty() ? std::string() : read_file(path);
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return profile;
  json::value tree;
  if (const auto error = wire::parse_strict_yaml(text, tree))
    wrong(path + ":" + std::to_string(error->line), error->message);
  if (!tree.is_object()) wrong(path, "must be a map with current and contexts");
  for (const auto& member : tree.get_object()) {
    if (member.key() == "current") {
      profile.current = text_at(path, member.value(), "current");
    } else if (member.key() == "contexts") {
      if (!member.value().is_object()) wrong(path, "'contexts' must be a map from names to servers");
      for (const auto& context : member.value().get_object()) {
        const std::string name(context.key());
        profile.at(name) = read_context(path, name, context.value());
      }
    } else {
      wrong(path, "unknown field '" + std::string(member.key()) + "'");
    }
  }
  return profile;
}

void change_profile(const std::string& path, const std::function<void(Profile&)>& change) {
  if (path.empty())
    throw Failure(Exit::usage, "HOME is not set", "TUTTI_CONFIG names the file to keep contexts in");
  make_folder(path);
  const Lock lock(path + ".lock");
  Profile profile = load_profile(path);
  change(profile);
  write_private(path, write_text(profile));
}

void check_context_name(const std::string& name) {
  const bool plain = !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) > 0x20 && c != '/' && c != 0x7f;
  });
  if (!plain)
    throw Failure(Exit::usage, "'" + name + "' is not the name of a context",
                  "up to 128 letters, without spaces and /");
}

void write_private(const std::string& path, const std::string& text) {
  const auto fail = [&](const std::string& what) {
    throw Failure(Exit::failed, "cannot write " + what + ": " + std::strerror(errno));
  };
  make_folder(path);
  std::string fresh = path + ".XXXXXX";
  const int fd = ::mkostemp(fresh.data(), O_CLOEXEC);  // mode 0600
  if (fd < 0) fail(path);
  const bool written =
      ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  if (::close(fd) != 0 || !written || ::rename(fresh.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(fresh.c_str());
    errno = error;
    fail(path);
  }
}

}  // namespace tutti::cli
