#include "api/wire/job_spec_codec.h"

#include <algorithm>
#include <array>
#include <boost/json/monotonic_resource.hpp>
#include <utility>

#include "api/wire/spec_fields.h"
#include "api/wire/spec_image.h"
#include "api/wire/spec_placement.h"
#include "api/wire/spec_policy.h"
#include "api/wire/spec_reader.h"
#include "api/wire/spec_time.h"
#include "api/wire/strict_json.h"
#include "api/wire/text_values.h"
#include "api/wire/yaml_tree.h"
#include "scheduler/model/notice.h"

namespace tutti::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxScript = 64 << 10;

template <auto Member, class T>
void read_script(SpecReader& r, const Path& at, const json::value& v, T& into) {
  if (const auto s = r.string(at, v, kMaxScript)) into.*Member = std::string(*s);
}

// ---------------------------------------------------------------- resources

constexpr auto kResourceFields = std::to_array<Field<Resources>>({
    {"gpus", read_gpus},
    {"cpus", read_int<&Resources::cpus, 0, 4096>},
    {"memory", read_bytes<&Resources::memory_bytes>},
    {"shm_size", read_bytes<&Resources::shm_bytes>},
});

// ---------------------------------------------------------------- the spec itself

void read_api_version(SpecReader& r, const Path& at, const json::value& v, JobSpec&) {
  const auto s = r.string(at, v, 64);
  if (s && *s != "v1") r.problem(at, "unknown version " + shown(v), "this server reads \"v1\"");
}

void read_launcher(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto s = r.string(at, v, 64);
  if (!s) return;
  static constexpr auto kNames = std::to_array<std::string_view>({"direct", "mpirun", "torchrun", "script"});
  const auto launcher = parse_launcher(*s);
  if (launcher) {
    into.launcher = *launcher;
    return;
  }
  auto hint = did_you_mean(*s, kNames);
  r.problem(at, "unknown launcher " + shown(v), hint.empty() ? "direct, mpirun, torchrun or script" : hint);
}

constexpr int kProcsAuto = 0;

void read_procs(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  if (v.is_string() && v.get_string() == "auto")
    into.procs_per_node = kProcsAuto;
  else
    read_int<&JobSpec::procs_per_node, 1, 1024>(r, at, v, into);
}

void read_labels(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto* object = r.object(at, v, 64);
  if (object == nullptr) return;
  for (const auto& m : *object) {
    const Path here{&at, m.key()};
    if (m.key().empty() || m.key().size() > 128) r.problem(here, "a label's name has 1 to 128 bytes");
    if (auto s = r.scalar_text(here, m.value(), 1024)) into.labels.emplace(m.key(), std::move(*s));
  }
}

