#include "worker/container/oci_archive.h"

#include <boost/json.hpp>
#include <filesystem>
#include <stdexcept>

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

// What a deletion names must lie in the root, whatever links an earlier layer has made.
void remove_inside(const fs::path& root, const fs::path& folder, const std::string& name) {
  std::error_code ec;
  const auto real = fs::canonical(root / folder, ec);
  if (ec) return;
  const auto base = fs::canonical(root).string();
  if (real.string() != base && !real.string().starts_with(base + "/")) return;
  if (!name.empty()) {
    fs::remove_all(real / name, ec);
    return;
  }
  for (const auto& entry : fs::directory_iterator(real, ec)) fs::remove_all(entry.path(), ec);
}

void apply_layer(const std::string& file, const std::string& root) {
  run_tool({"tar", "-tf", file}, [&](const std::string& line) {
    const fs::path path(line);
    const auto name = path.filename().string();
    if (!name.starts_with(kWhiteout) || line.starts_with('/') || line.find("..") < line.find(kWhiteout))
      return;
    const auto removed = name.substr(kWhiteout.size());
    if (name == kOpaque)
      remove_inside(root, path.parent_path(), "");
    else if (!removed.empty() && removed != "." && removed != "..")
      remove_inside(root, path.parent_path(), removed);
  });
  // Device nodes cannot be made, and are not needed: /dev is the container's own. All is the user's.
  run_tool({"tar", "-xf", file, "-C", root, "--no-same-owner", "--anchored", "--exclude=dev/*",
            "--exclude=./dev/*", "--no-anchored", "--exclude=.wh.*"});
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
