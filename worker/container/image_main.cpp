// tutti-image DIR               fetches and lays out the image of the attempt in DIR, as its container.json
// says tutti-image --inside DIR -- P  puts the program P into that container (exec, no process of its own)
// tutti-image --unpack FROM WORK ROOT   within a sandbox, called by the first form
// Runs as the job's user, under the supervisor's deadline for `setup`, whose log its words go to.
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <stdexcept>

#include "worker/container/container_plan.h"
#include "worker/container/image_cache.h"
#include "worker/container/image_tools.h"
#include "worker/container/oci_archive.h"
#include "worker/container/run_tool.h"
#include "worker/container/sandbox.h"
#include "worker/supervisor/files.h"

using namespace tutti::container;
using tutti::supervisor::read_file;
using tutti::supervisor::replace_file;

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxWords = 16 << 20;
constexpr auto kLockPatience = std::chrono::seconds(30);

std::string read_or_throw(const std::string& path) {
  auto text = read_file(path, kMaxWords);
  if (!text) tutti::supervisor::throw_errno("read " + path);
  return *std::move(text);
}

// Only WORK can be written in it: an archive is not trusted with the user's files.
std::vector<std::string> unpack(const ContainerPlan& plan, const std::string& from, const std::string& work,
                                const std::string& root) {
  run_tool({plan.bubblewrap, "--die-with-parent", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/",
            "--dev", "/dev", "--bind", work, work, "--", fs::read_symlink("/proc/self/exe").string(),
            "--unpack", from, work, root});
  std::vector<std::string> variables;
  const auto list = boost::json::parse(read_or_throw(work + "/variables"));
  for (const auto& v : list.as_array()) variables.emplace_back(v.as_string());
  return variables;
}

bool is_folder(const std::string& path) { return fs::is_directory(path); }

CachedImage have_image(const ContainerPlan& plan) {
  const auto image = name_image(plan.image, &is_folder);
  if (image.kind == ImageKind::folder) {
    if (const auto why = why_not_shown(plan, "image", image.name); !why.empty())
      throw std::runtime_error(why);
    if (!is_oci_layout(image.name)) return {fs::canonical(image.name).string(), {}, ""};
  }
  if (image.kind == ImageKind::registry) {
    if (plan.tool == "bubblewrap")
      throw std::runtime_error("this node has no podman, enroot or apptainer to fetch " + plan.image);
    return cached_image(plan.cache, plan.cache_bytes, plan.tool + " " + image.name,
                        [&](const std::string& work, const std::string& root) {
                          const auto fetch = plan_fetch(plan.tool, image.name, work, root);
                          for (const auto& command : fetch.commands) run_tool(command);
                          return fetch.archive.empty() ? std::vector<std::string>()
                                                       : unpack(plan, fetch.archive, work, root);
                        });
  }
  struct stat s{};
  if (stat(image.name.c_str(), &s) != 0) tutti::supervisor::throw_errno("image " + image.name);
  const auto identity = image.name + " " + std::to_string(s.st_ino) + " " + std::to_string(s.st_size) + " " +
                        std::to_string(s.st_mtim.tv_sec) + "." + std::to_string(s.st_mtim.tv_nsec);
  return cached_image(
      plan.cache, plan.cache_bytes, identity,
      [&](const std::string& work, const std::string& root) { return unpack(plan, image.name, work, root); });
}

// Its own namespaces are all that bubblewrap needs, and what some kernels and containers do not give.
bool see_what_works(const ContainerPlan& plan) {
  std::vector<std::string> words = {plan.bubblewrap,
                                    "--unshare-user",
                                    "--unshare-pid",
                                    "--die-with-parent",
                                    "--ro-bind",
                                    "/",
                                    "/",
                                    "--proc",
                                    "/proc",
                                    "--",
                                    "/bin/true"};
  if (runs_well(words)) return true;
  words.erase(words.begin() + 7, words.begin() + 9);
  if (runs_well(words)) return false;
  run_tool(words);  // once more, for what it says
  throw std::runtime_error("the kernel gives this user no namespaces");
}

void write_accounts(const ContainerPlan& plan) {
  const auto folder = plan.dir + "/" + kFolder;
  const auto id = std::to_string(plan.uid) + ":" + std::to_string(plan.gid);
  std::string users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
  if (plan.uid != 0 && plan.uid != 65534) users += plan.user + ":x:" + id + "::" + plan.home + ":/bin/sh\n";
  std::string groups = "root:x:0:\nnogroup:x:65534:\n";
  if (plan.gid != 0 && plan.gid != 65534) groups += plan.user + ":x:" + std::to_string(plan.gid) + ":\n";
  replace_file(folder + "/passwd", users, false);
  replace_file(folder + "/group", groups, false);
  fs::create_directories(folder + "/home");
}

void prepare(const std::string& dir) {
  const auto plan = decode_plan(read_or_throw(dir + "/" + kPlanFile));
  if (!plan.checkpoint_dir.empty())  // before it is made
    if (const auto why = why_not_shown(plan, "checkpoint.dir", plan.checkpoint_dir); !why.empty())
      throw std::runtime_error(why);
  auto host = look_at_host(plan.gpus, "/dev", library_folders());
  host.own_proc = see_what_works(plan);
  const auto image = have_image(plan);
  if (!plan.checkpoint_dir.empty()) fs::create_directories(plan.checkpoint_dir);
  write_accounts(plan);
  std::string text = image.lock + '\0';
  for (const auto& word : sandbox_words(plan, image.root, image.variables, host)) text += word + '\0';
  replace_file(dir + "/" + kWordsFile, text, false);
  std::printf("image %s: %s\n", plan.image.c_str(), image.root.c_str());
}

int inside(const std::string& dir, char** program) {
  const auto text = read_or_throw(dir + "/" + kWordsFile);
  std::vector<char*> argv;
  for (std::size_t at = 0; at < text.size(); at += std::strlen(text.c_str() + at) + 1)
    argv.push_back(const_cast<char*>(text.c_str() + at));
  if (argv.size() < 2) throw std::runtime_error(std::string(kWordsFile) + " is damaged");
  tutti::supervisor::Fd lock;  // stays open in bubblewrap: the image is in use as long as it lives
  if (*argv[0] != '\0') lock = hold_image(argv[0], kLockPatience);
  argv.erase(argv.begin());
  for (; *program != nullptr; ++program) argv.push_back(*program);
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  tutti::supervisor::throw_errno(std::string("start ") + argv[0]);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "";
  try {
    if (argc == 2 && first.starts_with('/')) {
      prepare(argv[1]);
      return 0;
    }
    if (argc > 4 && first == "--inside" && std::strcmp(argv[3], "--") == 0) return inside(argv[2], argv + 4);
    if (argc == 5 && first == "--unpack") {
      const auto variables = unpack_image(argv[2], argv[3], argv[4]);
      const boost::json::array list(variables.begin(), variables.end());
      replace_file(std::string(argv[3]) + "/variables", boost::json::serialize(list), false);
      return 0;
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tutti-image: %s\n", e.what());
    return 1;
  }
  std::fprintf(stderr,
               "usage: tutti-image <attempt directory>\n       tutti-image --inside <attempt directory> -- "
               "program…\n");
  return 64;
}
