#include "api/handlers/queue_question.h"

#include <algorithm>

#include "api/handlers/answer.h"

namespace tutti::api {
namespace {

constexpr std::int64_t kUsualPage = 200, kLargestPage = 1000;
constexpr std::size_t kLongestReason = 64;
constexpr std::string_view kCodeLetters = "abcdefghijklmnopqrstuvwxyz0123456789_";

}  // namespace

Result<QueueQuestion> parse_queue_question(const http::Request& request) {
  QueueQuestion q;
  q.queue = request.query_param("queue").value_or("");
  q.project = request.query_param("project").value_or("");
  q.owner = request.query_param("user").value_or("");
  q.reason = request.query_param("reason").value_or("");
  if (q.reason.size() > kLongestReason || q.reason.find_first_not_of(kCodeLetters) != std::string::npos)
    return bad_field("reason", "not the code of a reason", "one of by_reason, like nodes or quota");
  const auto size = int_param(request, "page_size", kUsualPage, 1, 1'000'000);
  if (!size) return size.error();
  q.size = static_cast<std::size_t>(std::min(*size, kLargestPage));
  if (const auto token = request.query_param("page_token"); token && !token->empty()) {
    const auto begin = parse_id(*token);
    if (!begin || *begin > 1'000'000'000)
      return bad_field("page_token", "not a page token of this list", "take next_page_token as it came");
    q.begin = static_cast<std::size_t>(*begin);
  }
  q.visible = visible_to(identity_of(request));
  return q;
}

}  // namespace tutti::api
