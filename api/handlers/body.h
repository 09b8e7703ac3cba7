// A JSON body into a struct by a table of fields, all problems named. For the small bodies of administration;
// the job spec has its own reader.
#pragma once

#include <array>
#include <boost/json/value.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "api/handlers/answer.h"
#include "api/wire/spec_reader.h"
#include "api/wire/strict_json.h"

namespace tutti::api {

/// Nothing if the body is not that: then it has been answered, with every field that is wrong.
template <class T, std::size_t N>
std::optional<T> read_body(const ApiPtr& api, const http::Request& request, const Answer& answer,
                           const std::array<wire::Field<T>, N>& fields, T into = {}) {
  boost::json::value body;
  if (auto error = wire::parse_strict_json(request.body, body)) {
    answer.send(malformed("JSON", std::move(error->message), error->line, error->column));
    return std::nullopt;
  }
  std::vector<wire::SpecProblem> problems;
  wire::SpecReader reader{problems, api->backend.now()};
  wire::read_fields(reader, {}, body, into, fields);
  if (problems.empty()) return into;
  const auto& first = problems.front();
  auto problem = problem_of(bad_field(first.field.empty() ? "body" : first.field, first.message, first.hint));
  for (std::size_t i = 1; i < problems.size(); ++i)
    problem.errors.push_back({problems[i].field, problems[i].message});
  answer.send(http::problem(problem));
  return std::nullopt;
}

/// A field of text of 1 to Max bytes.
template <auto Member, std::size_t Max, class T>
void read_text(wire::SpecReader& r, const wire::Path& at, const boost::json::value& v, T& into) {
  if (const auto s = r.string(at, v, Max)) into.*Member = std::string(*s);
}

template <auto Member, class T>
void read_flag(wire::SpecReader& r, const wire::Path& at, const boost::json::value& v, T& into) {
  if (const auto b = r.boolean(at, v)) into.*Member = *b;
}

}  // namespace tutti::api
