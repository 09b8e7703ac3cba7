// The head of a batch script as fields of a spec: all but `run`. Of sbatch_script.cpp. Pure.
#pragma once

#include <boost/json/object.hpp>

#include "cli/sbatch_script.h"

namespace tutti::cli {

/// What has no counterpart is added to the warnings of `words`, what is wrong to its errors.
boost::json::object build_spec(const SbatchInput& input, SbatchWords& words);

}  // namespace tutti::cli
