// Values as bytes and back, by one description for both ways: pass(archive, value). Structs are taken apart
// by Boost.PFR, so that a field that is added to a row or a message is in the log without anybody's doing.
// The bytes mean something only to a program with the same structs: layout_of() tells, and stands in each
// file.
//
// Numbers are varints (zigzag where signed), texts and lists have their length in front, absent is a 0.
#pragma once

#include <array>
#include <bit>
#include <boost/pfr/core.hpp>
#include <boost/pfr/tuple_size.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/name.h"

namespace tutti::decisions {

// The bytes end in the middle of something.
class EndOfBytes : public std::runtime_error {
 public:
  EndOfBytes() : std::runtime_error("the bytes end in the middle of something") {}
};
// They cannot be what was written.
class BadBytes : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ByteWriter {
 public:
  static constexpr bool kReads = false;
  // What stands in the log for a text that may be a secret; the same text always gives the same. Empty:
  // itself.
  using Mask = std::function<std::string(std::string_view)>;
  // `full` is called between the items of long lists, and may take away what is there.
  explicit ByteWriter(std::string& bytes, const Mask* mask = nullptr,
                      const std::function<void()>* full = nullptr)
      : bytes_(bytes), mask_(mask), full_(full) {}

  void whole(std::uint64_t v) {
    while (v >= 0x80) {
      bytes_.push_back(static_cast<char>(v | 0x80));
      v >>= 7;
    }
    bytes_.push_back(static_cast<char>(v));
  }
  void text(std::string_view t) {
    whole(t.size());
    bytes_.append(t);
  }
  void masked(const std::string& t) { text(mask_ == nullptr || t.empty() ? t : (*mask_)(t)); }
  void item_done() {
    if (full_ != nullptr) (*full_)();
  }

 private:
  std::string& bytes_;
  const Mask* mask_;
  const std::function<void()>* full_;
};

class ByteReader {
 public:
  static constexpr bool kReads = true;
  // More bytes to put behind the others; false: there are none.
  using More = std::function<bool(std::string&)>;
  explicit ByteReader(More more) : more_(std::move(more)) {}

  std::uint64_t whole() {
    std::uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      need(1);
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      v |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return v;
    }
    throw BadBytes("a number of more than 64 bits");
  }
  std::string text() {
    const std::uint64_t size = whole();
    if (size > (std::uint64_t{1} << 32)) throw BadBytes("a text of more than 4 GiB");
    need(size);
    std::string out = bytes_.substr(at_, size);
    at_ += size;
    return out;
  }
  void masked(std::string& t) { t = text(); }
  void item_done() {}
  // Whether anything follows.
  bool at_end() { return at_ == bytes_.size() && !fetch(); }

 private:
  bool fetch() {
    bytes_.erase(0, std::exchange(at_, 0));
    return more_(bytes_);
  }
  void need(std::uint64_t n) {
    while (bytes_.size() - at_ < n)
      if (!fetch()) throw EndOfBytes();
  }
  More more_;
  std::string bytes_;
  std::size_t at_ = 0;
};

constexpr std::uint64_t zigzag(std::int64_t v) {
  return (static_cast<std::uint64_t>(v) << 1) ^ static_cast<std::uint64_t>(v >> 63);
}
constexpr std::int64_t unzigzag(std::uint64_t v) {
  return static_cast<std::int64_t>(v >> 1) ^ -static_cast<std::int64_t>(v & 1);
}

template <class T, template <class...> class Template>
inline constexpr bool is_a = false;
template <template <class...> class Template, class... A>
inline constexpr bool is_a<Template<A...>, Template> = true;
template <class T>
inline constexpr bool is_array = false;
template <class T, std::size_t N>
inline constexpr bool is_array<std::array<T, N>> = true;

// What is written otherwise than by its fields has an overload of own_way(), found by its type.
template <class A, class T>
concept HasOwnWay = requires(A& archive, T& value) { own_way(archive, value); };

template <class A, class T>
void pass(A& a, T& value);

template <class A, class T>
void pass_number(A& a, T& value) {
  using V = std::remove_const_t<T>;
  if constexpr (std::is_same_v<V, double>) {
    if constexpr (A::kReads)
      value = std::bit_cast<double>(a.whole());
    else
      a.whole(std::bit_cast<std::uint64_t>(value));
  } else if constexpr (std::is_enum_v<V>) {
    if constexpr (A::kReads)
      value = static_cast<V>(a.whole());
    else
      a.whole(static_cast<std::uint64_t>(value));
  } else if constexpr (std::is_signed_v<V>) {
    if constexpr (A::kReads)
      value = static_cast<V>(unzigzag(a.whole()));
    else
      a.whole(zigzag(value));
  } else {
    if constexpr (A::kReads)
      value = static_cast<V>(a.whole());
    else
      a.whole(value);
  }
}

template <class A, class T>
void pass_list(A& a, T& list) {
  if constexpr (A::kReads) {
    for (std::uint64_t n = a.whole(); n > 0; --n) {
      if constexpr (is_a<T, std::map>) {
        std::pair<typename T::key_type, typename T::mapped_type> item;
        pass(a, item);
        list.insert(list.end(), std::move(item));
      } else {
        pass(a, list.emplace_back());
      }
    }
  } else {
    a.whole(list.size());
    for (auto& item : list) {
      pass(a, item);
      a.item_done();
    }
  }
}

