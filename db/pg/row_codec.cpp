#include "db/pg/row_codec.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>

#include "db/pg/params.h"
#include "db/store.h"

namespace tutti::db {
namespace json = boost::json;

namespace {

template <class TypedId>
TypedId read_id(RowReader& r) {
  return TypedId(r.bigint());
}
template <class TypedId>
TypedId read_optional_id(RowReader& r) {
  return TypedId(r.bigint_or_null().value_or(0));
}
template <class Enum>
Enum read_enum(RowReader& r) {
  return static_cast<Enum>(r.smallint());
}
Instant read_optional_instant(RowReader& r) { return r.timestamptz_or_null().value_or(Instant{}); }

// A hand may have written fewer or more than there are causes, or NULL: what is not there is 0.
std::array<std::int16_t, kCauseCount> read_spent(RowReader& r) {
  std::array<std::int16_t, kCauseCount> spent{};
  auto rest = r.bytes_or_null().value_or(std::string_view());
  const auto next = [&rest](std::size_t size) {  // of big-endian bytes; 0 when there are no more
    std::uint32_t value = 0;
    for (const char byte : rest.substr(0, size)) value = value << 8 | static_cast<unsigned char>(byte);
    rest.remove_prefix(std::min(size, rest.size()));
    return value;
  };
  constexpr std::size_t kOfDimension = 8;  // its size and lower bound
  const std::uint32_t dimensions = next(4);
  next(4), next(4);  // whether there are NULLs, the type of elements
  rest.remove_prefix(std::min(rest.size(), dimensions * kOfDimension));
  for (std::size_t i = 0; i < kCauseCount && !rest.empty(); ++i)
    if (next(4) == sizeof spent[i]) spent[i] = static_cast<std::int16_t>(next(sizeof spent[i]));
  return spent;
}

json::string clean(const std::string& s) {
  return json::string(is_clean_text(s) ? std::string_view(s) : std::string_view(clean_text(s)));
}

json::value parse(std::string_view text, const char* column) {
  json::error_code ec;
  json::value v = json::parse(json::string_view(text.data(), text.size()), ec);
  if (ec) throw StoreError(StoreError::corrupt, std::string("column ") + column + ": " + ec.message());
  return v;
}

// Of a column that SQL holds to be JSON: what our parser refuses all the same, as too deep, is nothing.
json::value parse_or_null(std::string_view text) {
  json::error_code ec;
  json::value v = json::parse(json::string_view(text.data(), text.size()), ec);
  return ec ? json::value() : v;
}

// A hand may have written a number where a text belongs: it is taken as that text.
std::string text_of(const json::value& value) {
  const json::string* text = value.if_string();
  return text != nullptr ? std::string(text->c_str()) : json::serialize(value);
}

// One entry of the column `gang`: by gang_json(), or by somebody's hand. What is not as it ought to be is
// thrown with its name.
class MemberText {
 public:
  MemberText(const json::value& entry, std::size_t number) : entry_(entry.if_object()), number_(number) {
    if (entry_ == nullptr) bad("no object");
  }

  GangMember member() const {
    GangMember m;
    m.node = NodeId(whole<std::int64_t>("node"));
    m.node_name = text("node_name");
    const json::array* gpus = field("gpus").if_array();
    if (gpus == nullptr) bad("\"gpus\" is no array");
    for (const auto& gpu : *gpus) m.gpus.emplace_back(whole_of<std::int64_t>(gpu, "gpus"));
    m.first_rank = whole<std::int32_t>("first_rank");
    m.ranks = whole<std::int32_t>("ranks");
    const auto state = whole<std::int32_t>("state");
    if (state < static_cast<int>(MemberState::asked) || state > static_cast<int>(MemberState::ended))
      bad("\"state\" is " + std::to_string(state));
    m.state = static_cast<MemberState>(state);
    m.address = text("address");
    m.agent_port = whole<std::int32_t>("agent_port");
    m.master_port = whole<std::int32_t>("master_port");
    const bool* ok = field("ok").if_bool();
    if (ok == nullptr) bad("\"ok\" is neither true nor false");
    m.ok = *ok;
    m.exit_code = whole<std::int32_t>("exit_code");
    m.signal = whole<std::int32_t>("signal");
    m.how = text("how");
    return m;
  }

 private:
  [[noreturn]] void bad(const std::string& what) const {
    throw StoreError(StoreError::corrupt, "column gang, entry " + std::to_string(number_) + ": " + what);
  }
  const json::value& field(const char* key) const {
    const json::value* value = entry_->if_contains(key);
    if (value == nullptr) bad(std::string("there is no \"") + key + "\"");
    return *value;
  }
  std::string text(const char* key) const {
    const json::string* value = field(key).if_string();
    if (value == nullptr) bad(std::string("\"") + key + "\" is no text");
    return std::string(value->c_str());
  }
  template <class Number>
  Number whole(const char* key) const {
    return whole_of<Number>(field(key), key);
  }
  template <class Number>
  Number whole_of(const json::value& value, const char* key) const {
    json::error_code ec;
    const auto number = value.to_number<Number>(ec);
    if (ec) bad(std::string("\"") + key + "\" is no whole number in range");
    return number;
  }

