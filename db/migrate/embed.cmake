# cmake -DFILES="a.sql;b.sql" -DOUTPUT=x.cpp -P embed.cmake : the files as raw string literals.
set(body "")
foreach(file IN LISTS FILES)
  get_filename_component(stem ${file} NAME_WE)
  if(NOT stem MATCHES "^([0-9][0-9][0-9][0-9])_(.+)$")
    message(FATAL_ERROR "${file}: a migration is called NNNN_what.sql")
  endif()
  set(title "${CMAKE_MATCH_2}")
  string(REGEX REPLACE "^0+" "" number "${CMAKE_MATCH_1}")
  file(READ ${file} text)
  string(APPEND body "    Migration{${number}, \"${title}\", R\"tutti_sql(${text})tutti_sql\"},\n")
endforeach()
file(WRITE ${OUTPUT} "// Made from sql/migrations by db/migrate/embed.cmake.
#include \"db/migrate/migrate.h\"

namespace tutti::db {
const std::vector<Migration>& sql_migrations() {
  static const std::vector<Migration> all = {
${body}  };
  return all;
}
}  // namespace tutti::db
")
