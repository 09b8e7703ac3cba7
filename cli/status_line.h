// One line on the terminal that says how far something long has come, and is gone when it is done. Nothing at
// all when standard error is no terminal. Used by submit --wait, evidence and node inspect. One thread.
#pragma once

#include <string>

#include "cli/verbs.h"

namespace tutti::cli {

class StatusLine {
 public:
  explicit StatusLine(const Session& session) : session_(session) {}
  ~StatusLine() { clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void show(const std::string& text);  // replaces what was there; cut to the width of the terminal
  void clear();

 private:
  const Session& session_;
  std::string shown_;
};

}  // namespace tutti::cli