  const json::object* entry_;
  std::size_t number_;  // from 1
};

}  // namespace

JobRow read_job(RowReader& r) {
  JobRow j;
  j.id = read_id<JobId>(r);
  j.version = r.integer();
  j.state = read_enum<JobState>(r);
  j.cause = read_enum<Cause>(r);
  j.priority = r.smallint();
  j.front = r.boolean();
  j.queue = Name(r.bytes());
  j.project = Name(r.bytes());
  j.owner = Name(r.bytes());
  j.nodes = r.integer();
  j.gpus_per_node = r.integer();
  j.created_at = r.timestamptz();
  j.queued_at = r.timestamptz();
  j.not_before = read_optional_instant(r);
  j.epoch = read_id<Epoch>(r);
  j.attempt = r.integer();
  j.spent = read_spent(r);
  j.no_progress = r.smallint();
  j.best_step = r.bigint();
  j.hardware_window_at = read_optional_instant(r);
  j.reason = r.text();
  j.ran = Duration(r.bigint());
  return j;
}

bool never_ran(const JobRow& j) {
  return j.cause == Cause::none && !j.front && !j.epoch && j.attempt == 0 && j.no_progress == 0 &&
         j.best_step == -1 && j.hardware_window_at == Instant{} && !spent_text(j.spent) &&
         j.ran == Duration::zero();
}

QueueRow read_queue(RowReader& r) {
  QueueRow q;
  q.name = r.text();
  q.nodes_of = r.text();
  q.quota_gpus = r.integer();
  q.borrow_gpus = r.integer();
  q.lend_gpus = r.integer();
  return q;
}

ProjectRow read_project(RowReader& r) {
  ProjectRow p;
  p.name = r.text();
  p.parent = r.text();
  p.weight = std::strtod(r.text().c_str(), nullptr);            // std::stod throws at 1e-310
  if (!std::isnormal(p.weight) || p.weight <= 0) p.weight = 1;  // by hand; constraints refuse most of it
  p.max_gpus = r.integer();
  return p;
}

ReservationRow read_reservation(RowReader& r) {
  ReservationRow v;
  v.name = r.text();
  v.reason = r.text();
  for (auto* into : {&v.nodes, &v.projects}) {
    const std::string text = r.text();
    const json::value names = parse_or_null(text);
    if (const json::array* list = names.if_array())
      for (const auto& name : *list) into->push_back(text_of(name));
  }
  v.from = r.timestamptz();
  v.until = r.timestamptz();
  return v;
}

std::string names_json(const std::vector<std::string>& names) {
  json::array out;
  for (const auto& name : names) out.emplace_back(clean(name));
  return json::serialize(out);
}

AttemptRow read_attempt(RowReader& r, std::string* damage) {
  AttemptRow a;
  a.job = read_id<JobId>(r);
  a.epoch = read_id<Epoch>(r);
  a.number = r.integer();
  a.state = read_enum<AttemptState>(r);
  a.result = read_enum<AttemptResult>(r);
  a.cause = read_enum<Cause>(r);
  a.detail = r.text();
  a.evidence_json = r.text();
  a.gang = gang_if_readable(r.bytes(), damage);
  a.resume_path = r.text();
  a.resume_step = r.bigint();
  a.last_step = r.bigint();
  a.exit_code = r.integer();
  for (Instant* at : {&a.placed_at, &a.preflight_at, &a.starting_at, &a.running_at, &a.restored_at,
                      &a.caught_up_at, &a.fault_at, &a.stopping_at, &a.ended_at})
    *at = read_optional_instant(r);
  a.signature = r.text();
  a.lost_gpu = Duration(r.bigint());
  a.continue_for = Duration(r.bigint());
  a.witness = read_id<NodeId>(r);
  return a;
}

AllocationRow read_allocation(RowReader& r) {
  AllocationRow a;
  a.gpu = read_id<GpuId>(r);
  a.job = read_id<JobId>(r);
  a.epoch = read_id<Epoch>(r);
  a.from = r.timestamptz();
  a.until = r.timestamptz_or_null();
  return a;
}

NodeRow read_node(RowReader& r) {
  NodeRow n;
  n.id = read_id<NodeId>(r);
  n.name = r.text();
  n.queue = r.text();
  n.address = r.text();
  n.boot_id = r.text();
  n.worker_version = r.text();
  n.state = read_enum<NodeState>(r);
  n.service = read_enum<NodeService>(r);
  n.service_reason = r.text();
  n.cpus = r.integer();
  n.memory_bytes = r.bigint();
  n.kill_mode = r.text();
  n.driver = r.text();
  n.simulated_gpus = r.boolean();
  n.labels = parse_labels(r.bytes());
  n.registered_at = read_optional_instant(r);
  for (Instant* at : {&n.state_at, &n.service_at, &n.service_until}) *at = read_optional_instant(r);
  n.returns = r.integer();
  n.instance = r.text();
  n.returned_at = read_optional_instant(r);
  return n;
}

GpuRow read_gpu(RowReader& r) {
  GpuRow g;
  g.id = read_id<GpuId>(r);
  g.node = read_id<NodeId>(r);
  g.uuid = r.text();
  g.index = r.integer();
  g.model = r.text();
  g.memory_bytes = r.bigint();
  g.pci = r.text();
  g.island = r.integer();
  g.health = read_enum<GpuHealth>(r);
  g.health_reason = r.text();
  g.present = r.boolean();
  return g;
}

CheckpointRow read_checkpoint(RowReader& r) {
  CheckpointRow c;
  c.job = read_id<JobId>(r);
  c.epoch = read_id<Epoch>(r);
  c.step = r.bigint();
  c.path = r.text();
  c.bytes = r.bigint();
  c.shards = r.integer();
  c.at = r.timestamptz();
  c.state = read_enum<CheckpointState>(r);
  c.detail = r.text();
  c.restored = r.boolean();
  c.failed_restores = r.smallint();
  c.cost = Duration(r.bigint());
  c.retired_at = read_optional_instant(r);
  c.deleting = r.boolean();
  c.deleted_at = read_optional_instant(r);
  return c;
}

EventRow read_event(RowReader& r) {
  EventRow e;
  e.id = read_id<EventId>(r);
  e.at = r.timestamptz();
  e.job = read_optional_id<JobId>(r);
  e.node = read_optional_id<NodeId>(r);
  e.epoch = read_optional_id<Epoch>(r);
  e.kind = r.text();
  e.from = r.text();
  e.to = r.text();
  e.cause = read_enum<Cause>(r);
  e.detail = r.text();
  return e;
}

FaultRow read_fault(RowReader& r) {
  FaultRow f;
  f.id = read_id<FaultId>(r);
  f.at = r.timestamptz();
  f.node = read_optional_id<NodeId>(r);
  f.gpu = read_optional_id<GpuId>(r);
  f.job = read_optional_id<JobId>(r);
  f.epoch = read_optional_id<Epoch>(r);
  f.fault_class = r.text();
  f.xid = r.integer();
  f.action = r.text();
  f.detail = r.text();
  f.rule = r.text();
  f.slot = r.text();
  f.shared_by = r.integer();
  return f;
}

std::string gang_json(const std::vector<GangMember>& gang) {
  json::array out;
  for (const auto& m : gang) {
    json::array gpus;
    for (GpuId g : m.gpus) gpus.emplace_back(g.value);
    json::object o;
    o["node"] = m.node.value;
    o["node_name"] = clean(m.node_name);
    o["gpus"] = std::move(gpus);
    o["first_rank"] = m.first_rank;
    o["ranks"] = m.ranks;
    o["state"] = static_cast<int>(m.state);
    o["address"] = clean(m.address);
    o["agent_port"] = m.agent_port;
    o["master_port"] = m.master_port;
    o["ok"] = m.ok;
    o["exit_code"] = m.exit_code;
    o["signal"] = m.signal;
    o["how"] = clean(m.how);
    out.emplace_back(std::move(o));
  }
  return json::serialize(out);
}

std::vector<GangMember> parse_gang(std::string_view text) {
  const json::value parsed = parse(text, "gang");
  const json::array* entries = parsed.if_array();
  if (entries == nullptr) throw StoreError(StoreError::corrupt, "column gang is no array");
  std::vector<GangMember> gang;
  for (const auto& entry : *entries) gang.push_back(MemberText(entry, gang.size() + 1).member());
  return gang;
}

std::vector<GangMember> gang_if_readable(std::string_view text, std::string* damage) {
  try {
    return parse_gang(text);
  } catch (const StoreError& e) {
    if (damage != nullptr) *damage = e.what();
    return {};
  }
}

std::string labels_json(const std::map<std::string, std::string>& labels) {
  json::object o;
  for (const auto& [key, value] : labels) o[std::string_view(clean(key))] = clean(value);
  return json::serialize(o);
}

std::map<std::string, std::string> parse_labels(std::string_view text) {
  const json::value parsed = parse_or_null(text);
  std::map<std::string, std::string> labels;
  if (const json::object* object = parsed.if_object())
    for (const auto& [key, value] : *object) labels[std::string(key)] = text_of(value);
  return labels;
}

std::optional<std::string> spent_text(const std::array<std::int16_t, kCauseCount>& spent) {
  bool any = false;
  for (auto n : spent) any = any || n != 0;
  if (!any) return std::nullopt;
  std::string out = "{";
  for (std::size_t i = 0; i < kCauseCount; ++i) out += (i ? "," : "") + std::to_string(spent[i]);
  return out + "}";
}

}  // namespace tutti::db