bool is_variable_name(std::string_view s) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !s.empty() && s.size() <= 256 && letter(s.front()) &&
         std::ranges::all_of(s, [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

void read_env(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  constexpr std::size_t kMaxValue = 32 << 10, kMaxTotal = 128 << 10;
  const auto* object = r.object(at, v, 256);
  if (object == nullptr) return;
  std::size_t total = 0;
  for (const auto& m : *object) {
    const Path here{&at, m.key()};
    if (!is_variable_name(m.key()))
      r.problem(here, "not the name of a variable", "letters, digits and '_', not starting with a digit");
    auto s = r.scalar_text(here, m.value(), kMaxValue);
    if (!s) continue;
    total += m.key().size() + s->size();
    into.env.emplace(m.key(), std::move(*s));
  }
  if (total > kMaxTotal) r.problem(at, "must be at most " + std::to_string(kMaxTotal) + " bytes together");
}

void read_secrets(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto* array = v.if_array();
  if (array == nullptr) return r.problem(at, "must be a list of names of secrets, not " + describe_kind(v));
  if (array->size() > kMaxSecrets)
    return r.problem(at, "must have at most " + std::to_string(kMaxSecrets) + " entries");
  for (std::size_t i = 0; i < array->size(); ++i) {
    const Path here{&at, {}, static_cast<std::int64_t>(i)};
    const auto s = r.string(here, (*array)[i], kMaxSecretName);
    if (!s) continue;
    if (const auto why = why_no_secret_name(*s); !why.empty())
      r.problem(here, why, "the name of a secret, never its value: tutti secret set NAME");
    else if (std::ranges::find(into.secrets, *s) != into.secrets.end())
      r.problem(here, "is named twice");
    else
      into.secrets.emplace_back(*s);
  }
}

void read_exclude_nodes(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto* array = v.if_array();
  if (array == nullptr) return r.problem(at, "must be a list of node names, not " + describe_kind(v));
  if (array->size() > 4096) return r.problem(at, "must have at most 4096 entries");
  for (std::size_t i = 0; i < array->size(); ++i)
    if (const auto s = r.label({&at, {}, static_cast<std::int64_t>(i)}, (*array)[i], 128))
      into.exclude_nodes.emplace_back(*s);
}

void read_preflight(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto s = r.string(at, v, 64);
  if (!s) return;
  for (const auto preflight : {Preflight::none, Preflight::quick, Preflight::full})
    if (*s == name(preflight)) {
      into.preflight = preflight;
      return;
    }
  r.problem(at, "must be \"none\", \"quick\" or \"full\", not " + shown(v));
}

constexpr std::string_view kWebhook = "webhook:";

void read_notify_on(SpecReader& r, const Path& at, const json::value& v, Notify& into) {
  const auto add = [&](const Path& here, const json::value& one) {
    const auto s = r.string(here, one, 64);
    if (!s) return;
    if (!is_notice_of_jobs(*s)) {
      const auto words = notice_words(true);
      auto hint = did_you_mean(*s, words);
      if (hint.empty())
        for (const auto word : words) hint += (hint.empty() ? "" : ", ") + std::string(word);
      r.problem(here, "unknown event " + shown(one), std::move(hint));
    } else if (std::ranges::find(into.on, *s) == into.on.end()) {
      into.on.emplace_back(*s);
    }
  };
  const auto* list = v.if_array();
  if (list == nullptr) return add(at, v);
  if (list->size() > 32) return r.problem(at, "must have at most 32 entries");
  for (std::size_t i = 0; i < list->size(); ++i) add({&at, {}, static_cast<std::int64_t>(i)}, (*list)[i]);
}

void read_notify_to(SpecReader& r, const Path& at, const json::value& v, Notify& into) {
  const auto s = r.string(at, v, 256);
  if (!s) return;
  if (!s->starts_with(kWebhook))
    return r.problem(at, "must be \"webhook:NAME\", not " + shown(v), "operators set up webhooks");
  if (!is_webhook_name(s->substr(kWebhook.size())))
    return r.problem(at, "not the name of a webhook", "1 to 64 letters, digits, '-', '_' or '.'");
  into.webhook = std::string(s->substr(kWebhook.size()));
}

constexpr auto kNotifyFields = std::to_array<Field<Notify>>({{"on", read_notify_on}, {"to", read_notify_to}});

void read_notify(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list like [{on: [failed], to: \"webhook:ops\"}]");
  if (list->size() > 10) return r.problem(at, "must have at most 10 entries");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Path here{&at, {}, static_cast<std::int64_t>(i)};
    Notify notify;
    const auto before = r.problems.size();
    read_fields(r, here, (*list)[i], notify, kNotifyFields);
    if (r.problems.size() != before) continue;
    if (notify.on.empty()) r.problem({&here, "on"}, "is required", "like [failed, hung]");
    if (notify.webhook.empty()) r.problem({&here, "to"}, "is required", "like \"webhook:ops\"");
    into.notify.push_back(std::move(notify));
  }
}

void read_compat(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto s = r.string(at, v, 64);
  if (!s) return;
  if (*s != "slurm" && *s != "none") return r.problem(at, "must be \"slurm\", not " + shown(v));
  into.compat_slurm = *s == "slurm";
}

template <auto Member, const auto& Fields>
void read_part(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  read_fields(r, at, v, into.*Member, Fields);
}

constexpr auto kSpecFields = std::to_array<Field<JobSpec>>({
    {"apiVersion", read_api_version},
    {"name", read_label<&JobSpec::name, 128>},
    {"project", read_label<&JobSpec::project, 128>},
    {"queue", read_label<&JobSpec::queue, 128>},
    {"priority", read_int<&JobSpec::priority, 0, 100>},
    {"labels", read_labels},
    {"nodes", read_nodes},
    {"resources", read_part<&JobSpec::resources, kResourceFields>},
    {"topology", read_topology},
    {"constraints", read_constraints},
    {"exclude_nodes", read_exclude_nodes},
    {"workdir", read_absolute_path<&JobSpec::workdir>},
    {"env", read_env},
    {"launcher", read_launcher},
    {"procs_per_node", read_procs},
    {"setup", read_script<&JobSpec::setup>},
    {"run", read_script<&JobSpec::run>},
    {"time_limit", read_duration<&JobSpec::time_limit, 1>},
    {"total_time_limit", read_duration<&JobSpec::total_time_limit, 1>},
    {"begin_time", read_begin_time},
    {"deadline", read_deadline},
    {"depends_on", read_depends_on},
    {"array", read_array},
    {"matrix", read_matrix},
    {"preemptible", read_bool<&JobSpec::preemptible>},
    {"stop", read_stop},
    {"checkpoint", read_checkpoint},
    {"retry", read_retry},
    {"compat", read_compat},
    {"image", read_image},
    {"mounts", read_mounts},
    {"secrets", read_secrets},
    {"private_tmp", read_bool<&JobSpec::private_tmp>},
    {"schedule", read_schedule},
    {"scheduled_by", read_scheduled_by},
    {"preflight", read_preflight},
    {"hang", read_hang},
    {"notify", read_notify},
});

/// Names that people bring along from elsewhere, or that belong into a block.
std::string elsewhere(std::string_view key) {
  static constexpr auto kMoved = std::to_array<std::pair<std::string_view, std::string_view>>({
      {"gpus", "resources.gpus"},
      {"gpu", "resources.gpus"},
      {"cpus", "resources.cpus"},
      {"memory", "resources.memory"},
      {"mem", "resources.memory"},
      {"shm_size", "resources.shm_size"},
      {"command", "run"},
      {"cmd", "run"},
      {"script", "run"},
      {"entrypoint", "run"},
      {"timeout", "time_limit"},
      {"time", "time_limit"},
      {"partition", "queue"},
      {"account", "project"},
      {"signal", "stop.signal"},
      {"grace", "stop.grace"},
      {"checkpoint_dir", "checkpoint.dir"},
      {"environment", "env"},
      {"envs", "env"},
      {"num_nodes", "nodes"},
      {"budget", "retry.budget"},
      {"working_dir", "workdir"},
      {"cwd", "workdir"},
      {"begin", "begin_time"},
      {"not_before", "begin_time"},
      {"backoff", "retry.backoff"},
      {"exit_codes", "retry.exit_codes"},
      {"dependencies", "depends_on"},
      {"after", "depends_on"},
      {"cron", "schedule"},
      {"features", "constraints"},
      {"secret", "secrets"},
      {"container", "image"},
      {"volumes", "mounts"},
  });
  for (const auto& [from, to] : kMoved)
    if (from == key) return "did you mean '" + std::string(to) + "'?";
  return {};
}

void finish(SpecReader& r, const Path& root, JobSpec& spec) {
  const auto missing = [&](std::string_view field) {
    const auto said = std::ranges::any_of(r.problems, [&](const auto& p) { return p.field == field; });
    if (!said) r.problem({&root, field}, "is required");
  };
  if (spec.name.empty()) missing("name");
  if (spec.run.find_first_not_of(" \t\r\n") == std::string::npos) missing("run");
  check_together(r, root, spec);
  check_image(r, root, spec);
  for (std::size_t i = 0; i < spec.secrets.size(); ++i) {
    const Path secrets{&root, "secrets"};
    if (spec.env.contains(spec.secrets[i]))
      r.problem({&secrets, {}, static_cast<std::int64_t>(i)},
                spec.secrets[i] + " is given a value in env as well", "leave one of the two out");
  }
  if (spec.procs_per_node == kProcsAuto) spec.procs_per_node = std::max(1, spec.resources.gpus);
}

/// Bytes of all free text; written as JSON it is at most six times as long.
std::size_t text_bytes(const JobSpec& spec) {
  std::size_t n = spec.run.size() + spec.setup.size() + spec.workdir.size() + spec.checkpoint.dir.size();
  for (const auto& [name, value] : spec.env) n += name.size() + value.size() + 6;
  for (const auto& [name, value] : spec.labels) n += name.size() + value.size() + 6;
  for (const auto& node : spec.exclude_nodes) n += node.size() + 3;
  for (const auto& notify : spec.notify) n += notify.webhook.size() + 16 * notify.on.size() + 32;
  for (const auto& name : spec.secrets) n += name.size() + 3;
  n += spec.image.size();
  for (const auto& m : spec.mounts) n += m.source.size() + m.target.size() + 48;
  return n;
}

bool too_large(SpecParse& out, std::size_t bytes, std::size_t limit) {
  if (bytes <= limit) return false;
  out.problems.push_back(
      {"", "a spec has at most " + std::to_string(limit) + " bytes, not " + std::to_string(bytes),
       "put large inputs into files"});
  return true;
}

void read_tree(const json::value& tree, Now now, SpecParse& out) {
  SpecReader r{out.problems, now};
  const Path root;
  out.spec.procs_per_node = kProcsAuto;
  read_fields(r, root, tree, out.spec, kSpecFields, elsewhere);
  if (tree.is_object()) finish(r, root, out.spec);
  if (out.ok() && text_bytes(out.spec) > kMaxEncodedSpec / 8)  // else it cannot be too long
    too_large(out, encode_spec(out.spec).size(), kMaxEncodedSpec);
}

void set_malformed(SpecParse& out, SyntaxError error) {
  out.malformed = true;
  out.line = error.line;
  out.column = error.column;
  out.problems.push_back({"", std::move(error.message), ""});
}

}  // namespace

SpecParse parse_spec_json(std::string_view text, Now now) {
  SpecParse out;
  if (too_large(out, text.size(), kMaxEncodedSpec)) return out;
  unsigned char buffer[16 << 10];
  json::monotonic_resource resource(buffer);
  json::value tree(&resource);
  if (auto error = parse_strict_json(text, tree))
    set_malformed(out, std::move(*error));
  else
    read_tree(tree, now, out);
  return out;
}

SpecParse parse_spec_yaml(std::string_view text, Now now) {
  SpecParse out;
  if (too_large(out, text.size(), kMaxYamlText)) return out;
  json::value tree;
  if (auto error = parse_strict_yaml(text, tree))
    set_malformed(out, std::move(*error));
  else
    read_tree(tree, now, out);
  return out;
}

SpecParse parse_spec(const json::value& tree, Now now) {
  SpecParse out;
  read_tree(tree, now, out);
  return out;
}

}  // namespace tutti::wire
