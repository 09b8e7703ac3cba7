#include "worker/container/container_plan.h"

#include <boost/json.hpp>
#include <stdexcept>

namespace tutti::container {
namespace {

namespace json = boost::json;

json::array list(const std::vector<std::string>& words) { return json::array(words.begin(), words.end()); }

std::string text(const json::object& o, std::string_view name) { return std::string(o.at(name).as_string()); }

std::vector<std::string> words(const json::object& o, std::string_view name) {
  std::vector<std::string> out;
  for (const auto& word : o.at(name).as_array()) out.emplace_back(word.as_string());
  return out;
}

}  // namespace

std::string encode(const ContainerPlan& p) {
  json::array mounts;
  for (const auto& m : p.mounts)
    mounts.push_back(json::object{{"source", m.source}, {"target", m.target}, {"read_only", m.read_only}});
  return json::serialize(json::object{{"image", p.image},
                                      {"tool", p.tool},
                                      {"bubblewrap", p.bubblewrap},
                                      {"cache", p.cache},
                                      {"cache_bytes", p.cache_bytes},
                                      {"dir", p.dir},
                                      {"programs", p.programs},
                                      {"workdir", p.workdir},
                                      {"checkpoint_dir", p.checkpoint_dir},
                                      {"user", p.user},
                                      {"home", p.home},
                                      {"uid", p.uid},
                                      {"gid", p.gid},
                                      {"mounts", mounts},
                                      {"mount_folders", list(p.mount_folders)},
                                      {"closed", p.closed},
                                      {"also", list(p.also)},
                                      {"gpus", p.gpus},
                                      {"shm", p.shm},
                                      {"user_variables", list(p.user_variables)}});
}

ContainerPlan decode_plan(std::string_view text_of_plan) {
  try {
    const auto value = json::parse(json::string_view(text_of_plan.data(), text_of_plan.size()));
    const auto& o = value.as_object();
    ContainerPlan p;
    p.image = text(o, "image");
    p.tool = text(o, "tool");
    p.bubblewrap = text(o, "bubblewrap");
    p.cache = text(o, "cache");
    p.cache_bytes = o.at("cache_bytes").to_number<std::int64_t>();
    p.dir = text(o, "dir");
    p.programs = text(o, "programs");
    p.workdir = text(o, "workdir");
    p.checkpoint_dir = text(o, "checkpoint_dir");
    p.user = text(o, "user");
    p.home = text(o, "home");
    p.uid = o.at("uid").to_number<std::uint32_t>();
    p.gid = o.at("gid").to_number<std::uint32_t>();
    for (const auto& m : o.at("mounts").as_array())
      p.mounts.push_back({text(m.as_object(), "source"), text(m.as_object(), "target"),
                          m.as_object().at("read_only").as_bool()});
    p.mount_folders = words(o, "mount_folders");
    p.closed = text(o, "closed");
    p.also = words(o, "also");
    p.gpus = o.at("gpus").as_bool();
    p.shm = o.at("shm").as_bool();
    p.user_variables = words(o, "user_variables");
    return p;
  } catch (const std::exception& e) {
    throw std::invalid_argument(std::string("container.json: ") + e.what());
  }
}

}  // namespace tutti::container
