// All that waits, by why: as it is (queue.cpp) and as it was (history_queue.cpp). Pure.
#pragma once

#include <boost/json/array.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/core/control_plane.h"

namespace tutti::api {

struct WaitingSum {
  std::int64_t jobs = 0, gpus = 0;
};

/// The first reason. Where that is the number of nodes, what keeps most of those that would do.
std::string_view main_code(const std::vector<Reason>& reasons);

/// By code, with words; what concerns most GPUs first.
boost::json::array sums_view(const std::map<std::string, WaitingSum>& sums);

}  // namespace tutti::api
