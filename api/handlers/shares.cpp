// /v1/queues, /v1/projects, /v1/reservations: what operators set up. GET shows the settings and the present
// use; PUT creates or replaces; the answer comes after the commit, with warnings.
#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>

#include "api/handlers/answer.h"
#include "api/handlers/audit.h"
#include "api/handlers/view.h"
#include "api/wire/spec_reader.h"
#include "api/wire/strict_json.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;
using wire::Field;
using wire::Path;
using wire::SpecReader;

// ---------------------------------------------------------------- views

json::object use_of(const ControlPlane& plane, const std::string& queue, const std::string& project) {
  std::int64_t waiting = 0, active = 0;
  for (const auto& [id, job] : plane.jobs()) {
    if ((!queue.empty() && job.row.queue != queue) || (!project.empty() && job.row.project != project))
      continue;
    ++(is_active(job.row.state) ? active : waiting);
  }
  return {{"gpus", plane.gpus_held(queue, project)}, {"active_jobs", active}, {"pending_jobs", waiting}};
}

json::value or_null(int n) { return n < 0 ? json::value(nullptr) : json::value(n); }

json::object view(const ControlPlane& plane, const QueueRow& q) {
  return {{"name", q.name},
          {"nodes_of", q.nodes_of.empty() ? json::value(nullptr) : json::value(q.nodes_of)},
          {"quota_gpus", or_null(q.quota_gpus)},
          {"borrow_gpus", or_null(q.borrow_gpus)},
          {"lend_gpus", or_null(q.lend_gpus)},
          {"use", use_of(plane, q.name, "")}};
}
json::object view(const ControlPlane& plane, const ProjectRow& p) {
  return {{"name", p.name},
          {"parent", p.parent.empty() ? json::value(nullptr) : json::value(p.parent)},
          {"weight", p.weight},
          {"max_gpus", or_null(p.max_gpus)},
          {"use", use_of(plane, "", p.name)}};
}
json::object view(const ControlPlane&, const ReservationRow& r) {
  return {{"name", r.name},
          {"reason", r.reason},
          {"nodes", json::value_from(r.nodes)},
          {"projects", json::value_from(r.projects)},
          {"from", instant_or_null(r.from)},
          {"until", instant_or_null(r.until)}};
}

// ---------------------------------------------------------------- bodies

template <auto Member, class T>
void read_gpus_or_none(SpecReader& r, const Path& at, const json::value& v, T& into) {
  if (const auto n = r.integer(at, v, 0, 10'000'000)) into.*Member = static_cast<std::int32_t>(*n);
}
template <auto Member, class T>
void read_name(SpecReader& r, const Path& at, const json::value& v, T& into) {
  if (const auto s = r.label(at, v, 128)) into.*Member = std::string(*s);
}
template <auto Member, class T>
void read_names(SpecReader& r, const Path& at, const json::value& v, T& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list of names");
  for (std::size_t i = 0; i < list->size(); ++i)
    if (const auto s = r.label({&at, {}, static_cast<std::int64_t>(i)}, (*list)[i], 128))
      (into.*Member).emplace_back(*s);
}
template <auto Member, class T>
void read_when(SpecReader& r, const Path& at, const json::value& v, T& into) {
  const auto s = r.string(at, v, 64);
  if (!s) return;
  std::optional<Instant> when;
  if (*s == "now")
    when = r.now.wall;
  else if (s->starts_with('+')) {
    if (const auto d = wire::parse_duration(s->substr(1))) when = r.now.wall + *d;
  } else
    when = wire::parse_instant(*s);
  if (when)
    into.*Member = *when;
  else
    r.problem(at, "must be a time, not " + wire::shown(v),
              "like \"2026-10-01T02:00:00Z\", \"+2h\" or \"now\"");
}
void read_weight(SpecReader& r, const Path& at, const json::value& v, ProjectRow& into) {
  if (v.is_number())
    into.weight = v.to_number<double>();
  else
    r.problem(at, "must be a number, not " + wire::shown(v));
}

constexpr auto kQueueFields = std::to_array<Field<QueueRow>>({
    {"nodes_of", read_name<&QueueRow::nodes_of>},
    {"quota_gpus", read_gpus_or_none<&QueueRow::quota_gpus>},
    {"borrow_gpus", read_gpus_or_none<&QueueRow::borrow_gpus>},
    {"lend_gpus", read_gpus_or_none<&QueueRow::lend_gpus>},
});
constexpr auto kProjectFields = std::to_array<Field<ProjectRow>>({
    {"parent", read_name<&ProjectRow::parent>},
    {"weight", read_weight},
    {"max_gpus", read_gpus_or_none<&ProjectRow::max_gpus>},
});
constexpr auto kReservationFields = std::to_array<Field<ReservationRow>>({
    {"reason", read_name<&ReservationRow::reason>},
    {"nodes", read_names<&ReservationRow::nodes>},
    {"projects", read_names<&ReservationRow::projects>},
    {"from", read_when<&ReservationRow::from>},
    {"until", read_when<&ReservationRow::until>},
});

// ---------------------------------------------------------------- one of the three kinds

// `rows` of Shares, how it is read, and what the control plane does with it.
template <class Row>
struct Kind {
  const std::map<std::string, Row>& (*rows)(const Shares&);
  std::string_view what;
  Result<Warnings> (ControlPlane::*put)(Now, const Row&, std::string_view);
  Result<Warnings> (ControlPlane::*remove)(Now, const std::string&, std::string_view);
};
const Kind<QueueRow> kQueues{[](const Shares& s) -> const auto& { return s.queues; }, "queue",
                             &ControlPlane::on_put_queue, &ControlPlane::on_remove_queue};
