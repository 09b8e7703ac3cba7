#include "cli/listing.h"

#include <boost/json/serialize.hpp>

#include "cli/documents.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

Cell cell_of(const json::object& row, const Listed& column, const Look& look) {
  switch (column.show) {
    case Show::time: return time_cell(text_of(row, column.field), look);
    case Show::seconds: return seconds_cell(number_of(row, column.field));
    case Show::state: return state_cell(text_of(row, column.field));
    case Show::list: {
      const auto* value = row.if_contains(column.field);
      return {value == nullptr ? std::string() : list_text(*value)};
    }
    case Show::text:
    case Show::number:
    case Show::detail: {
      const auto* value = row.if_contains(column.field);
      if (value != nullptr && value->is_structured()) return {json::serialize(*value)};
      return {text_of(row, column.field)};
    }
  }
  return {};
}

}  // namespace

std::string list_text(const json::value& value) {
  std::string out;
  if (const auto* array = value.if_array())
    for (const auto& item : *array) out += (out.empty() ? "" : ", ") + scalar_text(item);
  else if (const auto* object = value.if_object())
    for (const auto& member : *object)
      out += (out.empty() ? "" : ", ") + std::string(member.key()) + "=" + scalar_text(member.value());
  else
    out = scalar_text(value);
  return out;
}

Table list_table(const json::array& rows, std::initializer_list<Listed> columns, const Look& look) {
  Table table;
  for (const auto& column : columns)
    table.columns.push_back(
        {.title = column.title,
         .right = column.show == Show::number || column.show == Show::time || column.show == Show::seconds,
         .shrinks = column.show == Show::text || column.show == Show::list,
         .wide_only = column.show == Show::detail});
  for (const auto& row : rows) {
    auto& cells = table.rows.emplace_back();
    for (const auto& column : columns) cells.push_back(cell_of(as_object(row), column, look));
  }
  return table;
}

}  // namespace tutti::cli
