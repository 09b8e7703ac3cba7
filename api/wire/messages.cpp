#include "api/wire/messages.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "api/wire/message_fields.h"
#include "api/wire/utf8.h"

namespace tutti::wire {
namespace {

namespace json = boost::json;
using namespace protocol;  // NOLINT: this file is its codec

constexpr std::pair<CheckpointVerdict, std::string_view> kVerdicts[] = {
    {CheckpointVerdict::verified, "verified"},
    {CheckpointVerdict::damaged, "damaged"},
    {CheckpointVerdict::refused, "refused"}};

// ---------------------------------------------------------------- struct → JSON

class Writer {
 public:
  explicit Writer(json::object& out) : out_(out) {}

  template <class T>
  void operator()(std::string_view key, const T& value, Bound bound = {}) {
    out_[key] = put(value, bound);
  }
  void operator()(std::string_view key, const std::map<std::string, double>& metrics) {
    json::object o;
    for (const auto& [k, d] : metrics)
      if (std::isfinite(d) && o.size() < kMaxItems) o[to_utf8(utf8_prefix(k, kMaxTextBytes / 3))] = d;
    out_[key] = std::move(o);
  }
  template <class T>
  void operator()(std::string_view key, const std::optional<T>& value) {
    if (value) (*this)(key, *value);  // absent = none
  }
  template <class T>
  void later(std::string_view key, const T& value) {
    (*this)(key, value);
  }

 private:
  static json::value put(const std::string& s, Bound bound) {
    if (!bound.nul && s.find('\0') != std::string::npos) {
      std::string visible = s;
      std::ranges::replace(visible, '\0', ' ');
      return put(visible, bound);
    }
    if (is_utf8(s)) return json::value(utf8_prefix(s, bound.bytes));
    return json::value(utf8_prefix(to_utf8(s), bound.bytes));
  }
  template <std::integral T>
  static json::value put(T n, Bound) {
    return n;
  }
  static json::value put(double d, Bound) { return std::isfinite(d) ? d : 0.0; }
  static json::value put(Phase p, Bound) { return json::value(name(p)); }
  static json::value put(CheckpointVerdict p, Bound) {
    for (const auto& [verdict, name] : kVerdicts)
      if (verdict == p) return json::value(name);
    return nullptr;
  }
  template <class Tag>
  static json::value put(Id<Tag> id, Bound) {
    return id.value;
  }
  static json::value put(const std::map<std::string, std::string>& m, Bound bound) {
    json::object o;
    for (const auto& [k, s] : m)
      if (o.size() < kMaxItems) o[to_utf8(utf8_prefix(k, kMaxTextBytes / 3))] = put(s, bound);
    return o;
  }
  template <class T>
  static json::value put(const std::vector<T>& list, Bound bound) {
    json::array a;
    a.reserve(list.size());
    for (const auto& item : list)
      if (a.size() < kMaxItems) a.push_back(put(item, bound));
    return a;
  }
  template <class T>
    requires requires(Writer& w, const T& t) { fields(w, t); }
  static json::value put(const T& t, Bound) {
    json::object o;
    Writer w(o);
    fields(w, t);
    return o;
  }

  json::object& out_;
};

// ---------------------------------------------------------------- JSON → struct

struct Wrong {  // thrown inside this file only; caught in decode
  std::string field;
  std::string why;
};

class Reader {
 public:
  Reader(const json::object& in, std::string path) : in_(in), path_(std::move(path)) {}

  template <class T>
  void operator()(std::string_view key, T& value, Bound bound = {}) {
    const auto* found = in_.if_contains(key);
    const auto name = path_ + std::string(key);
    if (!found) throw Wrong{name, "is missing"};
    get(*found, value, name, bound);
  }
  template <class T>
  void operator()(std::string_view key, std::optional<T>& value) {
    const auto* found = in_.if_contains(key);
    if (!found || found->is_null()) return;
    get(*found, value.emplace(), path_ + std::string(key), Bound{});
  }
  template <class T>
  void later(std::string_view key, T& value) {
    if (in_.contains(key)) (*this)(key, value);
  }

