// Nodes by where they stand, for pictures of the cluster: as it is (map.cpp) and as it was (history.cpp).
#pragma once

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace tutti::api {

struct Place {
  std::string block, rack;
  auto operator<=>(const Place&) const = default;
};

/// By the labels with which the planner keeps gangs together.
inline Place place_of(const std::map<std::string, std::string>& labels) {
  const auto label = [&](const char* key) {
    const auto found = labels.find(key);
    return found == labels.end() ? std::string() : found->second;
  };
  return {label("topology.block"), label("topology.rack")};
}

struct Standing {
  Place place;
  std::string name;
  boost::json::object view;  // its member "rack" is filled in
};

/// Nodes by block, rack and name; each says which of the racks it stands in.
inline boost::json::object racks_and_nodes(std::vector<Standing> standing) {
  std::ranges::sort(standing, {}, [](const Standing& s) { return std::tie(s.place, s.name); });
  boost::json::array racks, nodes;
  const Place* last = nullptr;
  for (auto& [place, name, view] : standing) {
    if (last == nullptr || *last != place)
      racks.push_back(boost::json::object{{"block", place.block}, {"rack", place.rack}});
    last = &place;
    view["rack"] = racks.size() - 1;
    nodes.push_back(std::move(view));
  }
  return {{"racks", std::move(racks)}, {"nodes", std::move(nodes)}};
}

}  // namespace tutti::api
