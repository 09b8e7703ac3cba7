#include "api/http/router.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <stdexcept>
#include <unordered_map>

#include "api/wire/utf8.h"

namespace tutti::http {
namespace {

/// One piece of a pattern between slashes.
struct Segment {
  // In the order of preference when several match.
  enum class Kind : std::uint8_t {
    literal,
    param_verb,
    param,
    tail
  };
  Kind kind = Kind::literal;
  std::string text;  // literal: the text; else the parameter's name
  std::string verb;  // ":cancel"
};

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> parts;
  path.remove_prefix(1);  // always starts with '/'
  for (;;) {
    const auto slash = path.find('/');
    parts.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return parts;
    path.remove_prefix(slash + 1);
  }
}

[[noreturn]] void refuse_pattern(std::string_view pattern, std::string_view why) {
  throw std::invalid_argument("route \"" + std::string(pattern) + "\": " + std::string(why));
}

Segment parse_segment(std::string_view part, std::string_view pattern) {
  Segment segment;
  if (!part.starts_with('{')) {
    if (part.find_first_of("{}") != std::string_view::npos)
      refuse_pattern(pattern, "'{' only opens a segment");
    segment.text = part;
    return segment;
  }
  const auto end = part.find('}');
  if (end == std::string_view::npos || end == 1)
    refuse_pattern(pattern, "a parameter needs a name and a '}'");
  auto name = part.substr(1, end - 1);
  const auto rest = part.substr(end + 1);
  segment.kind = Segment::Kind::param;
  if (name.ends_with('*')) {
    name.remove_suffix(1);
    segment.kind = Segment::Kind::tail;
  }
  segment.text = name;
  if (!rest.empty()) {
    if (!rest.starts_with(':') || segment.kind == Segment::Kind::tail)
      refuse_pattern(pattern, "only \":verb\" may follow a parameter");
    segment.kind = Segment::Kind::param_verb;
    segment.verb = rest;
  }
  return segment;
}

/// What two routes must not share within one method: the pattern without parameter names.
std::string shape_of(const std::vector<Segment>& segments) {
  std::string shape;
  for (const auto& segment : segments) {
    shape.push_back('/');
    switch (segment.kind) {
      case Segment::Kind::literal: shape += segment.text; break;
      case Segment::Kind::param_verb: shape += "{}" + segment.verb; break;
      case Segment::Kind::param: shape += "{}"; break;
      case Segment::Kind::tail: shape += "{*}"; break;
    }
  }
  return shape;
}

bool segment_matches(const Segment& segment, std::string_view part) {
  switch (segment.kind) {
    case Segment::Kind::literal: return part == segment.text;
    case Segment::Kind::param_verb:
      return part.size() > segment.verb.size() && part.ends_with(segment.verb) &&
             part.find(':') == part.size() - segment.verb.size();
    case Segment::Kind::param: return !part.empty() && part.find(':') == std::string_view::npos;
    case Segment::Kind::tail: return true;
  }
  return false;
}

}  // namespace

/// All methods of one pattern shape.
struct Place {
  std::vector<Segment> segments;
  std::string shape;
  std::vector<std::size_t> routes;  // indexes into Table::routes

  bool has_tail() const { return segments.back().kind == Segment::Kind::tail; }
  bool fits(const std::vector<std::string_view>& parts) const {
    const auto fixed = segments.size() - (has_tail() ? 1 : 0);
    if (has_tail() ? parts.size() < segments.size() : parts.size() != segments.size()) return false;
    for (std::size_t i = 0; i < fixed; ++i) {
      if (!segment_matches(segments[i], parts[i])) return false;
    }
    return true;
  }
};

struct Router::Table {
  std::vector<Route> routes;
  std::deque<Place> places;
  std::unordered_map<std::string, Place*> by_shape;
  std::unordered_map<std::string_view, const Place*> literal;  // whole paths without parameters: one lookup
  std::map<std::size_t, std::vector<const Place*>> by_length;  // places with parameters, most exact first
  std::vector<const Place*> tails;                             // longest first

