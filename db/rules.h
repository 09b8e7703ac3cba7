// The rules every row keeps, whichever store it goes to. sql/migrations says the same in CHECK constraints;
// tests/store feeds bad rows to both. Called by the stores before they apply a batch. Std only.
#pragma once

#include "db/store.h"

namespace tutti::db {

// Throws StoreError corrupt and names the row and the rule. Looks at the batch alone, never at the store.
void require_well_formed(const Batch& batch);

// (from, to) may stand in an event of this kind: an edge of the machine the kind is about, or its beginning
// (from empty); of an attempt or a node also a remark (from = to). Kinds without a machine take any pair.
bool legal_event_pair(std::string_view kind, std::string_view from, std::string_view to);

}  // namespace tutti::db
