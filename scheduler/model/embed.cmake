# cmake -DFILE=fault_table.csv -DOUTPUT=x.cpp -P embed.cmake : the text as a raw string literal.
file(READ ${FILE} text)
file(WRITE ${OUTPUT} "// Made from scheduler/model/fault_table.csv by scheduler/model/embed.cmake.
#include \"scheduler/model/fault_table_text.h\"

namespace tutti {
std::string_view fault_table_text() {
  return R\"tutti_csv(${text})tutti_csv\";
}
}  // namespace tutti
")
