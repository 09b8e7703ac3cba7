// The rules every row keeps, whichever store it goes to. sql/migrations says the same in CHECK constraints;
// tests/store feeds bad rows to both. Called by the stores before they apply a batch. Std only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "db/store.h"

namespace tutti::db {

// Versions beyond it belong to no job: nobody changes one so often. A row that has one, by somebody's hand,
// goes back to 1, the only way in which a version falls.
inline constexpr std::int32_t kLastVersion = 2'000'000'000;

// Throws StoreError corrupt and names the row and the rule. Looks at the batch alone, never at the store.
void require_well_formed(const Batch& batch);

// Sets each number of an unfinished job that require_well_formed() refuses, but its id, to the nearest legal
// one, and says what it was; "" = nothing. A job that is delayed without a time is named as well: it is to be
// held.
std::string mend_job(JobRow& row);

// (from, to) may stand in an event of this kind: an edge of the machine the kind is about, or its beginning
// (from empty); of an attempt or a node also a remark (from = to). Kinds without a machine take any pair.
bool legal_event_pair(std::string_view kind, std::string_view from, std::string_view to);

}  // namespace tutti::db
