#include "worker/container/image_tools.h"

#include "worker/container/container_plan.h"

namespace tutti::container {

ImageName name_image(std::string_view image, bool (*is_folder)(const std::string&)) {
  if (image.starts_with("docker://")) return {ImageKind::registry, std::string(image.substr(9))};
  if (image.starts_with("oci-archive:")) return {ImageKind::archive, std::string(image.substr(12))};
  if (!image.starts_with('/')) return {ImageKind::registry, std::string(image)};
  std::string path(image);
  const bool folder = is_folder(path);
  return {folder ? ImageKind::folder : ImageKind::archive, std::move(path)};
}

namespace {

// In a user namespace of its own, as its root: the job's user need not be in /etc/subuid, and newuidmap,
// which is setuid, would not get its rights here. Files of other owners become the user's
// (ignore_chown_errors), as they do in the unpacked root. vfs: nothing is mounted, so nothing can be left
// mounted.
Fetch by_podman(const std::string& image, const std::string& work) {
  // Podman's locks lie in /dev/shm under one name for all who think they are root: it gets its own.
  const std::vector<std::string> podman = {"unshare",
                                           "--map-root-user",
                                           "--mount",
                                           "/bin/sh",
                                           "-c",
                                           R"(mount -t tmpfs tmpfs /dev/shm && exec podman "$@")",
                                           "podman",
                                           "--root",
                                           work + "/podman",
                                           "--runroot",
                                           work + "/podman-run",
                                           "--tmpdir",
                                           work + "/podman-tmp",
                                           "--storage-opt",
                                           "vfs.ignore_chown_errors=true",
                                           "--storage-driver",
                                           "vfs"};
  // Pulled unless it is there ($0: the image; $@: how podman is called).
  std::vector<std::string> pull = {"/bin/sh", "-c",
                                   R"("$@" image exists "$0" || exec "$@" pull --quiet "$0")", image};
  pull.insert(pull.end(), podman.begin(), podman.end());
  auto save = podman;
  const std::string archive = work + "/image.tar";
  for (const auto& word : {std::string("save"), std::string("--quiet"), std::string("--format"),
                           std::string("oci-archive"), std::string("--output"), archive, image})
    save.push_back(word);
  return {{{"rm", "-f", archive}, std::move(pull), std::move(save)}, archive};
}

// enroot writes a registry's name with '#' behind the host: docker://registry.example#acme/train:1.
std::string enroot_uri(const std::string& image) {
  const auto slash = image.find('/');
  const auto host = image.substr(0, slash);
  const bool has_host =
      slash != std::string::npos &&
      (host.find('.') != std::string::npos || host.find(':') != std::string::npos || host == "localhost");
  return "docker://" + (has_host ? host + "#" + image.substr(slash + 1) : image);
}

Fetch by_enroot(const std::string& image, const std::string& work, const std::string& root) {
  const std::string file = work + "/image.sqsh";
  return {{{"rm", "-f", file},
           {"env", "ENROOT_CACHE_PATH=" + work + "/enroot", "ENROOT_TEMP_PATH=" + work, "enroot", "import",
            "--output", file, enroot_uri(image)},
           {"unsquashfs", "-no-xattrs", "-quiet", "-dest", root, file},
           {"rm", "-f", file}},
          ""};
}

Fetch by_apptainer(const std::string& image, const std::string& work, const std::string& root) {
  return {{{"env", "APPTAINER_CACHEDIR=" + work + "/apptainer", "APPTAINER_TMPDIR=" + work, "apptainer",
            "build", "--sandbox", "--fix-perms", root, "docker://" + image}},
          ""};
}

}  // namespace

Fetch plan_fetch(std::string_view tool, const std::string& image, const std::string& work,
                 const std::string& root) {
  if (tool == "podman") return by_podman(image, work);
  if (tool == "enroot") return by_enroot(image, work, root);
  if (tool == "apptainer") return by_apptainer(image, work, root);
  return {};
}

std::string choose_tool(std::string_view wanted, std::string (*find)(std::string_view program)) {
  if (wanted == "none" || find("bwrap").empty()) return {};
  for (const auto tool : kTools) {
    if (wanted != "auto" && wanted != tool) continue;
    if (tool == "bubblewrap" || !find(tool).empty()) return std::string(tool);
  }
  return {};
}

}  // namespace tutti::container
