// JSON codec of messages.h. A worker is upgraded under running supervisors, so both sides meet older and
// newer ones: an absent field keeps its default, an unknown one is passed over; a field of the wrong type is
// an error.
#include "worker/supervisor/messages.h"

#include <boost/json.hpp>
#include <limits>
#include <stdexcept>

#include "worker/supervisor/text.h"

namespace tutti::supervisor {
namespace {

namespace json = boost::json;

[[noreturn]] void malformed(std::string_view what) { throw std::invalid_argument(std::string(what)); }

// ---------------------------------------------------------------- reading one field

void read(const json::value& v, std::string& out) { out = std::string(v.as_string()); }
void read(const json::value& v, bool& out) { out = v.as_bool(); }
template <class Int>
  requires std::is_integral_v<Int>
void read(const json::value& v, Int& out) {
  out = json::value_to<Int>(v);  // throws when it does not fit
}
void read(const json::value& v, std::map<std::string, std::string>& out) {
  out.clear();
  for (const auto& [name, value] : v.as_object()) out[std::string(name)] = std::string(value.as_string());
}
void read(const json::value& v, std::vector<std::uint32_t>& out) {
  out = json::value_to<std::vector<std::uint32_t>>(v);
}
void read(const json::value& v, std::vector<std::string>& out) {
  out.clear();
  for (const json::value& item : v.as_array()) out.emplace_back(item.as_string());
}

template <class T>
void field(const json::object& from, std::string_view name, T& out) {
  const json::value* v = from.if_contains(name);
  if (v == nullptr) return;
  try {
    read(*v, out);
  } catch (const std::exception&) {
    malformed("field \"" + std::string(name) + "\" has the wrong type");
  }
}

const json::object* object_field(const json::object& from, std::string_view name) {
  const json::value* v = from.if_contains(name);
  if (v == nullptr) return nullptr;
  if (!v->is_object()) malformed("field \"" + std::string(name) + "\" must be an object");
  return &v->get_object();
}

template <class Each>
void array_field(const json::object& from, std::string_view name, Each each) {
  const json::value* v = from.if_contains(name);
  if (v == nullptr) return;
  if (!v->is_array()) malformed("field \"" + std::string(name) + "\" must be an array");
  for (const json::value& item : v->get_array()) {
    if (!item.is_object()) malformed("an item of \"" + std::string(name) + "\" must be an object");
    each(item.get_object());
  }
}

json::object parse_object(std::string_view text) {
  json::error_code error;
  json::value v = json::parse(json::string_view(text.data(), text.size()), error);
  if (error) malformed("not JSON: " + error.message());
  if (!v.is_object()) malformed("not a JSON object");
  return std::move(v.get_object());
}

json::object object_of(const std::map<std::string, std::string>& map) {
  json::object out;
  for (const auto& [name, value] : map) out[name] = value;
  return out;
}

std::string line_of(const json::object& o) { return json::serialize(o) + '\n'; }

// ---------------------------------------------------------------- parts

protocol::Phase phase_named(std::string_view name) {
  if (const auto phase = protocol::parse_phase(name)) return *phase;
  malformed("unknown phase \"" + std::string(name) + "\"");
}

json::object encode_failure(const protocol::Failure& f) {
  return {{"kind", f.kind},
          {"rank", f.rank},
          {"exit_code", f.exit_code},
          {"signal", f.signal},
          {"boot_us", f.boot_us},
          {"detail", to_utf8(f.detail)},
          {"last_lines", to_utf8(f.last_lines)}};
}

protocol::Failure decode_failure(const json::object& o) {
  protocol::Failure f;
  field(o, "kind", f.kind);
  field(o, "rank", f.rank);
  field(o, "exit_code", f.exit_code);
  field(o, "signal", f.signal);
  field(o, "boot_us", f.boot_us);
  field(o, "detail", f.detail);
  field(o, "last_lines", f.last_lines);
  return f;
}

json::object encode_end(const protocol::End& e) {
  return {{"ok", e.ok}, {"proven", e.proven}, {"how", to_utf8(e.how)}, {"boot_us", e.boot_us}};
}

protocol::End decode_end(const json::object& o) {
  protocol::End e;
  field(o, "ok", e.ok);
  field(o, "proven", e.proven);
  field(o, "how", e.how);
  field(o, "boot_us", e.boot_us);
  return e;
}

json::object encode_process(const Process& p) {
  return {
      {"argv", json::value_from(p.argv)}, {"env", object_of(p.env)}, {"log", p.log}, {"is_rank", p.is_rank}};
}

Process decode_process(const json::object& o) {
  Process p;
  field(o, "argv", p.argv);
  field(o, "env", p.env);
  field(o, "log", p.log);
  field(o, "is_rank", p.is_rank);
  if (p.argv.empty()) malformed("a process needs a program: \"argv\" is empty");
  return p;
}

json::object encode_command(const Launch& launch) {
  json::array processes;
  for (const Process& p : launch.processes) processes.push_back(encode_process(p));
  return {{"type", "launch"}, {"processes", std::move(processes)}};
}
json::object encode_command(const Stop& stop) {
  return {{"type", "stop"}, {"cause", stop.cause}, {"signal", stop.signal}, {"grace_us", stop.grace_us}};
}
json::object encode_command(const SignalRanks& s) { return {{"type", "signal"}, {"signal", s.signal}}; }
json::object encode_command(const Quit&) { return {{"type", "quit"}}; }
json::object encode_command(const OpenShell& s) {
  return {{"type", "open_shell"}, {"shell", s.shell}, {"socket", s.socket},
          {"rank", s.rank},       {"term", s.term},   {"argv", json::value_from(s.argv)}};
}

}  // namespace

std::string encode(const ToSupervisor& command) {
  return std::visit([](const auto& c) { return line_of(encode_command(c)); }, command);
}

ToSupervisor decode_command(std::string_view line) {
  const json::object o = parse_object(line);
  std::string type;
  field(o, "type", type);
  if (type == "launch") {
    Launch launch;
    array_field(o, "processes",
                [&](const json::object& p) { launch.processes.push_back(decode_process(p)); });
    return launch;
  }
  if (type == "stop") {
    Stop stop;
    field(o, "cause", stop.cause);
    field(o, "signal", stop.signal);
    field(o, "grace_us", stop.grace_us);
    return stop;
  }
  if (type == "signal") {
    SignalRanks s;
    field(o, "signal", s.signal);
    return s;
  }
  if (type == "quit") return Quit{};
  if (type == "open_shell") {
    OpenShell s;
    field(o, "shell", s.shell);
    field(o, "socket", s.socket);
    field(o, "rank", s.rank);
    field(o, "term", s.term);
    field(o, "argv", s.argv);
    if (s.argv.empty() || s.socket.empty() || s.socket.find('/') != std::string::npos)
      malformed("\"argv\" or \"socket\" of a shell is wrong");
    return s;
  }
  malformed("unknown command \"" + type + "\"");
}

std::string encode(const Status& s) {
  json::object o{{"phase", protocol::name(s.phase)},
                 {"agent_port", s.agent_port},
                 {"master_port", s.master_port},
                 {"ranks_up", s.ranks_up},
                 {"ranks_done", s.ranks_done},
                 {"kill_mode", s.kill_mode},
                 {"pid", s.pid}};
  if (s.failure) o["failure"] = encode_failure(*s.failure);
  if (s.end) o["end"] = encode_end(*s.end);
  json::array ranks;
  for (const RankState& r : s.ranks)
    ranks.push_back(json::object{{"rank", r.rank},
                                 {"pid", r.pid},
                                 {"ended", r.ended},
                                 {"exit_code", r.exit_code},
                                 {"signal", r.signal},
                                 {"ended_boot_us", r.ended_boot_us}});
  o["ranks"] = std::move(ranks);
  return line_of(o);
}

Status decode_status(std::string_view line) {
  const json::object o = parse_object(line);
  Status s;
  std::string phase;
  field(o, "phase", phase);
  s.phase = phase_named(phase);
  field(o, "agent_port", s.agent_port);
  field(o, "master_port", s.master_port);
  field(o, "ranks_up", s.ranks_up);
  field(o, "ranks_done", s.ranks_done);
  field(o, "kill_mode", s.kill_mode);
  field(o, "pid", s.pid);
  array_field(o, "ranks", [&](const json::object& r) {
    RankState rank;
    field(r, "rank", rank.rank);
    field(r, "pid", rank.pid);
    field(r, "ended", rank.ended);
    field(r, "exit_code", rank.exit_code);
    field(r, "signal", rank.signal);
    field(r, "ended_boot_us", rank.ended_boot_us);
    s.ranks.push_back(rank);
  });
  if (const json::object* failure = object_field(o, "failure")) s.failure = decode_failure(*failure);
  if (const json::object* end = object_field(o, "end")) s.end = decode_end(*end);
  return s;
}

std::string encode(const Config& c) {
  json::array devices;
  for (const Device& d : c.devices)
    devices.push_back(json::object{{"path", d.path}, {"uuid", d.uuid}, {"simulated", d.simulated}});
  return line_of({{"job", c.key.job.value},
                  {"epoch", c.key.epoch.value},
                  {"dir", c.dir},
                  {"uid", c.uid},
                  {"gid", c.gid},
                  {"groups", json::value_from(c.groups)},
                  {"user", c.user},
                  {"home", c.home},
                  {"shell", c.shell},
                  {"allow_root", c.allow_root},
                  {"private_tmp", c.private_tmp},
                  {"memory_bytes", c.memory_bytes},
                  {"shm_bytes", c.shm_bytes},
                  {"programs", c.programs},
                  {"workdir", c.workdir},
                  {"setup", c.setup},
                  {"setup_timeout_us", c.setup_timeout_us},
                  {"env", object_of(c.env)},
                  {"devices", std::move(devices)},
                  {"first_rank", c.first_rank},
                  {"local_ranks", c.local_ranks},
                  {"listen_agent", c.listen_agent},
                  {"listen_address", c.listen_address},
                  {"secret", c.secret},
                  {"pick_master_port", c.pick_master_port},
                  {"lease_path", c.lease_path},
                  {"kill_mode", c.kill_mode},
                  {"cgroup_parent", c.cgroup_parent}});
}

Config decode_config(std::string_view text) {
  const json::object o = parse_object(text);
  Config c;
  field(o, "job", c.key.job.value);
  field(o, "epoch", c.key.epoch.value);
  field(o, "dir", c.dir);
  field(o, "uid", c.uid);
  field(o, "gid", c.gid);
  field(o, "groups", c.groups);
  field(o, "user", c.user);
  field(o, "home", c.home);
  field(o, "shell", c.shell);
  field(o, "allow_root", c.allow_root);
  field(o, "private_tmp", c.private_tmp);
  field(o, "memory_bytes", c.memory_bytes);
  field(o, "shm_bytes", c.shm_bytes);
  field(o, "programs", c.programs);
  field(o, "workdir", c.workdir);
  field(o, "setup", c.setup);
  field(o, "setup_timeout_us", c.setup_timeout_us);
  field(o, "env", c.env);
  array_field(o, "devices", [&](const json::object& d) {
    Device device;
    field(d, "path", device.path);
    field(d, "uuid", device.uuid);
    field(d, "simulated", device.simulated);
    c.devices.push_back(std::move(device));
  });
  field(o, "first_rank", c.first_rank);
  field(o, "local_ranks", c.local_ranks);
  field(o, "listen_agent", c.listen_agent);
  field(o, "listen_address", c.listen_address);
  field(o, "secret", c.secret);
  field(o, "pick_master_port", c.pick_master_port);
  field(o, "lease_path", c.lease_path);
  field(o, "kill_mode", c.kill_mode);
  field(o, "cgroup_parent", c.cgroup_parent);
  if (!c.key.job || !c.key.epoch) malformed("\"job\" and \"epoch\" must be set");
  if (c.dir.empty() || c.dir.front() != '/') malformed("\"dir\" must be an absolute path");
  if (c.local_ranks < 0 || c.first_rank < 0) malformed("ranks cannot be negative");
  if (c.kill_mode != "auto" && c.kill_mode != "cgroup2" && c.kill_mode != "process-group")
    malformed("unknown kill_mode \"" + c.kill_mode + "\"");
  return c;
}

}  // namespace tutti::supervisor
