#include "scheduler/decisions/codec.h"

#include <sodium.h>

#include "api/wire/job_spec_codec.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti {

// ---------------------------------------------------------------- what is not simply its fields

// The spec is read out of its JSON again.
template <class A>
void own_way(A& a, SpecPtr& spec) {
  static_assert(A::kReads);
  spec = a.whole() == 0 ? nullptr : std::make_shared<const JobSpec>();
}
template <class A>
void own_way(A& a, const SpecPtr& spec) {
  a.whole(spec ? 1 : 0);
}

// The table stands beside the settings, as text.
template <class A>
void own_way(A& /*a*/, std::shared_ptr<const FaultTable>& /*table*/) {}
template <class A>
void own_way(A& /*a*/, const std::shared_ptr<const FaultTable>& /*table*/) {}

// Policies have names, and no other settings than those that come with the name.
template <class A>
void own_way(A& a, planner::Policy& policy) {
  const std::string name = a.text();
  const auto found = planner::find_policy(name);
  if (!found) throw decisions::BadBytes("no policy '" + name + "' in this version");
  policy = *found;
}
template <class A>
void own_way(A& a, const planner::Policy& policy) {
  a.text(policy.name);
}

namespace {

template <class A, class T>
void key_fields(A& a, T& k) {
  decisions::pass(a, k.owner);
  a.masked(k.key);
}

}  // namespace

template <class A>
void own_way(A& a, Snapshot::Key& k) {
  key_fields(a, k), decisions::pass(a, k.body_hash), decisions::pass(a, k.job);
}
template <class A>
void own_way(A& a, const Snapshot::Key& k) {
  key_fields(a, k), decisions::pass(a, k.body_hash), decisions::pass(a, k.job);
}
template <class A>
void own_way(A& a, const Batch::OldKey& k) {
  key_fields(a, k);
}
template <class A>
void own_way(A& a, const SpecRow& row) {
  const auto& [id, owner, name, spec_json, created_at, initial_state, key, body_hash] = row;
  decisions::pass(a, id), decisions::pass(a, owner), decisions::pass(a, name);
  decisions::pass(a, spec_json), decisions::pass(a, created_at), decisions::pass(a, initial_state);
  a.masked(key);
  decisions::pass(a, body_hash);
}

namespace {

template <class A, class T>
void request_fields(A& a, T& request) {
  auto& [spec, spec_json, owner, key, body_hash, past, after, task_of] = request;
  decisions::pass(a, spec), decisions::pass(a, spec_json), decisions::pass(a, owner);
  a.masked(key);
  decisions::pass(a, body_hash), decisions::pass(a, past), decisions::pass(a, after);
  decisions::pass(a, task_of);
}

}  // namespace

template <class A>
void own_way(A& a, const SubmitRequest& request) {
  request_fields(a, request);
}
template <class A>
void own_way(A& a, SubmitRequest& request) {
  request_fields(a, request);
  if (request.spec) request.spec = decisions::spec_text().parse(request.spec_json);
}

