// The writing half of job_spec_codec: appended by hand, since every submission pays for it.
#include <charconv>

#include "api/wire/job_spec_codec.h"
#include "api/wire/text_values.h"

namespace tutti::wire {
namespace {

void append_quoted(std::string& out, std::string_view text) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  std::size_t plain = 0;  // start of what needs no escape and is not written yet
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text, plain, i - plain);
    plain = i + 1;
    out += '\\';
    switch (c) {
      case '"': out += '"'; break;
      case '\\': out += '\\'; break;
      case '\n': out += 'n'; break;
      case '\t': out += 't'; break;
      case '\r': out += 'r'; break;
      default:
        out += "u00";
        out += kHex[c >> 4];
        out += kHex[c & 15];
    }
  }
  out.append(text, plain);
  out += '"';
}

/// Writes one object; knows where commas go.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out) : out_(out) { out_ += '{'; }
  ~ObjectWriter() { out_ += '}'; }
  ObjectWriter(const ObjectWriter&) = delete;
  ObjectWriter& operator=(const ObjectWriter&) = delete;

  /// Of a field of ours, which needs no escape.
  std::string& key(std::string_view name) {
    out_ += first_ ? "\"" : ",\"";
    first_ = false;
    return out_.append(name) += "\":";
  }
  void text(std::string_view name, std::string_view value) { append_quoted(key(name), value); }
  void number(std::string_view name, std::int64_t value) {
    char digits[24];
    key(name).append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  }
  void boolean(std::string_view name, bool value) { key(name) += value ? "true" : "false"; }
  void optional(std::string_view name, const std::optional<Duration>& value) {
    if (value)
      text(name, format_duration(*value));
    else
      key(name) += "null";
  }
  void bytes(std::string_view name, std::int64_t value) {
    const auto written = format_bytes(value);
    if (written.back() == 'B')
      text(name, written);
    else
      key(name) += written;
  }
  void optional(std::string_view name, const std::optional<Instant>& at) {
    if (at)
      text(name, format_instant(*at));
    else
      key(name) += "null";
  }
  void list(std::string_view name, const std::vector<std::string>& items) {
    auto& out = key(name) += '[';
    for (const auto& item : items) {
      if (out.back() != '[') out += ',';
      append_quoted(out, item);
    }
    out += ']';
  }
  template <class Map>
  void texts(std::string_view name, const Map& map) {
    ObjectWriter inner(key(name));
    for (const auto& [k, v] : map) append_quoted(inner.quoted_key(k), v);
  }

 private:
  std::string& quoted_key(std::string_view name) {
    if (!first_) out_ += ',';
    first_ = false;
    append_quoted(out_, name);
    return out_ += ':';
  }

  std::string& out_;
  bool first_ = true;
};

void write_resources(ObjectWriter& o, const Resources& r) {
  ObjectWriter w(o.key("resources"));
  const auto ask = [&](const GpuKind& kind) {
    return (kind.model.empty() ? format_bytes(kind.memory_bytes) : kind.model) + ":" + std::to_string(r.gpus);
  };
  if (r.gpu_kinds.empty()) {
    w.number("gpus", r.gpus);
  } else if (r.gpu_kinds.size() == 1) {
    w.text("gpus", ask(r.gpu_kinds.front()));
  } else {
    std::vector<std::string> asks;
    for (const auto& kind : r.gpu_kinds) asks.push_back(ask(kind));
    w.list("gpus", asks);
  }
  w.number("cpus", r.cpus);
  w.bytes("memory", r.memory_bytes);
  if (r.shm_bytes > 0) w.bytes("shm_size", r.shm_bytes);
}

// Only of those that have one.
void write_image(ObjectWriter& w, const JobSpec& s) {
  if (s.image.empty()) return;
  w.text("image", s.image);
  auto& list = w.key("mounts") += '[';
  for (const auto& m : s.mounts) {
    if (list.back() != '[') list += ',';
    ObjectWriter one(list);
    one.text("source", m.source);
    one.text("target", m.target);
    one.boolean("read_only", m.read_only);
  }
  list += ']';
}

void write_placement(ObjectWriter& w, const JobSpec& s) {
  {
    ObjectWriter t(w.key("topology"));
    t.text("require", name(s.topology.require));
    t.text("prefer", name(s.topology.prefer));
    t.boolean("spread", s.topology.spread);
  }
  std::vector<std::string> constraints;
  for (const auto& c : s.constraints) constraints.push_back(to_string(c));
  w.list("constraints", constraints);
  w.list("exclude_nodes", s.exclude_nodes);
}

