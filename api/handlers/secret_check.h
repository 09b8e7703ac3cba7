// Whether the secrets that specs name exist, before anything is submitted. Control thread.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "api/handlers/submit_requests.h"

namespace tutti::api {

/// `then` gets the items back, and for each why it is refused, if it is. Asks the database only where an item
/// names a secret; answers by itself when it cannot be asked.
void check_secrets(const ApiPtr& api, const Answer& answer, std::vector<SubmitItem> items,
                   std::function<void(std::vector<SubmitItem>, std::vector<std::optional<Error>>)> then);

}  // namespace tutti::api