namespace decisions {
namespace {

// Arguments as they are kept: a view needs somebody who holds the text.
template <class T>
using Kept = std::conditional_t<std::is_same_v<T, std::string_view>, std::string, T>;
template <class Tuple>
struct KeptArguments;
template <class... T>
struct KeptArguments<std::tuple<T...>> {
  using Types = std::tuple<Kept<T>...>;
};

template <class I>
void write_one(ByteWriter& out, const void* const* arguments) {
  using Types = arguments_of<I::kMethod>;
  [&]<std::size_t... N>(std::index_sequence<N...>) {
    (pass(out, *static_cast<const std::tuple_element_t<N, Types>*>(arguments[N])), ...);
  }
  (std::make_index_sequence<std::tuple_size_v<Types>>{});
}

template <class I>
Call read_one(ByteReader& in) {
  typename KeptArguments<arguments_of<I::kMethod>>::Types arguments;
  pass_fields(in, arguments);
  return [arguments = std::move(arguments)](ControlPlane& plane, Now now) {
    std::apply([&](const auto&... a) { (void)(plane.*I::kMethod)(now, a...); }, arguments);
  };
}

struct Method {
  std::string_view name;
  void (*write)(ByteWriter&, const void* const*);
  Call (*read)(ByteReader&);
};
template <std::size_t... N>
constexpr auto methods_of(std::index_sequence<N...>) {
  return std::array{Method{std::tuple_element_t<N, PlaneInputs>::name(),
                           write_one<std::tuple_element_t<N, PlaneInputs>>,
                           read_one<std::tuple_element_t<N, PlaneInputs>>}...};
}
constexpr auto kMethods = methods_of(std::make_index_sequence<kPlaneInputs>{});

const Method& method_at(std::size_t number) {
  if (number >= kMethods.size()) throw BadBytes("input " + std::to_string(number) + " is unknown");
  return kMethods[number];
}

template <class A, class T>
void opening_fields(A& a, T& o) {
  pass(a, o.now), pass(a, o.settings), pass(a, o.fault_table), pass(a, o.fault_table_id);
  pass(a, o.lease_settings), pass(a, o.others_until), pass(a, o.leases), pass(a, o.snapshot);
}

}  // namespace

Digest digest_of(std::string_view bytes) {
  Digest out{};
  crypto_generichash(out.data(), out.size(), reinterpret_cast<const unsigned char*>(bytes.data()),
                     bytes.size(), nullptr, 0);
  return out;
}

std::string hex(const Digest& digest) {
  std::string out;
  for (const unsigned char byte : digest) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

std::string layout() {
  std::string words;
  describe<ControlSettings>(words);
  describe<LeaseSettings>(words);
  describe<LeaseTable::Lease>(words);
  describe<Snapshot>(words);
  describe<Output>(words);
  describe<JobSpec>(words);
  describe<PastJob>(words);
  [&]<std::size_t... N>(std::index_sequence<N...>) {
    ((words += std::tuple_element_t<N, PlaneInputs>::name(),
      describe<arguments_of<std::tuple_element_t<N, PlaneInputs>::kMethod>>(words)),
     ...);
  }
  (std::make_index_sequence<kPlaneInputs>{});
  return hex(digest_of(words)).substr(0, 16);
}

void write(ByteWriter& out, const Opening& opening) { opening_fields(out, opening); }

Opening read_opening(ByteReader& in) {
  Opening opening;
  opening_fields(in, opening);
  if (!opening.snapshot) throw BadBytes("no rows to begin from");
  if (opening.fault_table.empty()) return opening;
  auto table = FaultTable::parse(opening.fault_table);
  if (!table) throw BadBytes("the fault table: " + table.error().message);
  opening.settings.faults = std::make_shared<const FaultTable>(*std::move(table));
  return opening;
}

void write_call(ByteWriter& out, std::size_t method, const void* const* arguments) {
  out.whole(static_cast<std::size_t>(Tag::call) + method);
  method_at(method).write(out, arguments);
}

Call read_call(ByteReader& in, std::size_t method) { return method_at(method).read(in); }

std::string_view input_name(std::size_t method) { return method_at(method).name; }

bool sees_leases(std::size_t method) {
  return method == number_of_input<&ControlPlane::on_tick>() ||
         method == number_of_input<&ControlPlane::on_peer_silence>() ||
         method == number_of_input<&ControlPlane::on_node_off>();
}

void write_output(std::string& bytes, const Output& output, const ByteWriter::Mask* mask) {
  const std::size_t begin = bytes.size();
  ByteWriter out(bytes, mask);
  pass(out, output);
  if (bytes.find_first_not_of('\0', begin) == std::string::npos) bytes.resize(begin);
}

void write(ByteWriter& out, const LeaseChanges& changes) {
  out.whole(static_cast<std::uint64_t>(Tag::leases));
  pass(out, changes);
}

LeaseChanges read_lease_changes(ByteReader& in) {
  LeaseChanges changes;
  pass(in, changes);
  return changes;
}

SpecText spec_text() {
  return {.parse =
              [](std::string_view json) {
                return std::make_shared<const JobSpec>(wire::parse_spec_json(json, Now{}).spec);
              },
          .encode = wire::encode_spec};
}

}  // namespace decisions
}  // namespace tutti