void write_time(ObjectWriter& w, const JobSpec& s) {
  w.optional("time_limit", s.time_limit);
  w.optional("total_time_limit", s.total_time_limit);
  w.optional("begin_time", s.begin_time);
  w.optional("deadline", s.deadline);
  auto& list = w.key("depends_on") += '[';
  for (const auto& d : s.depends_on) {
    if (list.back() != '[') list += ',';
    ObjectWriter one(list);
    if (d.job)
      one.number("job", d.job.value);
    else
      one.text("job", d.name);
    one.text("when", name(d.when));
    if (d.whole_array()) one.number("tasks", d.tasks);
  }
  list += ']';
  if (s.schedule) {
    ObjectWriter schedule(w.key("schedule"));
    schedule.text("cron", s.schedule->cron);
    schedule.text("overlap", name(s.schedule->overlap));
  } else {
    w.key("schedule") += "null";
  }
  if (s.scheduled_by)
    w.number("scheduled_by", s.scheduled_by.value);
  else
    w.key("scheduled_by") += "null";
  if (!s.array_task) {
    w.key("array") += "null";
    return;
  }
  ObjectWriter array(w.key("array"));
  array.number("index", s.array_task->index);
  array.number("position", s.array_task->position);
  array.number("tasks", s.array_task->tasks);
  array.number("max_parallel", s.array_task->max_parallel);
}

void write_retry(ObjectWriter& o, const RetryPolicy& r) {
  ObjectWriter w(o.key("retry"));
  {
    ObjectWriter budget(w.key("budget"));
    for (const auto& [cause, n] : r.budget) budget.number(name(cause), n);
  }
  {
    ObjectWriter backoff(w.key("backoff"));
    for (const auto& [cause, b] : r.backoff) {
      ObjectWriter one(backoff.key(name(cause)));
      one.text("initial", format_duration(b.initial));
      one.text("max", format_duration(b.max));
    }
  }
  {
    ObjectWriter codes(w.key("exit_codes"));
    for (const auto& [code, action] : r.exit_codes)
      codes.text(std::to_string(code), action == ExitAction::restart ? "restart" : "never");
  }
  w.number("no_progress_limit", r.no_progress_limit);
}

}  // namespace

std::string encode_spec(const JobSpec& s) {
  std::string out;
  out.reserve(768 + s.run.size() + s.setup.size());
  {
    ObjectWriter w(out);
    w.text("apiVersion", "v1");
    w.text("name", s.name);
    w.text("project", s.project);
    w.text("queue", s.queue);
    w.number("priority", s.priority);
    w.texts("labels", s.labels);
    if (s.min_nodes > 0)
      w.text("nodes", std::to_string(s.min_nodes) + ".." + std::to_string(s.nodes));
    else
      w.number("nodes", s.nodes);
    write_resources(w, s.resources);
    write_placement(w, s);
    write_image(w, s);
    w.text("workdir", s.workdir);
    w.texts("env", s.env);
    w.list("secrets", s.secrets);
    w.boolean("private_tmp", s.private_tmp);
    w.text("launcher", name(s.launcher));
    w.number("procs_per_node", s.procs_per_node);
    w.text("setup", s.setup);
    w.text("run", s.run);
    write_time(w, s);
    w.boolean("preemptible", s.preemptible);
    {
      ObjectWriter stop(w.key("stop"));
      stop.text("signal", s.stop.signal);
      stop.text("grace", format_duration(s.stop.grace));
    }
    {
      ObjectWriter checkpoint(w.key("checkpoint"));
      checkpoint.text("dir", s.checkpoint.dir);
      checkpoint.number("keep", s.checkpoint.keep);
      checkpoint.number("keep_every", s.checkpoint.keep_every);
      if (s.checkpoint.max_interval > Duration::zero())
        checkpoint.text("max_interval", format_duration(s.checkpoint.max_interval));
      else
        checkpoint.key("max_interval") += "null";
    }
    write_retry(w, s.retry);
    w.text("preflight", name(s.preflight));
    if (s.hang.after || s.hang.action) {
      ObjectWriter hang(w.key("hang"));
      hang.optional("after", s.hang.after);
      if (s.hang.action)
        hang.text("action", name(*s.hang.action));
      else
        hang.key("action") += "null";
    } else {
      w.key("hang") += "null";
    }
    auto& notify = w.key("notify") += '[';
    for (const auto& n : s.notify) {
      if (notify.back() != '[') notify += ',';
      ObjectWriter one(notify);
      one.list("on", n.on);
      one.text("to", "webhook:" + n.webhook);
    }
    notify += ']';
    w.key("compat") += s.compat_slurm ? "\"slurm\"" : "null";
  }
  return out;
}

}  // namespace tutti::wire
