// The table of metrics as text, made at build time.
#pragma once

#include <string_view>

namespace tutti {
std::string_view metric_table_text();
}  // namespace tutti