// Of a variant: which alternative, and then that.
template <class A, class... T>
void pass_one_of(A& a, std::variant<T...>& value) {
  const std::uint64_t index = a.whole();
  if (index >= sizeof...(T)) throw BadBytes("an unknown kind of message");
  std::uint64_t at = 0;
  ((at++ == index ? (pass(a, value.template emplace<T>()), true) : false) || ...);
}
template <class A, class... T>
void pass_one_of(A& a, const std::variant<T...>& value) {
  a.whole(value.index());
  std::visit([&](const auto& v) { pass(a, v); }, value);
}

// What may be absent: optional values and shared ones.
template <class A, class T>
void pass_if_there(A& a, T& value) {
  using V = std::remove_const_t<T>;
  if constexpr (A::kReads) {
    if (a.whole() == 0) return;
    if constexpr (is_a<V, std::optional>) {
      pass(a, value.emplace());
    } else {
      auto shared = std::make_shared<std::remove_const_t<typename V::element_type>>();
      pass(a, *shared);
      value = std::move(shared);
    }
  } else {
    a.whole(value ? 1 : 0);
    if (value) pass(a, *value);
  }
}

template <class A, class T>
void pass_fields(A& a, T& value) {
  if constexpr (is_a<std::remove_const_t<T>, std::pair> || is_a<std::remove_const_t<T>, std::tuple>)
    std::apply([&](auto&... field) { (pass(a, field), ...); }, value);
  else
    boost::pfr::for_each_field(value, [&](auto& field) { pass(a, field); });
}

template <class A, class T>
void pass(A& a, T& value) {
  using V = std::remove_const_t<T>;
  if constexpr (HasOwnWay<A, T>) {
    own_way(a, value);
  } else if constexpr (std::is_arithmetic_v<V> || std::is_enum_v<V>) {
    pass_number(a, value);
  } else if constexpr (std::is_same_v<V, std::string> || std::is_same_v<V, std::string_view>) {
    if constexpr (A::kReads)
      value = a.text();
    else
      a.text(value);
  } else if constexpr (std::is_same_v<V, Name>) {
    if constexpr (A::kReads)
      value = Name(a.text());
    else
      a.text(value);
  } else if constexpr (requires { typename V::RareValue; }) {
    if constexpr (A::kReads) {
      typename V::RareValue read{};
      pass(a, read);
      value = V(std::move(read));
    } else {
      pass(a, value.get());
    }
  } else if constexpr (requires(V v) { v.time_since_epoch(); }) {
    if constexpr (A::kReads)
      value = V(typename V::duration(unzigzag(a.whole())));
    else
      a.whole(zigzag(value.time_since_epoch().count()));
  } else if constexpr (is_a<V, std::chrono::duration> || std::is_same_v<V, std::chrono::microseconds>) {
    if constexpr (A::kReads)
      value = V(unzigzag(a.whole()));
    else
      a.whole(zigzag(value.count()));
  } else if constexpr (is_a<V, Id>) {
    pass_number(a, value.value);
  } else if constexpr (is_a<V, std::optional> || is_a<V, std::shared_ptr>) {
    pass_if_there(a, value);
  } else if constexpr (is_a<V, std::vector> || is_a<V, std::map>) {
    pass_list(a, value);
  } else if constexpr (is_array<V>) {
    for (auto& item : value) pass(a, item);
  } else if constexpr (is_a<V, std::variant>) {
    pass_one_of(a, value);
  } else {
    pass_fields(a, value);
  }
}

// How T is made, in words: two programs with the same words read each other's bytes.
template <class T>
void describe(std::string& out) {
  if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
    out += (std::is_enum_v<T> ? 'e' : std::is_floating_point_v<T> ? 'd' : std::is_signed_v<T> ? 'i' : 'u');
  } else if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view> ||
                       std::is_same_v<T, Name>) {
    out += 's';
  } else if constexpr (requires { typename T::RareValue; }) {
    describe<typename T::RareValue>(out);
  } else if constexpr (requires(T v) { v.time_since_epoch(); } || requires(T v) { v.count(); }) {
    out += 'i';
  } else if constexpr (is_a<T, Id>) {
    out += 'i';
  } else if constexpr (is_a<T, std::shared_ptr>) {
    out += '?';
  } else if constexpr (is_a<T, std::optional>) {
    describe<typename T::value_type>(out += '?');
  } else if constexpr (is_a<T, std::vector>) {
    describe<typename T::value_type>(out += '*');
  } else if constexpr (is_array<T>) {
    describe<typename T::value_type>(out += std::to_string(std::tuple_size_v<T>) + 'x');
  } else if constexpr (is_a<T, std::map>) {
    describe<typename T::key_type>(out += '*');
    describe<typename T::mapped_type>(out);
  } else if constexpr (is_a<T, std::variant>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (describe<std::variant_alternative_t<I, T>>(out += '|'), ...);
    }(std::make_index_sequence<std::variant_size_v<T>>{});
  } else if constexpr (is_a<T, std::pair> || is_a<T, std::tuple>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      out += '(';
      (describe<std::tuple_element_t<I, T>>(out), ...);
      out += ')';
    }(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      out += '{';
      (describe<std::remove_const_t<boost::pfr::tuple_element_t<I, T>>>(out), ...);
      out += '}';
    }(std::make_index_sequence<boost::pfr::tuple_size_v<T>>{});
  }
}

}  // namespace tutti::decisions
