// The name of a queue, a project or an owner: one pointer, since a million jobs share a few hundred of them.
// Equal names are the same pointer. Texts are kept as long as the process lives, so this is only for what
// there are few of: things that an administrator or an identity provider has named, never what a user makes
// up for a job.
//
// Any thread. Making one of a text that the thread has not used lately takes a lock.
#pragma once

#include <compare>
#include <ostream>
#include <string>
#include <string_view>

namespace tutti {

class Name {
 public:
  Name() : text_(&kept("")) {}
  Name(std::string_view text) : text_(&kept(text)) {}    // NOLINT(google-explicit-constructor): a text is one
  Name(const std::string& text) : text_(&kept(text)) {}  // NOLINT
  Name(const char* text) : text_(&kept(text)) {}         // NOLINT

  const std::string& str() const { return *text_; }
  operator const std::string&() const { return *text_; }  // NOLINT(google-explicit-constructor)
  operator std::string_view() const { return *text_; }    // NOLINT
  bool empty() const { return text_->empty(); }
  std::size_t size() const { return text_->size(); }

  friend bool operator==(const Name& a, const Name& b) { return a.text_ == b.text_; }
  friend bool operator==(const Name& a, std::string_view b) { return *a.text_ == b; }
  friend bool operator==(const Name& a, const std::string& b) { return *a.text_ == b; }
  friend bool operator==(const Name& a, const char* b) { return *a.text_ == b; }
  friend std::strong_ordering operator<=>(const Name& a, const Name& b) { return *a.text_ <=> *b.text_; }
  friend std::string operator+(std::string a, const Name& b) { return std::move(a) + *b.text_; }
  friend std::string operator+(const char* a, const Name& b) { return a + *b.text_; }
  friend std::string operator+(const Name& a, const std::string& b) { return *a.text_ + b; }
  friend std::string operator+(const Name& a, const char* b) { return *a.text_ + b; }
  friend std::string operator+(const Name& a, char b) { return *a.text_ + b; }
  friend std::ostream& operator<<(std::ostream& out, const Name& name) { return out << *name.text_; }

 private:
  static const std::string& kept(std::string_view text);
  const std::string* text_;
};

}  // namespace tutti
