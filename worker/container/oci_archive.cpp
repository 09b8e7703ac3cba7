#include "worker/container/oci_archive.h"

#include <boost/json.hpp>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "worker/container/run_tool.h"
#include "worker/supervisor/files.h"

namespace tutti::container {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::size_t kMaxJson = 4 << 20;
constexpr std::string_view kWhiteout = ".wh.", kOpaque = ".wh..wh..opq";

json::value read_json(const std::string& path) {
  const auto text = supervisor::read_file(path, kMaxJson);
  if (!text) throw std::runtime_error("the image has no " + path);
  return json::parse(*text);
}

// "sha256:abc" → blobs/sha256/abc. A digest is a name of ours from then on: no slashes.
std::string blob(const std::string& layout, const json::value& descriptor) {
  const std::string digest(descriptor.at("digest").as_string());
  const auto colon = digest.find(':');
  if (colon == std::string::npos || digest.find('/') != std::string::npos)
    throw std::runtime_error("the image has a digest that is none: " + digest);
  return layout + "/blobs/" + digest.substr(0, colon) + "/" + digest.substr(colon + 1);
}

struct Layers {
  std::string config;
  std::vector<std::string> files;
};

// An index may name another index (one per platform): the first image of ours is taken.
Layers layers_of_layout(const std::string& layout) {
#if defined(__aarch64__)
  constexpr std::string_view kMachine = "arm64";
#else
  constexpr std::string_view kMachine = "amd64";
#endif
  auto at = read_json(layout + "/index.json");
  for (int depth = 0; depth < 3 && at.as_object().contains("manifests"); ++depth) {
    const json::value* chosen = nullptr;
    for (const auto& m : at.at("manifests").as_array()) {
      const auto* platform = m.as_object().if_contains("platform");
      const bool ours = platform == nullptr || platform->at("architecture").as_string() == kMachine;
      if (ours && chosen == nullptr) chosen = &m;
    }
    if (chosen == nullptr) throw std::runtime_error("the image is not for " + std::string(kMachine));
    json::value next = read_json(blob(layout, *chosen));
    at = std::move(next);
  }
  Layers out{blob(layout, at.at("config")), {}};
  for (const auto& layer : at.at("layers").as_array()) out.files.push_back(blob(layout, layer));
  return out;
}

Layers layers_of_docker(const std::string& folder) {
  const auto all = read_json(folder + "/manifest.json");
  const auto& first = all.as_array().at(0);
  const auto inside = [&](const json::value& name) {
    const std::string text(name.as_string());
    if (text.starts_with('/') || text.find("..") != std::string::npos)
      throw std::runtime_error("the image names a file outside itself: " + text);
    return folder + "/" + text;
  };
  Layers out{inside(first.at("Config")), {}};
  for (const auto& layer : first.at("Layers").as_array()) out.files.push_back(inside(layer));
  return out;
}

// What a layer removes or replaces must lie in the root, whatever links an earlier layer has made: the real
// folder of it, or none.
std::optional<fs::path> folder_inside(const fs::path& root, const fs::path& folder) {
  std::error_code ec;
  const auto real = fs::canonical(root / folder, ec);
  if (ec) return std::nullopt;
  const auto base = fs::canonical(root).string();
  if (real.string() != base && !real.string().starts_with(base + "/")) return std::nullopt;
  return real;
}

void remove_inside(const fs::path& root, const fs::path& folder, const std::string& name) {
  const auto real = folder_inside(root, folder);
  std::error_code ec;
  if (!real) return;
  if (!name.empty()) {
    fs::remove_all(*real / name, ec);
    return;
  }
  for (const auto& entry : fs::directory_iterator(*real, ec)) fs::remove_all(entry.path(), ec);
}

// tar puts a file or a link in the place of another one, or of an empty folder; of a full one it says "File
// exists" (its --recursive-unlink would also empty folders that stay folders).
void make_way(const fs::path& root, const fs::path& path) {
  std::error_code ec;
  if (!fs::is_directory(fs::symlink_status(root / path, ec))) return;
  if (const auto real = folder_inside(root, path.parent_path())) fs::remove_all(*real / path.filename(), ec);
}

// As C has it, up to the closing quote.
std::string unquoted(std::string_view text) {
  constexpr std::string_view kNames = "abfnrtv", kMeant = "\a\b\f\n\r\t\v";
  const auto is_octal = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '7'; };
  std::string out;
  for (std::size_t i = 0; i < text.size() && text[i] != '"'; ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
    } else if (is_octal(++i)) {
      int byte = text[i] - '0';
      for (int digits = 1; digits < 3 && is_octal(i + 1); ++digits) byte = byte * 8 + (text[++i] - '0');
      out += static_cast<char>(byte);
    } else {
      const auto name = kNames.find(text[i]);
      out += name == kNames.npos ? text[i] : kMeant[name];
    }
  }
  return out;
}

