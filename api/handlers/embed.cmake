# cmake -DINPUT=openapi.json -DOUTPUT=x.cpp -P embed.cmake : the document as bytes.
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUTPUT} "// Made from api/handlers/openapi.json by embed.cmake.
#include \"api/handlers/openapi.h\"

namespace tutti::api {
namespace {
constexpr unsigned char kDocument[] = {${bytes}};
}
std::string_view openapi_document() { return {reinterpret_cast<const char*>(kDocument), sizeof kDocument}; }
}  // namespace tutti::api
")
