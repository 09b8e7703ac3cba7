#include "api/wire/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <charconv>
#include <map>
#include <sstream>
#include <vector>

#include "api/wire/utf8.h"

namespace tutti::wire {
namespace {

namespace json = boost::json;

struct Refusal {  // thrown through the parser, caught in parse_strict_yaml
  SyntaxError error;
};

[[noreturn]] void refuse(const YAML::Mark& mark, std::string message) {
  throw Refusal{{.message = std::move(message), .line = mark.line + 1, .column = mark.column + 1}};
}

/// A plain scalar: null, true, false, or an integer as we would print it; else text.
json::value plain_value(const std::string& text) {
  if (text.empty() || text == "~" || text == "null") return nullptr;
  if (text == "true") return true;
  if (text == "false") return false;
  std::int64_t number = 0;
  const auto* end = text.data() + text.size();
  const auto [after, code] = std::from_chars(text.data(), end, number);
  if (code == std::errc{} && after == end && std::to_string(number) == text) return number;
  return json::string(text);
}

std::string key_text(const json::value& key, const YAML::Mark& mark) {
  if (const auto* s = key.if_string()) return std::string(*s);
  if (const auto* i = key.if_int64()) return std::to_string(*i);
  if (const auto* b = key.if_bool()) return *b ? "true" : "false";
  refuse(mark, key.is_null() ? "a key must not be empty" : "a key must be text");
}

/// Builds the tree from parse events, with its own stack: aliases are copied under the same bounds.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(json::value& root) : root_(root) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (started_) refuse(mark, "only one YAML document is expected");
    started_ = true;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { put(mark, anchor, nullptr); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto it = anchors_.find(anchor);
    if (it == anchors_.end()) refuse(mark, "an alias must not stand inside its own anchor");
    charge(mark, it->second);
    put(mark, 0, json::value(it->second), /*charged=*/true);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (value.find('\0') != std::string::npos) refuse(mark, "text must not hold NUL");
    if (tag == "?" || tag.empty())
      put(mark, anchor, plain_value(value));
    else if (tag == "!" || core_name(tag) == "str")
      put(mark, anchor, json::string(value));
    else if (const auto kind = core_name(tag);
             kind == "int" || kind == "float" || kind == "bool" || kind == "null")
      put(mark, anchor, plain_value(value));
    else
      refuse(mark, "tag '" + tag + "' is not supported");
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, json::array());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, json::object());
  }
  void OnMapEnd() override { close(); }

 private:
  /// "int" of "tag:yaml.org,2002:int", a tag of the core schema (YAML 1.2.2, 10.3); "" of others.
  static std::string_view core_name(std::string_view tag) {
    constexpr std::string_view kCore = "tag:yaml.org,2002:";
    return tag.starts_with(kCore) ? tag.substr(kCore.size()) : std::string_view();
  }

  struct Open {
    json::value value;  // array or object
    YAML::anchor_t anchor;
    YAML::Mark mark;
    std::optional<std::string> key;  // read, its value is still to come
  };

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, json::value value) {
    const std::string_view kind = value.is_array() ? "seq" : "map";
    if (!tag.empty() && tag != "?" && tag != "!" && core_name(tag) != kind)
      refuse(mark, "tag '" + tag + "' is not supported");
    if (stack_.size() >= kMaxJsonDepth)
      refuse(mark, "nested deeper than " + std::to_string(kMaxJsonDepth) + " levels");
    stack_.push_back({std::move(value), anchor, mark, std::nullopt});
  }
  void close() {
    Open done = std::move(stack_.back());
    stack_.pop_back();
    put(done.mark, done.anchor, std::move(done.value));
  }

  void put(const YAML::Mark& mark, YAML::anchor_t anchor, json::value value, bool charged = false) {
    if (!charged) charge_one(mark, value);
    if (anchor != 0) anchors_[anchor] = value;
    if (stack_.empty()) {
      root_ = std::move(value);
      return;
    }
    Open& top = stack_.back();
    if (auto* array = top.value.if_array()) {
      array->push_back(std::move(value));
    } else if (!top.key) {
      top.key = key_text(value, mark);
      if (*top.key == "<<") refuse(mark, "merge keys (<<) are not supported");
      if (top.value.get_object().contains(*top.key)) refuse(mark, "key '" + *top.key + "' is given twice");
    } else {
      top.value.get_object().emplace(*top.key, std::move(value));
      top.key.reset();
    }
  }

  void charge_one(const YAML::Mark& mark, const json::value& value) {
    if (const auto* s = value.if_string()) text_ += s->size();
    if (++nodes_ > kMaxYamlNodes || text_ > kMaxYamlText)
      refuse(mark, "too large once its aliases are expanded");
  }
  void charge(const YAML::Mark& mark, const json::value& value, std::size_t depth = 1) {
    charge_one(mark, value);
    if (stack_.size() + depth > kMaxJsonDepth + 1)
      refuse(mark, "nested deeper than " + std::to_string(kMaxJsonDepth) + " levels");
    if (const auto* array = value.if_array())
      for (const auto& item : *array) charge(mark, item, depth + 1);
    if (const auto* object = value.if_object())
      for (const auto& member : *object) {
        text_ += member.key().size();
        charge(mark, member.value(), depth + 1);
      }
  }

  json::value& root_;
  std::vector<Open> stack_;
  std::map<YAML::anchor_t, json::value> anchors_;
  std::size_t nodes_ = 0;
  std::size_t text_ = 0;
  bool started_ = false;
};

}  // namespace

std::optional<SyntaxError> parse_strict_yaml(std::string_view text, json::value& into) {
  if (!is_utf8(text)) return SyntaxError{"the text is not UTF-8", 0, 0};
  if (text.find('\0') != std::string_view::npos) return SyntaxError{"the text holds NUL", 0, 0};
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(into);
    while (parser.HandleNextDocument(builder)) {
    }
    return std::nullopt;
  } catch (const Refusal& refusal) {
    return refusal.error;
  } catch (const YAML::Exception& e) {
    if (e.mark.is_null()) return SyntaxError{e.msg, 0, 0};
    return SyntaxError{e.msg, e.mark.line + 1, e.mark.column + 1};
  }
}

}  // namespace tutti::wire