struct Member {
  bool folder = false, device = false;
  std::string name;  // as tar has it
  fs::path path;     // relative, and nowhere up
};

// Of a line like `lrwxrwxrwx 0/0  0 2026-10-01 12:00 "./opt/lib" -> "other"`.
std::optional<Member> member_of(std::string_view line) {
  const auto quote = line.find('"');
  if (quote == line.npos) return std::nullopt;
  Member member{line.front() == 'd', line.front() == 'c' || line.front() == 'b',
                unquoted(line.substr(quote + 1)), fs::path()};
  member.path = fs::path(member.name).relative_path();
  for (const auto& part : member.path)
    if (part == "..") return std::nullopt;  // tar cuts it off
  return member;
}

void prepare_for(const Member& member, const std::string& root) {
  const auto name = member.path.filename().string();
  if (!name.starts_with(kWhiteout)) {
    if (!member.folder && !name.empty()) make_way(root, member.path);
    return;
  }
  const auto removed = name.substr(kWhiteout.size());
  if (name == kOpaque)
    remove_inside(root, member.path.parent_path(), "");
  else if (!removed.empty() && removed != "." && removed != "..")
    remove_inside(root, member.path.parent_path(), removed);
}

void apply_layer(const std::string& file, const std::string& root) {
  // All is the user's. Device nodes cannot be made, wherever they lie, and are not needed: /dev is the
  // container's own.
  std::vector<std::string> unpack = {"tar",
                                     "-xf",
                                     file,
                                     "-C",
                                     root,
                                     "--no-same-owner",
                                     "--no-anchored",
                                     "--exclude=.wh.*",
                                     "--anchored",
                                     "--exclude=dev/*",
                                     "--exclude=./dev/*",
                                     "--no-wildcards"};
  // All of it before the first file is written: what a layer deletes or replaces is of those before it.
  run_tool({"tar", "-tf", file, "--verbose", "--numeric-owner", "--quoting-style=c"},
           [&](const std::string& line) {
             const auto member = member_of(line);
             if (!member) return;
             if (member->device) unpack.push_back("--exclude=" + member->name);
             prepare_for(*member, root);
           });
  run_tool(unpack);
  // The next layer must be able to write there, and we to remove it.
  run_tool({"find", root, "-type", "d", "!", "-perm", "-700", "-exec", "chmod", "u+rwx", "{}", "+"});
}

std::vector<std::string> variables_of(const std::string& config_file) {
  std::vector<std::string> out;
  const auto config = read_json(config_file);
  const auto* inner = config.as_object().if_contains("config");
  const auto* env = inner != nullptr && inner->is_object() ? inner->as_object().if_contains("Env") : nullptr;
  if (env != nullptr && env->is_array())
    for (const auto& variable : env->as_array()) out.emplace_back(variable.as_string());
  return out;
}

}  // namespace

bool is_oci_layout(const std::string& folder) {
  return fs::exists(folder + "/oci-layout") && fs::exists(folder + "/index.json");
}

std::vector<std::string> unpack_image(const std::string& source, const std::string& work,
                                      const std::string& root) {
  fs::create_directories(root);
  std::string layout = source;
  if (!fs::is_directory(source)) {
    bool oci = false, docker = false;
    run_tool({"tar", "-tf", source}, [&](const std::string& line) {
      oci = oci || line == "index.json" || line == "./index.json";
      docker = docker || line == "manifest.json" || line == "./manifest.json";
    });
    if (!oci && !docker) {
      apply_layer(source, root);
      return {};
    }
    layout = work + "/layout";
    fs::create_directories(layout);
    run_tool({"tar", "-xf", source, "-C", layout, "--no-same-owner"});
  }
  const auto layers = is_oci_layout(layout) ? layers_of_layout(layout) : layers_of_docker(layout);
  for (const auto& file : layers.files) apply_layer(file, root);
  return variables_of(layers.config);
}

}  // namespace tutti::container
