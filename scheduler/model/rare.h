// Values that few rows have, kept apart: of a million jobs that wait almost none has a reason or an attempt
// that was charged. One pointer where there is none; copied with its row. Std only; as thread-safe as a plain
// value.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

namespace tutti {

// A T that is T() as a rule.
template <class T>
class Rare {
 public:
  using RareValue = T;
  Rare() = default;
  Rare(T value) { *this = std::move(value); }  // NOLINT(google-explicit-constructor): a T is one
  Rare(const Rare& other) : value_(other.value_ ? std::make_unique<T>(*other.value_) : nullptr) {}
  Rare(Rare&&) noexcept = default;
  Rare& operator=(const Rare& other) {
    if (this != &other) value_ = other.value_ ? std::make_unique<T>(*other.value_) : nullptr;
    return *this;
  }
  Rare& operator=(Rare&&) noexcept = default;
  Rare& operator=(T value) {
    value_ = value == T() ? nullptr : std::make_unique<T>(std::move(value));
    return *this;
  }

  const T& get() const {
    static const T none{};
    return value_ ? *value_ : none;
  }
  T& edit() {  // to be written to
    if (!value_) value_ = std::make_unique<T>();
    return *value_;
  }
  operator const T&() const { return get(); }  // NOLINT(google-explicit-constructor)

  friend bool operator==(const Rare& a, const Rare& b) { return a.get() == b.get(); }

 private:
  std::unique_ptr<T> value_;
};

class RareText : public Rare<std::string> {
 public:
  using Rare::Rare;
  RareText(std::string_view text) : Rare(std::string(text)) {}  // NOLINT(google-explicit-constructor)
  RareText(const char* text) : Rare(std::string(text)) {}       // NOLINT(google-explicit-constructor)

  const std::string& str() const { return get(); }
  operator std::string_view() const { return get(); }  // NOLINT(google-explicit-constructor)
  bool empty() const { return get().empty(); }
  void clear() { *this = RareText(); }
  std::size_t find(std::string_view part) const { return get().find(part); }
  bool starts_with(std::string_view part) const { return get().starts_with(part); }

  friend bool operator==(const RareText& a, const RareText& b) { return a.get() == b.get(); }
  friend bool operator==(const RareText& a, std::string_view b) { return a.get() == b; }
  friend bool operator==(const RareText& a, const std::string& b) { return a.get() == b; }
  friend bool operator==(const RareText& a, const char* b) { return a.get() == b; }
  friend std::string operator+(std::string a, const RareText& b) { return std::move(a) + b.get(); }
  friend std::string operator+(const RareText& a, std::string_view b) { return a.get() + std::string(b); }
  friend std::ostream& operator<<(std::ostream& out, const RareText& text) { return out << text.get(); }
};

// So many of each kind, counted.
template <std::size_t N>
class RareCounts : public Rare<std::array<std::int16_t, N>> {
 public:
  using Array = std::array<std::int16_t, N>;
  using Rare<Array>::Rare;
  std::int16_t operator[](std::size_t kind) const { return this->get()[kind]; }
  void set(std::size_t kind, std::int16_t count) {
    if ((*this)[kind] != count) this->edit()[kind] = count;
  }
  // Stays at the most that it can be, and at nothing.
  void add_one(std::size_t kind) {
    if ((*this)[kind] < INT16_MAX) ++this->edit()[kind];
  }
  void take_one(std::size_t kind) {
    if ((*this)[kind] > 0) --this->edit()[kind];
  }
  friend bool operator==(const RareCounts& a, const RareCounts& b) { return a.get() == b.get(); }
  friend bool operator==(const RareCounts& a, const Array& b) { return a.get() == b; }
};

}  // namespace tutti
