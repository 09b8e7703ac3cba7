# cmake -DFILE=fault_table.csv -DNAME=fault_table_text -DOUTPUT=x.cpp -P embed.cmake : the text as a raw string literal, from a
# function of that name.
file(READ ${FILE} text)
get_filename_component(file ${FILE} NAME)
file(WRITE ${OUTPUT} "// Made from scheduler/model/${file} by scheduler/model/embed.cmake.
#include <string_view>

namespace tutti {
std::string_view ${NAME}();
std::string_view ${NAME}() {
  return R\"tutti_csv(${text})tutti_csv\";
}
}  // namespace tutti
")
