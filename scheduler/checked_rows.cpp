#include "scheduler/checked_rows.h"

#include <spdlog/spdlog.h>

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "db/checked_store.h"

namespace tutti {
namespace {

namespace json = boost::json;

// A spec that an older version found legal and this one does not can still be read: only what is no JSON
// object is damaged.
std::string problem_of_spec(std::string_view text) {
  unsigned char room[8192];  // for most of them: a million are read at boot
  json::monotonic_resource memory(room, sizeof room);
  boost::system::error_code ec;
  const json::value value = json::parse({text.data(), text.size()}, ec, &memory);
  if (ec) return "it is no JSON: " + ec.message();
  return value.is_object() ? "" : "it is JSON, but no object";
}

std::string stand_in(const JobRow& row) {
  return json::serialize(json::object{
      {"name", "damaged"},
      {"run", "echo 'the spec of this job was damaged: tutti show says what is left of it' >&2; exit 78"},
      {"nodes", row.nodes},
      {"resources", json::object{{"gpus", row.gpus_per_node}}}});
}

// A spec is stored with all its defaults.
db::JobSize size_of_spec(std::string_view text) {
  boost::system::error_code ec;
  const json::value value = json::parse({text.data(), text.size()}, ec);
  db::JobSize size;
  const json::object* spec = ec ? nullptr : value.if_object();
  if (spec == nullptr) return size;
  const auto number = [](const json::object& from, const char* key, int other) {
    const json::value* found = from.if_contains(key);
    boost::system::error_code odd;
    const int n = found == nullptr ? other : found->to_number<int>(odd);
    return odd ? other : n;
  };
  size.nodes = number(*spec, "nodes", size.nodes);
  const json::value* resources = spec->if_contains("resources");
  if (resources != nullptr && resources->is_object())
    size.gpus_per_node = number(resources->get_object(), "gpus", size.gpus_per_node);
  return size;
}

}  // namespace

std::unique_ptr<Store> with_checked_rows(std::unique_ptr<Store> store) {
  return std::make_unique<db::CheckedStore>(
      std::move(store), db::SpecCheck{.problem = problem_of_spec, .stand_in = stand_in, .size = size_of_spec},
      [](const std::string& line) { spdlog::error("rows: {}", line); },
      [] { return std::chrono::floor<Duration>(std::chrono::system_clock::now()); });
}

}  // namespace tutti
