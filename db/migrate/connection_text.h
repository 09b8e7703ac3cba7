// What is wrong with a connection string of PostgreSQL, in words that may be logged: libpq quotes the part
// that it cannot read, and that may be a password.
//
// Called by: whatever takes such a string from a person, before anything else is done with it.
#pragma once

#include <string>

namespace tutti::db {

// "" = it can be read.
std::string connection_problem(const std::string& connection_string);

}  // namespace tutti::db