  const Place* find(std::string_view path, std::vector<std::string_view>& parts) const {
    if (!path.starts_with('/')) return nullptr;
    if (const auto it = literal.find(path); it != literal.end()) return it->second;
    parts = split(path);
    if (const auto it = by_length.find(parts.size()); it != by_length.end()) {
      for (const auto* place : it->second) {
        if (place->fits(parts)) return place;
      }
    }
    for (const auto* place : tails) {
      if (place->fits(parts)) return place;
    }
    return nullptr;
  }

  const Route* route_of(const Place& place, Method method) const {
    for (const auto index : place.routes) {
      if (routes[index].method == method) return &routes[index];
    }
    return nullptr;
  }

  void insert(Route route) {
    if (!route.pattern.starts_with('/')) refuse_pattern(route.pattern, "must start with '/'");
    std::vector<Segment> segments;
    for (const auto part : split(route.pattern)) segments.push_back(parse_segment(part, route.pattern));
    for (std::size_t i = 0; i + 1 < segments.size(); ++i) {
      if (segments[i].kind == Segment::Kind::tail) refuse_pattern(route.pattern, "{name*} must come last");
    }
    auto shape = shape_of(segments);
    auto& place = by_shape[shape];
    if (place == nullptr) place = &add_place(std::move(segments), shape);
    if (route_of(*place, route.method) != nullptr) refuse_pattern(route.pattern, "registered twice");
    place->routes.push_back(routes.size());
    routes.push_back(std::move(route));
  }

  Place& add_place(std::vector<Segment> segments, const std::string& shape) {
    auto& place = places.emplace_back();
    place.segments = std::move(segments);
    place.shape = shape;
    const auto exact_first = [](const Place* a, const Place* b) {
      return std::lexicographical_compare(a->segments.begin(), a->segments.end(), b->segments.begin(),
                                          b->segments.end(),
                                          [](const Segment& x, const Segment& y) { return x.kind < y.kind; });
    };
    const auto longest_first = [](const Place* a, const Place* b) {
      return a->segments.size() > b->segments.size();
    };
    const auto insert_sorted = [&place](std::vector<const Place*>& list, const auto& before) {
      list.insert(std::upper_bound(list.begin(), list.end(), &place, before), &place);
    };
    const bool plain = std::all_of(place.segments.begin(), place.segments.end(),
                                   [](const Segment& s) { return s.kind == Segment::Kind::literal; });
    if (plain) {
      literal.emplace(place.shape, &place);
    } else if (place.has_tail()) {
      insert_sorted(tails, longest_first);
    } else {
      insert_sorted(by_length[place.segments.size()], exact_first);
    }
    return place;
  }
};

namespace {

/// What handlers pass on to databases, files and JSON.
bool is_text(std::string_view decoded) {
  return decoded.find('\0') == std::string_view::npos && wire::is_utf8(decoded);
}

/// Nothing escaped in it is no text. A broken escape stays as it is: readers of parameters leave it so.
bool query_is_text(std::string_view query) {
  std::string decoded;
  for (std::size_t i = 0; i < query.size(); ++i) {
    const auto escape = query[i] == '%' ? percent_decode(query.substr(i, 3)) : std::nullopt;
    decoded += escape ? escape->front() : query[i];
    if (escape) i += 2;
  }
  return is_text(decoded);
}

/// Decodes the parameters of a matched place; nothing when an escape is broken, or when it is no text.
std::optional<std::vector<PathParam>> read_params(const Place& place, std::string_view path,
                                                  const std::vector<std::string_view>& parts) {
  std::vector<PathParam> params;
  for (std::size_t i = 0; i < place.segments.size() && i < parts.size(); ++i) {
    const auto& segment = place.segments[i];
    if (segment.kind == Segment::Kind::literal) continue;
    auto raw = parts[i];
    if (segment.kind == Segment::Kind::param_verb) raw.remove_suffix(segment.verb.size());
    if (segment.kind == Segment::Kind::tail)
      raw = path.substr(static_cast<std::size_t>(raw.data() - path.data()));
    auto decoded = percent_decode(raw);
    if (!decoded || !is_text(*decoded)) return std::nullopt;
    params.push_back({segment.text, std::move(*decoded)});
  }
  return params;
}

}  // namespace

