// The description of this API (OpenAPI 3.1), embedded at build time from openapi.json beside this file.
#pragma once

#include <string_view>

namespace tutti::api {

std::string_view openapi_document();

}  // namespace tutti::api
