// "Term 7 is led by us", said to leaders of before that may still renew leases because they live without
// their database: they end at once, instead of after R (docs/design/0016-replicas.md). Best effort; nothing
// depends on it.
//
// Called by: parts.cpp, serving_http.cpp. tell() blocks, so on a side thread; the route runs on the control
// thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "api/access/forward_mark.h"
#include "api/http/router.h"

namespace tutti {

inline constexpr std::string_view kTermRoute = "/internal/term";

class TermNotice {
 public:
  struct Settings {
    std::string ca_file = {};  // who vouches for an https leader; "" = whom this machine trusts
    std::chrono::milliseconds patience{3000};  // with each of them
  };
  TermNotice(TermMark mark, Settings settings);

  /// To each of `urls`, one after the other. Returns how many have answered that they end.
  int tell(const std::vector<std::string>& urls, const TermMark::Says& says) const;
  /// Nobody further is told: we stop, and do not lead any more. From any thread.
  void let_go() { let_go_ = true; }

 private:
  bool tell_one(const std::string& url, const std::string& mark) const;

  TermMark mark_;
  Settings settings_;
  std::atomic<bool> let_go_ = false;
};

/// Where we are told. `told` returns whether it ended our lead; a word that none of us has said is 403.
void add_term_route(http::Router& router, TermMark mark, std::function<bool(const TermMark::Says&)> told);

}  // namespace tutti
