// One page of a list of a job's rows: page_size and page_token as GET /v1/jobs has them. The token is the
// number of rows before the page: attempts and checkpoints are only added, and at the end as a rule.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "api/handlers/answer.h"

namespace tutti::api {

struct Page {
  std::size_t begin = 0, size = 100;

  std::size_t end(std::size_t rows) const { return std::min(rows, begin + size); }
  std::string next_token(std::size_t rows) const { return end(rows) < rows ? std::to_string(end(rows)) : ""; }
};

inline Result<Page> page_of(const http::Request& request) {
  constexpr std::int64_t kLargest = 500;
  Page page;
  const auto size = int_param(request, "page_size", static_cast<std::int64_t>(page.size), 1, 1'000'000);
  if (!size) return size.error();
  page.size = static_cast<std::size_t>(std::min(*size, kLargest));
  const auto token = request.query_param("page_token");
  if (!token || token->empty()) return page;
  const auto begin = parse_id(*token);
  if (!begin)
    return bad_field("page_token", "not a page token of this list", "take next_page_token as it came");
  page.begin = static_cast<std::size_t>(*begin);
  return page;
}

}  // namespace tutti::api
