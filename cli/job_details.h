// How explanations are shown; shared by `explain` and `plan`.
#pragma once

#include <boost/json/object.hpp>
#include <string>

#include "cli/render.h"

namespace tutti::cli {

// `head`: instead of "job 12 is queued".
std::string explain_text(const boost::json::object& body, const Look& look, const std::string& head = {});
Table reasons_table(const boost::json::object& body);

}  // namespace tutti::cli
