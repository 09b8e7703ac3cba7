// The scheduler's store, with rows that were damaged set right at boot (db/checked_store.h). Used by
// parts.cpp only.
#pragma once

#include <memory>

#include "db/store.h"

namespace tutti {

std::unique_ptr<Store> with_checked_rows(std::unique_ptr<Store> store);

}  // namespace tutti
