#include "api/wire/spec_image.h"

#include <algorithm>
#include <array>

namespace tutti::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxImage = 1024;
constexpr std::size_t kMaxPath = 4096;
constexpr std::size_t kMaxConstraints = 64;

bool is_plain_path(std::string_view path) {
  return path.starts_with('/') && path.find("/../") == std::string_view::npos && !path.ends_with("/..");
}

// `//` and `/.` are `/` too.
bool is_root(std::string_view path) {
  return path.starts_with('/') && path.find_first_not_of("/.") == std::string_view::npos;
}

bool names_a_place(std::string_view path) { return is_plain_path(path) && !is_root(path); }

std::string why_no_image(std::string_view image) {
  if (std::ranges::any_of(image, [](unsigned char c) { return c <= ' ' || c == 127; }))
    return "must not have spaces or control characters";
  if (image.starts_with("oci-archive:"))
    return names_a_place(image.substr(12)) ? "" : "needs an absolute path behind oci-archive:";
  if (image.starts_with('/'))
    return names_a_place(image) ? "" : "must be a path without .., and not / itself";
  if (image.starts_with("docker://"))
    image.remove_prefix(9);
  else if (image.find("://") != std::string_view::npos)
    return "begins with a scheme that is not known";
  // A word that begins so would be an option of the program that fetches it.
  return image.empty() || image.starts_with('-') ? "must name an image" : "";
}

template <auto Member>
void read_place(SpecReader& r, const Path& at, const json::value& v, Mount& into) {
  const auto s = r.string(at, v, kMaxPath);
  if (!s) return;
  if (!is_plain_path(*s) || s->find('\n') != std::string_view::npos)
    return r.problem(at, "must be an absolute path without .., not " + shown(v));
  into.*Member = std::string(*s);
}

void read_read_only(SpecReader& r, const Path& at, const json::value& v, Mount& into) {
  if (const auto b = r.boolean(at, v)) into.read_only = *b;
}

constexpr auto kMountFields = std::to_array<Field<Mount>>({
    {"source", read_place<&Mount::source>},
    {"target", read_place<&Mount::target>},
    {"read_only", read_read_only},
});

}  // namespace

void read_image(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto s = r.string(at, v, kMaxImage);
  if (!s || s->empty()) return;
  if (const auto why = why_no_image(*s); !why.empty())
    return r.problem(at, why + ", not " + shown(v),
                     "docker://NAME:TAG, oci-archive:/PATH, or the path of a root directory");
  into.image = std::string(*s);
}

void read_mounts(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  const auto* list = v.if_array();
  if (list == nullptr) return r.problem(at, "must be a list, not " + describe_kind(v));
  if (list->size() > kMaxMounts)
    return r.problem(at, "at most " + std::to_string(kMaxMounts) + ", not " + std::to_string(list->size()));
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Path here{&at, {}, static_cast<std::int64_t>(i)};
    Mount mount;
    const auto before = r.problems.size();
    read_fields(r, here, (*list)[i], mount, kMountFields);
    if (r.problems.size() != before) continue;
    if (mount.source.empty()) {
      r.problem({&here, "source"}, "is required", "a path on the node");
      continue;
    }
    if (mount.target.empty()) mount.target = mount.source;
    if (is_root(mount.target)) r.problem({&here, "target"}, "must not be / itself");
    into.mounts.push_back(std::move(mount));
  }
}

void check_image(SpecReader& r, const Path& root, JobSpec& spec) {
  if (spec.image.empty()) {
    const Path resources{&root, "resources"};
    constexpr auto kOnly = "has an effect only with an image";
    if (spec.resources.shm_bytes > 0)
      r.problem({&resources, "shm_size"}, kOnly, "leave it out, or give image");
    if (!spec.mounts.empty()) r.problem({&root, "mounts"}, kOnly, "leave it out, or give image");
    return;
  }
  const auto named = [](const Constraint& c) { return c.label == kContainerLabel; };
  if (std::ranges::any_of(spec.constraints, named)) return;  // also when it is read the second time
  if (spec.constraints.size() + 2 > kMaxConstraints)         // with those that are added here
    return r.problem({&root, "constraints"}, "must have at most 62 entries with an image");
  Constraint runs_it{.label = std::string(kContainerLabel), .op = Constraint::Op::exists, .value = {}};
  const bool local = spec.image.starts_with('/') || spec.image.starts_with("oci-archive:");
  if (!local) {  // bubblewrap alone cannot fetch
    runs_it.op = Constraint::Op::not_equal;
    runs_it.value = "bubblewrap";
    spec.constraints.push_back(runs_it);
    runs_it.op = Constraint::Op::exists;
    runs_it.value.clear();
  }
  spec.constraints.push_back(std::move(runs_it));
}

}  // namespace tutti::wire