const Kind<ProjectRow> kProjects{[](const Shares& s) -> const auto& { return s.projects; }, "project",
                                 &ControlPlane::on_put_project, &ControlPlane::on_remove_project};
const Kind<ReservationRow> kReservations{[](const Shares& s) -> const auto& { return s.reservations; },
                                         "reservation", &ControlPlane::on_put_reservation,
                                         &ControlPlane::on_remove_reservation};

template <const auto& K>
void list(const ApiPtr& api, const http::Request&, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  json::array out;
  for (const auto& [name, row] : K.rows(plane->shares())) out.push_back(view(*plane, row));
  answer.json(200, json::object{{std::string(K.what) + "s", std::move(out)}});
}

template <const auto& K>
void answer_with(const ApiPtr& api, const Answer& answer, const std::string& name, const Warnings* warnings) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto& rows = K.rows(plane->shares());
  const auto row = rows.find(name);
  if (row == rows.end()) return answer.fail(not_found("no " + std::string(K.what) + " '" + name + "'"));
  json::object body = view(*plane, row->second);
  body["warnings"] = json::value_from(warnings == nullptr ? Warnings{} : *warnings);
  answer.json(200, body);
}

template <const auto& K>
void get(const ApiPtr& api, const http::Request& request, Answer answer) {
  answer_with<K>(api, answer, request.param("name"), nullptr);
}

template <const auto& K, class Row, std::size_t N>
void put_row(const ApiPtr& api, const http::Request& request, const Answer& answer, Row row,
             const std::array<Field<Row>, N>& fields) {
  json::value body;
  if (auto error = wire::parse_strict_json(request.body, body))
    return answer.send(malformed("JSON", std::move(error->message), error->line, error->column));
  std::vector<wire::SpecProblem> problems;
  SpecReader reader{problems, api->backend.now()};
  row.name = request.param("name");
  if (row.name.empty() || row.name.size() > 128)
    return answer.fail(bad_field("name", "a name has 1 to 128 bytes"));
  wire::read_fields(reader, {}, body, row, fields);
  if (!problems.empty())
    return answer.fail(bad_field(problems.front().field.empty() ? "body" : problems.front().field,
                                 problems.front().message, problems.front().hint));
  const std::string who = identity_of(request).owner;
  api->backend.change_shares(
      [row, who](ControlPlane& plane, Now now) { return (plane.*K.put)(now, row, who); },
      [api, answer, name = row.name](Result<Warnings> done) {
        if (!done) return answer.fail(done.error());
        answer_with<K>(api, answer, name, &*done);
      });
}

void put_queue(const ApiPtr& api, const http::Request& request, Answer answer) {
  put_row<kQueues>(api, request, answer, QueueRow{}, kQueueFields);
}
void put_project(const ApiPtr& api, const http::Request& request, Answer answer) {
  put_row<kProjects>(api, request, answer, ProjectRow{}, kProjectFields);
}
void put_reservation(const ApiPtr& api, const http::Request& request, Answer answer) {
  ReservationRow row;
  row.from = api->backend.now().wall;
  put_row<kReservations>(api, request, answer, row, kReservationFields);
}

template <const auto& K>
void remove(const ApiPtr& api, const http::Request& request, Answer answer) {
  const std::string name = request.param("name"), who = identity_of(request).owner;
  api->backend.change_shares(
      [name, who](ControlPlane& plane, Now now) { return (plane.*K.remove)(now, name, who); },
      [answer](Result<Warnings> done) {
        if (!done) return answer.fail(done.error());
        answer.json(200, json::object{{"removed", true}});
      });
}

template <const auto& K>
std::string as_it_is(const ControlPlane& plane, const std::string& name) {
  const auto& rows = K.rows(plane.shares());
  const auto row = rows.find(name);
  return row == rows.end() ? "" : json::serialize(view(plane, row->second));
}

}  // namespace

std::string share_before(const ControlPlane& plane, const http::Request& request) {
  if (request.route == "/v1/queues/{name}") return as_it_is<kQueues>(plane, request.param("name"));
  if (request.route == "/v1/projects/{name}") return as_it_is<kProjects>(plane, request.param("name"));
  if (request.route == "/v1/reservations/{name}")
    return as_it_is<kReservations>(plane, request.param("name"));
  return "";
}

void add_share_routes(const Routes& routes) {
  routes.get("/v1/queues", "queues.list", Need::signed_in, list<kQueues>);
  routes.get("/v1/queues/{name}", "queues.get", Need::signed_in, get<kQueues>);
  routes.put("/v1/queues/{name}", "queues.put", Need::operate, put_queue);
  routes.remove("/v1/queues/{name}", "queues.delete", Need::operate, remove<kQueues>);
  routes.get("/v1/projects", "projects.list", Need::signed_in, list<kProjects>);
  routes.get("/v1/projects/{name}", "projects.get", Need::signed_in, get<kProjects>);
  routes.put("/v1/projects/{name}", "projects.put", Need::operate, put_project);
  routes.remove("/v1/projects/{name}", "projects.delete", Need::operate, remove<kProjects>);
  routes.get("/v1/reservations", "reservations.list", Need::signed_in, list<kReservations>);
  routes.get("/v1/reservations/{name}", "reservations.get", Need::signed_in, get<kReservations>);
  routes.put("/v1/reservations/{name}", "reservations.put", Need::operate, put_reservation);
  routes.remove("/v1/reservations/{name}", "reservations.delete", Need::operate, remove<kReservations>);
}

}  // namespace tutti::api
