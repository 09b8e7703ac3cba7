// The built-in fault table as text, made at build time.
#pragma once

#include <string_view>

namespace tutti {
std::string_view fault_table_text();
}  // namespace tutti
