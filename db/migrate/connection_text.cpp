#include "db/migrate/connection_text.h"

#include <libpq-fe.h>

#include <memory>

namespace tutti::db {

std::string connection_problem(const std::string& connection_string) {
  char* complaint = nullptr;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(connection_string.c_str(), &complaint), PQconninfoFree);
  const std::unique_ptr<char, void (*)(void*)> owned(complaint, PQfreemem);
  if (options) return "";
  const auto has = [&](const char* what) { return connection_string.find(what) != std::string::npos; };
  if (has("://") || has("password") || has("@"))
    return "the connection string cannot be read: postgresql://USER:PASSWORD@HOST:PORT/NAME is expected, "
           "with "
           "special characters as %XX; or host=HOST dbname=NAME user=USER password='WORD', with quotes where "
           "there are spaces";
  std::string text = complaint == nullptr ? "out of memory" : complaint;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace tutti::db
