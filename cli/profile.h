// The servers a person works with: named contexts in one file, of which one is in use. Used by
// connection.cpp, the verbs context, login and logout, and `tutti up --write-context`. One thread.
//
//   $TUTTI_CONFIG, else $XDG_CONFIG_HOME/tutti/config.yaml, else ~/.config/tutti/config.yaml
//
// Invariants
// 1. The file is readable by its owner only and is replaced whole: a reader sees the old one or the new one.
// 2. Two that change it at one time do so one after the other (FILE.lock).
// 3. It is read as YAML and written as JSON, which is YAML, so that programs without a YAML reader can use
// it.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tutti::cli {

struct Context {
  std::string name = {};
  std::string server = {};
  std::string token = {};       // as `tutti login` got it …
  std::string token_id = {};    // … with its id, so that `tutti logout` can revoke it
  std::string token_file = {};  // or a file that holds one
  std::string ca = {};          // file with the certificates to trust
  std::string user = {};
  std::string project = {};  // of jobs whose spec names none
};

struct Profile {
  std::string current;
  std::vector<Context> contexts;  // in order of their names

  const Context* find(const std::string& name) const;
  Context& at(const std::string& name);  // made if there is none
  bool remove(const std::string& name);  // false: there is none
};

std::string profile_path();  // "" when there is no home either

// No file is an empty profile. Throws Failure{usage} when it cannot be read or understood.
Profile load_profile(const std::string& path);
// Load, change, write. Throws Failure when it cannot be written.
void change_profile(const std::string& path, const std::function<void(Profile&)>& change);

// A name with a slash would be a file. Throws Failure{usage}.
void check_context_name(const std::string& name);

// `text` into a file of mode 0600, by write-then-rename; makes its folder. Throws Failure.
void write_private(const std::string& path, const std::string& text);

}  // namespace tutti::cli
