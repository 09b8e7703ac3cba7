// Tables of plain lists: a title and a field for each column. Used by the verbs whose rows need no thought.
// Pure.
#pragma once

#include <boost/json/array.hpp>
#include <initializer_list>

#include "cli/render.h"

namespace tutti::cli {

enum class Show {
  text,
  number,   // right-aligned
  time,     // an age
  seconds,  // a span
  list,     // a list as "a, b", a map as "k=v, …"
  state,    // with its colour
  detail    // text that only -o wide shows
};

struct Listed {
  const char* title;
  const char* field;
  Show show = Show::text;
};

Table list_table(const boost::json::array& rows, std::initializer_list<Listed> columns, const Look& look);
std::string list_text(const boost::json::value& value);  // as Show::list

}  // namespace tutti::cli
