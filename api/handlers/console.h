// The web console's files under /console/. Its pages have addresses of their own (/console/jobs/42): every
// path without the name of a file is index.html, and the program in it looks at the address.
#pragma once

#include <string>

#include "api/http/router.h"

namespace tutti {

/// `folder`: what `npm run build` made. Throws std::runtime_error when it is none.
void add_console(http::Router& router, const std::string& folder);

}  // namespace tutti
