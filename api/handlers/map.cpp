// GET /v1/map: every node and GPU in a few letters, for a picture of the cluster that is asked for every few
// seconds. From memory; who has the picture already gets 304. Of jobs that the caller may not see there is no id.
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "api/access/credentials.h"
#include "api/handlers/answer.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/map_view.h"
#include "api/handlers/series_history.h"
#include "api/handlers/view.h"
#include "api/http/static_files.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

char letter_of(const Gpu& gpu, const ControlPlane& plane) {
  if (!gpu.row.present) return 'x';
  switch (gpu.row.health) {
    case GpuHealth::quarantined: return 'q';
    case GpuHealth::dirty: return 'd';
    case GpuHealth::healthy: break;
  }
  if (!gpu.holder.job) return 'f';
  const Attempt* attempt = plane.find_attempt(gpu.holder);
  return attempt != nullptr && attempt->row.state == AttemptState::preflight ? 'p' : 'a';
}

struct Seen {
  const ControlPlane& plane;
  const SeriesHistory* series;  // null: nothing is measured
  Now now;
  const std::optional<Visible>& visible;
};

// Percent of each, null where it is not measured; null for all where none is.
json::value utilisation_of(const std::vector<const Gpu*>& gpus, const Seen& seen) {
  json::array out;
  bool any = false;
  for (const Gpu* gpu : gpus) {
    const auto percent =
        seen.series == nullptr ? std::nullopt : seen.series->utilisation(gpu->row.id, seen.now.mono);
    any = any || percent;
    out.push_back(percent ? json::value(*percent) : json::value(nullptr));
  }
  return any ? json::value(std::move(out)) : json::value(nullptr);
}

json::object node_of_map(const Node& node, const Seen& seen) {
  const auto& [plane, series, now, visible] = seen;
  std::vector<const Gpu*> gpus;
  for (const auto* ids : {&node.gpus, &node.absent})
    for (const GpuId id : *ids) gpus.push_back(&plane.cluster().gpus.at(id));
  std::ranges::sort(gpus, {}, [](const Gpu* gpu) { return std::pair(gpu->row.index, gpu->row.id); });
  std::string letters;
  json::array jobs;
  for (const Gpu* gpu : gpus) {
    letters += letter_of(*gpu, plane);
    const bool shown = gpu->holder.job && is_visible(visible, plane, gpu->holder.job);
    jobs.push_back(shown ? json::value(gpu->holder.job.value) : json::value(nullptr));
  }
  return {{"name", node.row.name},
          {"rack", 0},
          {"state", name(node.row.state)},
          {"service", name(node.row.service)},
          {"conditions", node.conditions.size()},
          {"gpus", std::move(letters)},
          {"jobs", std::move(jobs)},
          {"utilisation", utilisation_of(gpus, seen)}};
}

json::object map_view(const Seen& seen) {
  std::vector<Standing> nodes;
  for (const auto& [id, node] : seen.plane.cluster().nodes)
    nodes.push_back({place_of(node.row.labels), node.row.name, node_of_map(node, seen)});
  return racks_and_nodes(std::move(nodes));
}

struct Picture {
  std::string etag, text;  // the text without its opening brace
  std::string at;
  EventId event;
};

}  // namespace

/// Pictures of the last second, by who sees them: a large one takes ten milliseconds to make.
class MapKept {
 public:
  const Picture& of(const Seen& seen, std::int64_t term) {
    const auto& [plane, series, now, visible] = seen;
    constexpr std::size_t kAlwaysNew = 256, kMost = 64;  // nodes, pictures
    constexpr Duration kLasts = std::chrono::seconds(1);
    const bool same = plane_ == &plane && term_ == term && now.mono - at_ < kLasts &&
                      plane.cluster().nodes.size() > kAlwaysNew && by_.size() <= kMost;
    if (!same) {
      by_.clear();
      at_ = now.mono;
    }
    plane_ = &plane;
    term_ = term;
    const auto [known, fresh] = by_.try_emplace(key_of(visible));
    if (fresh) known->second = drawn(seen);
    return known->second;
  }

 private:
  using Key = std::tuple<bool, std::string, std::vector<std::string>>;
  static Key key_of(const std::optional<Visible>& visible) {
    return visible ? Key{false, visible->owner, visible->projects} : Key{true, {}, {}};
  }
  static Picture drawn(const Seen& seen) {
    Picture out;
    out.text = json::serialize(map_view(seen)).substr(1);
    // Of what is to be seen, not of when: most events of jobs change no GPU.
    out.etag = "\"" + sha256_hex(out.text).substr(0, 32) + "\"";
    out.at = wire::format_instant(seen.now.wall);
    out.event = seen.plane.last_event();
    return out;
  }

  const ControlPlane* plane_ = nullptr;  // only compared
  std::int64_t term_ = 0;
  Mono at_{};
  std::map<Key, Picture> by_;
};

namespace {

void get_map(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  if (!api->map) api->map = std::make_shared<MapKept>();
  const auto visible = visible_to(identity_of(request));
  const auto& picture =
      api->map->of({*plane, api->services.series, api->backend.now(), visible}, api->backend.status().term);
  answer.header("ETag", picture.etag);
  answer.header("Cache-Control", "no-cache");
  if (http::has_current(request, picture.etag))
    return answer.send(http::Response{.status = 304, .headers = {}, .body = {}});
  answer.send(http::text(200,
                         R"({"at":")" + picture.at + R"(","event_id":)" +
                             std::to_string(picture.event.value) + "," + picture.text,
                         "application/json"));
}

}  // namespace

void add_map_routes(const Routes& routes) { routes.get("/v1/map", "map.get", Need::signed_in, get_map); }

}  // namespace tutti::api