 private:
  static void refuse_nul(std::string_view text, const std::string& name) {
    if (text.find('\0') != std::string_view::npos) throw Wrong{name, "holds NUL"};
  }
  static void get(const json::value& v, std::string& out, const std::string& name, Bound bound) {
    if (!v.is_string()) throw Wrong{name, "must be a text"};
    if (v.get_string().size() > bound.bytes)
      throw Wrong{name, "is longer than " + std::to_string(bound.bytes) + " bytes"};
    if (v.get_string().empty() && !bound.empty) throw Wrong{name, "is empty"};
    if (!bound.nul) refuse_nul(v.get_string(), name);
    out = std::string_view(v.get_string());
  }
  static void get(const json::value& v, bool& out, const std::string& name, Bound) {
    if (!v.is_bool()) throw Wrong{name, "must be true or false"};
    out = v.get_bool();
  }
  template <std::signed_integral T>
  static void get(const json::value& v, T& out, const std::string& name, Bound) {
    if (!v.is_int64()) throw Wrong{name, "must be a whole number in range"};
    const auto n = v.get_int64();
    if (n < std::numeric_limits<T>::min() || n > std::numeric_limits<T>::max())
      throw Wrong{name, "is out of range"};
    out = static_cast<T>(n);
  }
  static void get(const json::value& v, double& out, const std::string& name, Bound) {
    if (!v.is_number()) throw Wrong{name, "must be a number"};
    out = v.to_number<double>();
  }
  static void get(const json::value& v, Phase& out, const std::string& name, Bound) {
    const auto phase = v.is_string() ? parse_phase(v.get_string()) : std::nullopt;
    if (phase) {
      out = *phase;
      return;
    }
    throw Wrong{name, "must be a phase (preparing, ready, launched, running, ended)"};
  }
  static void get(const json::value& v, CheckpointVerdict& out, const std::string& name, Bound) {
    for (const auto& [verdict, text] : kVerdicts)
      if (v.is_string() && v.get_string() == text) {
        out = verdict;
        return;
      }
    throw Wrong{name, "must be a verdict (verified, damaged, refused)"};
  }
  template <class Tag>
  static void get(const json::value& v, Id<Tag>& out, const std::string& name, Bound bound) {
    get(v, out.value, name, bound);
    if (out.value < 0) throw Wrong{name, "must not be negative"};
  }
  template <class T>
  static void get(const json::value& v, std::map<std::string, T>& out, const std::string& name, Bound bound) {
    if (!v.is_object()) throw Wrong{name, "must be an object"};
    if (v.get_object().size() > kMaxItems) throw Wrong{name, "has too many entries"};
    for (const auto& [k, item] : v.get_object()) {
      refuse_nul(k, name);
      get(item, out[std::string(std::string_view(k))], name + "." + std::string(std::string_view(k)), bound);
    }
  }
  template <class T>
  static void get(const json::value& v, std::vector<T>& out, const std::string& name, Bound bound) {
    if (!v.is_array()) throw Wrong{name, "must be a list"};
    const auto& a = v.get_array();
    if (a.size() > kMaxItems) throw Wrong{name, "has too many entries"};
    out.resize(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) get(a[i], out[i], name + "[" + std::to_string(i) + "]", bound);
  }
  template <class T>
    requires requires(Reader& r, T& t) { fields(r, t); }
  static void get(const json::value& v, T& out, const std::string& name, Bound) {
    if (!v.is_object()) throw Wrong{name, "must be an object"};
    Reader r(v.get_object(), name + ".");
    fields(r, out);
  }

  const json::object& in_;
  std::string path_;
};

template <class Variant>
std::string encode_any(const Variant& message) {
  json::object o;
  std::visit(
      [&](const auto& m) {
        o["type"] = type_of(m);
        Writer w(o);
        fields(w, m);
      },
      message);
  return json::serialize(o);
}

// Tries the alternatives in order; false if `type` is none of them.
template <class Variant, std::size_t I = 0>
bool read_as(std::string_view type, const json::object& in, Variant& out) {
  if constexpr (I < std::variant_size_v<Variant>) {
    using T = std::variant_alternative_t<I, Variant>;
    if (type != type_of(T{})) return read_as<Variant, I + 1>(type, in, out);
    Reader r(in, "");
    fields(r, out.template emplace<T>());
    return true;
  } else {
    return false;
  }
}

Error wrong(std::string message, std::string field) {
  Error e;
  e.code = Errc::invalid_argument;
  e.message = std::move(message);
  e.field = std::move(field);
  return e;
}

template <class Variant>
Result<Variant> decode_any(std::string_view text) {
  if (text.size() > kMaxMessageBytes) {
    auto e = wrong("message of " + std::to_string(text.size()) + " bytes", "");
    e.code = Errc::too_large;
    return e;
  }
  json::monotonic_resource memory;
  json::error_code ec;
  const auto root = json::parse(text, ec, &memory);
  if (ec) return wrong("message is not JSON: " + ec.message(), "");
  if (!root.is_object()) return wrong("message is not a JSON object", "");
  const auto* type = root.get_object().if_contains("type");
  if (!type || !type->is_string()) return wrong("field type is missing or not a text", "type");
  Variant out;
  try {
    if (read_as(std::string_view(type->get_string()), root.get_object(), out)) return out;
  } catch (const Wrong& w) {
    return wrong(
        "message " + std::string(std::string_view(type->get_string())) + ": field " + w.field + " " + w.why,
        w.field);
  }
  return wrong("unknown message type \"" + std::string(utf8_prefix(type->get_string(), 64)) + "\"", "type");
}

}  // namespace

std::string encode(const FromWorker& m) { return encode_any(m); }
std::string encode(const ToWorker& m) { return encode_any(m); }
std::string encode(const PeerMessage& m) { return encode_any(m); }
Result<FromWorker> decode_from_worker(std::string_view text) { return decode_any<FromWorker>(text); }
Result<ToWorker> decode_to_worker(std::string_view text) { return decode_any<ToWorker>(text); }
Result<PeerMessage> decode_peer(std::string_view text) { return decode_any<PeerMessage>(text); }

std::optional<std::int32_t> protocol_of_hello(std::string_view text) {
  json::error_code ec;
  const auto root = json::parse(text.substr(0, kMaxMessageBytes), ec);
  if (ec || !root.is_object()) return std::nullopt;
  const auto* type = root.get_object().if_contains("type");
  const auto* version = root.get_object().if_contains("protocol");
  const bool hello = type && type->is_string() && std::string_view(type->get_string()) == type_of(Hello{});
  if (!hello || !version || !version->is_int64() || !std::in_range<std::int32_t>(version->get_int64()))
    return std::nullopt;
  return static_cast<std::int32_t>(version->get_int64());
}

bool is_of_unknown_type(const Error& refusal) { return refusal.field == "type"; }

std::string_view type_name(const FromWorker& message) {
  return std::visit([](const auto& m) { return type_of(m); }, message);
}
std::string_view type_name(const ToWorker& message) {
  return std::visit([](const auto& m) { return type_of(m); }, message);
}

}  // namespace tutti::wire