Router::Router() : table_(std::make_unique<Table>()) {}
Router::~Router() = default;
Router::Router(Router&&) noexcept = default;
Router& Router::operator=(Router&&) noexcept = default;

Router& Router::add(Method method, std::string pattern, std::string name, Handler handler) {
  Route route;
  route.method = method;
  route.pattern = std::move(pattern);
  route.name = std::move(name);
  route.handler = std::move(handler);
  table_->insert(std::move(route));
  return *this;
}

Router& Router::add(Method method, std::string pattern, std::string name, SyncHandler handler) {
  return add(method, std::move(pattern), std::move(name),
             Handler([sync = std::move(handler)](Request request, Responder responder) {
               responder.respond(sync(request));
             }));
}

Router& Router::websocket(std::string pattern, WsHandler handler, std::string name) {
  Route route;
  route.method = Method::get;
  route.pattern = std::move(pattern);
  route.name = std::move(name);
  route.websocket = std::move(handler);
  table_->insert(std::move(route));
  return *this;
}

const std::vector<Route>& Router::routes() const { return table_->routes; }

const Route* Router::match(Request& request) const {
  std::vector<std::string_view> parts;
  const auto* place = table_->find(request.path, parts);
  if (place == nullptr) return nullptr;
  const auto* route = table_->route_of(*place, request.method);
  if (route == nullptr && request.method == Method::head) route = table_->route_of(*place, Method::get);
  if (route == nullptr || !query_is_text(request.query)) return nullptr;
  if (!parts.empty()) {
    auto params = read_params(*place, request.path, parts);
    if (!params) return nullptr;
    request.params = std::move(*params);
  }
  request.route = route->pattern;
  return route;
}

Response Router::refusal(const Request& request) const {
  if (request.method == Method::options && request.header("Access-Control-Request-Method"))
    return problem(403, "cross_origin", "pages of other origins may not use this API",
                   "serve the page from this server, or ask from a program");
  std::vector<std::string_view> parts;
  const auto* place = table_->find(request.path, parts);
  if (place == nullptr || (place->has_tail() && request.method != Method::options))
    return problem(404, "not_found", "there is nothing at " + request.path);
  if (!parts.empty() && !read_params(*place, request.path, parts))
    return problem(400, "bad_path", "the path holds a broken %-escape, or one of no UTF-8 text, or NUL");
  if (!query_is_text(request.query))
    return problem(400, "bad_query", "the query holds an escape of no UTF-8 text, or NUL");

  std::string allow;
  for (const auto index : place->routes) {
    const auto method = table_->routes[index].method;
    if (!allow.empty()) allow += ", ";
    allow += to_string(method);
    if (method == Method::get) allow += ", HEAD";
  }
  allow += ", OPTIONS";
  if (request.method == Method::options) return no_content().set("Allow", allow);
  boost::json::object extra;
  extra["allow"] = allow;
  return problem(405, "method_not_allowed", request.path + " does not take this method",
                 "use one of " + allow, std::move(extra))
      .set("Allow", allow);
}

void Router::dispatch(Request request, Responder responder) const {
  const auto* route = match(request);
  if (route == nullptr) return responder.respond(refusal(request));
  if (!route->handler)
    return responder.respond(
        problem(426, "upgrade_required", "this address speaks WebSocket only").set("Upgrade", "websocket"));
  route->handler(std::move(request), std::move(responder));
}

}  // namespace tutti::http
